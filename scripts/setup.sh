#!/usr/bin/env bash
# Gets this folder ready for one kind of work, and does nothing when it is: scripts/setup.sh run | test | dev | docs | bench
#   run   .venv with fastserve (editable) and its server: make demo
#   test  and everything the tests import, a redis-server and a PostgreSQL: make test
#   dev   and the tools: make types, lint, wheels
#   docs  what run has, and what makes the documentation site: make docs
#   bench what test has, wrk and valgrind: make bench (whose program makes Feast's environment: interop/setup.sh)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

level=${1:-run}
case $level in
    run) extras=server,remote,materialize levels=(run) ;;
    test) extras=test levels=(run test) ;;
    dev) extras=dev levels=(run test dev) ;;
    docs) extras=docs levels=(run docs) ;;
    bench) extras=test levels=(run test bench) ;;
    *) die "usage: scripts/setup.sh run | test | dev | docs | bench" ;;
esac
core=(setup.py fastserve/_core.pyx fastserve/_core_*.pxi)
stamp() { touch "${@/#/$VENV/.ready-}"; }

packages=()
if [ "$level" = bench ]; then
    command -v wrk >/dev/null || packages+=(wrk)
    command -v valgrind >/dev/null || packages+=(valgrind)
fi
if [ "$level" = test ] || [ "$level" = dev ] || [ "$level" = bench ]; then
    command -v redis-server >/dev/null || packages+=(redis-server)
    # Debian keeps the server itself off the path.
    command -v postgres >/dev/null || compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || packages+=(postgresql)
fi

ensure_home
make_venv "$VENV" "${packages[@]}"
ensure_compiler "$VENV/bin/python"

if stale "$VENV/.ready-run" pyproject.toml scripts/setup.sh; then
    say "installing what fastserve[$extras] needs and compiling fastserve._core (a minute or two)"
    # Build requirements go into the environment too, so that a change of the core recompiles without a network.
    sed -n 's/^requires = \[\(.*\)\]$/\1/p' pyproject.toml | tr ',' '\n' | tr -d '" ' >"$VENV/build-requires.txt"
    quietly "$VENV/bin/pip" install -r "$VENV/build-requires.txt"
    quietly "$VENV/bin/pip" install --no-build-isolation -e ".[$extras]"
    stamp "${levels[@]}" core
fi
if stale "$VENV/.ready-core" "${core[@]}" || ! compgen -G 'fastserve/_core.*.so' >/dev/null; then
    say "compiling fastserve._core"
    quietly "$VENV/bin/python" setup.py build_ext --inplace
    stamp core
fi
if stale "$VENV/.ready-$level" pyproject.toml scripts/setup.sh; then
    say "installing what fastserve[$extras] needs"
    # By name: fastserve itself is there, so this adds what is missing and compiles nothing.
    quietly "$VENV/bin/pip" install "fastserve[$extras]"
    stamp "${levels[@]}"
fi
