#!/usr/bin/env bash
# Compares every output of the tests' conversions with that of another build of the program.
#
#   scripts/same_bytes.sh OTHER [PYTEST...]     OTHER: the program of another commit, e.g. the last one
#
# Prints how many outputs were compared and each one that differs; exit 1 where one does.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

other="$(realpath "${1:?usage: scripts/same_bytes.sh OTHER [pytest arguments]}")"
shift
log="$reshard_root/build/same_bytes.jsonl"
rm -f "$log"
RESHARD_OTHER="$other" RESHARD_OTHER_LOG="$log" \
  "$reshard_root/scripts/test.sh" python -q "$@" || say "some tests failed: see above"
"$reshard_root/.venv/bin/python" - "$log" <<'PYTHON'
import json
import sys

lines = [json.loads(line) for line in open(sys.argv[1])]
unlike = [line for line in lines if line["differ"]]
for line in unlike:
    print(f"{line['test']}\n  reshard {' '.join(line['command'])}\n  {', '.join(line['differ'][:8])}")
print(f"{len(lines)} outputs compared, {len(unlike)} differ")
sys.exit(1 if unlike or not lines else 0)
PYTHON
