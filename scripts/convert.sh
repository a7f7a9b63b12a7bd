#!/usr/bin/env bash
# Sets up what is missing, builds reshard and converts a checkpoint.
#
#   scripts/convert.sh                        the sample: examples/tiny-llama-dcp -> out/tiny-llama-hf
#   scripts/convert.sh SRC DST --to hf ...    your own; everything goes to `reshard convert`
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"

install_packages "${build_packages[@]}"
build_preset release
reshard="$reshard_root/build/release/bin/reshard"

if [ "$#" -gt 0 ]; then
  exec "$reshard" convert "$@"
fi

cd "$reshard_root"
source_dir=examples/tiny-llama-dcp
output_dir=out/tiny-llama-hf
options=()
# Only a directory that an earlier run made is replaced.
if [ -e "$output_dir/reshard-manifest.json" ]; then
  options+=(--force)
fi
mkdir -p out
"$reshard" convert "$source_dir" "$output_dir" --to hf "${options[@]}"
"$reshard" inspect "$output_dir"
