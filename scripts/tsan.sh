#!/usr/bin/env bash
# Runs the tests of what has threads under ThreadSanitizer; a report fails the test that it is of.
#
#   scripts/tsan.sh [TEST...]     engine_test and api_test, or other test programs
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

tests=("$@")
[ "${#tests[@]}" -gt 0 ] || tests=(engine_test api_test)

install_packages "${build_packages[@]}" "${cpp_test_packages[@]}"
build_preset tsan "${tests[@]}"
for test in "${tests[@]}"; do
  TSAN_OPTIONS="halt_on_error=1 ${TSAN_OPTIONS:-}" "$reshard_root/build/tsan/bin/$test"
done
