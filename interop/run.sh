#!/usr/bin/env bash
# Asks Feast and fastserve the same random questions and compares: interop/run.sh [pytest's arguments]
#   INTEROP_SEED       of the questions; the run prints the one it takes
#   INTEROP_REQUESTS   how many; 1000
#   FEAST_PYTHON       a Python that has feast[redis]==0.67.0, instead of a new environment in .venv-feast
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh test
[ -n "${FEAST_PYTHON:-}" ] || interop/setup.sh
# Feast may take longer than a single test of ours ever should.
exec .venv/bin/python -m pytest interop -rP -o timeout=900 -n auto --dist loadfile "$@"
