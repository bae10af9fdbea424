#!/usr/bin/env bash
# Runs the core's fuzzer on a core that was compiled with address sanitiser: scripts/fuzz.sh [arguments of the fuzzer]
# The ordinary build is left alone: everything is in build/fuzz.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

scripts/setup.sh test
ensure_home
ensure_compiler "$VENV/bin/python"
target=build/fuzz
if stale "$target/.ready" setup.py fastserve/_core.pyx fastserve/_core_*.pxi; then
    say "compiling fastserve._core with address sanitiser"
    FASTSERVE_SANITIZE=address quietly "$VENV/bin/python" setup.py build --build-lib "$target"
    touch "$target/.ready"
fi
cp fastserve/*.py "$target/fastserve/"
rm -rf "$target/tests"
cp -r tests "$target/tests"    # the fuzzer imports the package beside it

# An instrumented module in a plain interpreter: the sanitiser must be loaded first, and see every allocation. Python
# keeps memory until it ends, which is no leak of ours.
[ $# -gt 0 ] || set -- --seconds 60
runtime=$("${CC:-cc}" -print-file-name=libasan.so)
LD_PRELOAD="$runtime" ASAN_OPTIONS=detect_leaks=0 PYTHONMALLOC=malloc \
    "$VENV/bin/python" "$target/tests/fuzz/fuzz_core.py" "$@"
