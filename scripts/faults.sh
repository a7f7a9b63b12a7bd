#!/bin/bash
# Every call of the program that changes or reads anything, killed before and after it and failing, for
# each target (tests/python/test_faults.py takes a sample of them). About an hour; for the night.
#
#   scripts/faults.sh [PYTEST ARGUMENTS]      e.g. -k 'killed and megatron'
set -euo pipefail
cd "$(dirname "$0")/.."
RESHARD_SLOW=1 exec .venv/bin/python -m pytest tests/python/test_faults.py -q "$@"
