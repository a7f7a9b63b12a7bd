#!/usr/bin/env bash
# Sets up what is missing and runs the tests.
#
#   scripts/test.sh [all]                 everything
#   scripts/test.sh cpp                   C++ unit and property tests and fuzz corpora, under ASan+UBSan
#   scripts/test.sh python [PYTEST...]    the program and the Python package, as pip installs it, against
#                                         PyTorch, safetensors and transformers,
#                                         e.g. scripts/test.sh python -k determinism -x
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

what="${1:-all}"
[ "$#" -eq 0 ] || shift

test_cpp() {
  install_packages "${build_packages[@]}" "${cpp_test_packages[@]}"
  build_preset dev
  (cd "$reshard_root" && ctest --preset dev --parallel "$(nproc)")
}

test_python() {
  install_packages "${build_packages[@]}" "${python_packages[@]}"
  make_venv
  install_package
  export RESHARD="$reshard_root/build/release/bin/reshard"
  (cd "$reshard_root" && .venv/bin/python -m pytest tests/python "$@")
}

case "$what" in
  cpp) test_cpp ;;
  python) test_python "$@" ;;
  all)
    test_cpp
    test_python "$@"
    ;;
  *)
    say "usage: scripts/test.sh [cpp|python|all] [pytest arguments]"
    exit 2
    ;;
esac
