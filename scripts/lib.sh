# shellcheck shell=bash
# What the scripts share; sourced from the project's top folder, after `set -euo pipefail`.

# shellcheck disable=SC2034  # used by those who source this
VENV=.venv
LOG=build/setup.log

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# Runs a command and shows what it printed only if it fails.
quietly() {
    mkdir -p "$(dirname "$LOG")"
    "$@" >"$LOG" 2>&1 </dev/null || { cat "$LOG" >&2; die "failed: $*"; }
}

# Is the stamp $1 missing, or older than one of the files that follow?
stale() {
    local stamp=$1 file
    shift
    [ -e "$stamp" ] || return 0
    for file; do [ "$stamp" -nt "$file" ] || return 0; done
    return 1
}

# pip and others want a home they can write to; an empty or read-only one must not stop a build.
ensure_home() {
    if [ -z "${HOME:-}" ] || [ ! -d "$HOME" ] || [ ! -w "$HOME" ]; then
        export HOME="$PWD/build/home"
        mkdir -p "$HOME"
    fi
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore
}

# Prints the Python to build with: $PYTHON, or the first CPython >= 3.10 on the path.
find_python() {
    local name
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11 python3.10}; do
        if "$name" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    die "CPython 3.10 or newer is needed; none of ${PYTHON:-python3, python3.10 to python3.14} is one"
}

# Prints the Debian packages that Python $1 lacks for making an environment and compiling an extension.
missing_for() {
    "$1" - <<'PY'
import importlib.util, os, sys, sysconfig
name = f"python{sys.version_info[0]}.{sys.version_info[1]}"
if not all(map(importlib.util.find_spec, ("venv", "ensurepip"))):
    print(name + "-venv")
if not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")):
    print(name + "-dev")
PY
    command -v cc gcc clang >/dev/null || printf 'gcc\nlibc6-dev\n'
}

# Installs Debian packages: as root, else through sudo, else says what a person has to do.
install_system() {
    local -a as_root=(env DEBIAN_FRONTEND=noninteractive)
    if [ "$(id -u)" != 0 ]; then
        # With a terminal sudo may ask for the password; without one it must not.
        if ! command -v sudo >/dev/null || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; then
            die "missing on this machine; as root run: apt-get install $*"
        fi
        as_root=(sudo "${as_root[@]}")
        sudo -v
    fi
    command -v apt-get >/dev/null || die "missing on this machine, and there is no apt-get: $*"
    say "installing $* with apt-get"
    quietly "${as_root[@]}" apt-get update -qq
    quietly "${as_root[@]}" sh -c "$INSTALL" sh "$@"
}

# The tests make a PostgreSQL of their own each time: the package must not make, and start, one for the machine.
# shellcheck disable=SC2016  # it is a script for another shell
INSTALL='
    case " $* " in *" postgresql "*)
        folder=/etc/postgresql-common/createcluster.d
        trap "rm -f $folder/fastserve.conf" EXIT
        mkdir -p $folder && echo "create_main_cluster = false" >$folder/fastserve.conf
    esac
    apt-get install -y -qq --no-install-recommends "$@"
'

# Makes the environment $1 if it is not there, or its Python has gone. The Debian packages that follow are missing anyway
# and are installed in the same go.
make_venv() {
    local venv=$1 python=
    local -a missing=("${@:2}")
    if ! { [ -x "$venv/bin/pip" ] && "$venv/bin/python" -c '' 2>/dev/null; }; then
        python=$(find_python)
        mapfile -t -O "${#missing[@]}" missing < <(missing_for "$python")
    fi
    [ ${#missing[@]} = 0 ] || install_system "${missing[@]}"
    [ -n "$python" ] || return 0
    say "making $venv with $("$python" --version), $python"
    quietly "$python" -m venv --clear "$venv"
}

# A Python may have been built with a compiler that is not on this machine.
ensure_compiler() {
    local built_with
    built_with=$("$1" -c 'import sysconfig; print((sysconfig.get_config_var("CC") or "cc").split()[0])')
    command -v "${CC:-$built_with}" >/dev/null || export CC=cc
}
