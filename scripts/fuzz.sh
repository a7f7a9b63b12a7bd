#!/usr/bin/env bash
# Searches for inputs that crash, hang or break a promise of what decodes bytes from outside.
#
#   scripts/fuzz.sh [SECONDS] [TARGET...]     60 seconds for each target of fuzz/CMakeLists.txt, one
#                                             after the other; ends with 1 if any has found something
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

seconds="${1:-60}"
targets=("${@:2}")
if [ "${#targets[@]}" -eq 0 ]; then
  mapfile -t targets < <(sed -n 's/^reshard_fuzz_target(\([a-z0-9_]*\).*/\1/p' \
    "$reshard_root/fuzz/CMakeLists.txt")
fi

install_packages "${build_packages[@]}" clang-19
build_preset fuzz "${targets[@]}"

cd "$reshard_root"
mkdir -p build/fuzz/found
failed=0
printf '%-20s %10s %12s  %s\n' target edges inputs found
for target in "${targets[@]}"; do
  log="build/fuzz/$target.log"
  mkdir -p "build/fuzz/corpus/$target"
  found=nothing
  # New inputs go to the first directory; those of the repository are read only.
  if ! "build/fuzz/bin/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 \
    -print_final_stats=1 -artifact_prefix="build/fuzz/found/$target-" \
    "build/fuzz/corpus/$target" "fuzz/corpus/$target" >"$log" 2>&1; then
    found="$(sed -n 's/^.*Test unit written to //p' "$log" | tail -1)"
    found="${found:-a failure without an input}: see $log"
    failed=1
  fi
  edges="$(sed -n 's/^.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -1)"
  inputs="$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")"
  printf '%-20s %10s %12s  %s\n' "$target" "${edges:-0}" "${inputs:-0}" "$found"
done
exit "$failed"
