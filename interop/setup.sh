#!/usr/bin/env bash
# Makes the second environment, .venv-feast: Feast 0.67, and beside it fastserve, installed from a wheel as by a user. Does
# nothing when it is there and what it is made of has not changed. Needs .venv (scripts/setup.sh), which builds the wheel.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

FEAST_VENV=.venv-feast
# The latter for SQL registries and the templates `postgres` and `ray`.
FEAST=('feast[redis]==0.67.0' 'sqlalchemy>=2' 'psycopg[binary,pool]>=3.1' "ray>=2.47; python_version < '3.14'")
WHEELS=build/interop

make_wheel() {
    LOG=build/setup-wheel.log    # two setups run at the same time
    rm -rf "$WHEELS"
    quietly "$VENV/bin/pip" wheel --no-build-isolation --no-deps --wheel-dir "$WHEELS" .
}

install_feast() {
    stale "$FEAST_VENV/.ready-feast" interop/setup.sh || return 0
    say "installing ${FEAST[0]} into $FEAST_VENV (a minute)"
    LOG=build/setup-feast.log quietly "$FEAST_VENV/bin/pip" install "${FEAST[@]}"
    touch "$FEAST_VENV/.ready-feast"
}

ensure_home
PYTHON=$VENV/bin/python make_venv "$FEAST_VENV"    # the wheel is for that version
ensure_compiler "$VENV/bin/python"

mapfile -t sources < <(find fastserve setup.py pyproject.toml -name '*.py' -o -name '*.px[di]' -o -name '*.pyx' -o -name '*.toml')
if stale "$FEAST_VENV/.ready-fastserve" "${sources[@]}" interop/setup.sh; then
    say "building a wheel of fastserve for $FEAST_VENV"
    make_wheel &
    install_feast
    wait $!
    # Both by name: pip refuses if the two cannot live in one environment.
    quietly "$FEAST_VENV/bin/pip" install --force-reinstall --no-deps "$WHEELS"/fastserve-*.whl
    quietly "$FEAST_VENV/bin/pip" install "${FEAST[@]}" "$WHEELS"/fastserve-*.whl
    quietly "$FEAST_VENV/bin/pip" check
    touch "$FEAST_VENV/.ready-fastserve"
fi
