# Sourced by the other scripts: what a fresh Debian 12 machine needs to build and test reshard.
# Every function is cheap when there is nothing to do. Data stays off stdout; messages go to stderr.

reshard_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

# Debian's cmake and ninja before others of the same name: the presets are tested with these.
export PATH="/usr/bin:$PATH"

build_packages=(
  g++ cmake ninja-build pkg-config
  libsimdjson-dev libcli11-dev libfmt-dev libtomlplusplus-dev libyaml-dev libpcre2-dev libxxhash-dev libzstd-dev zlib1g-dev
)
cpp_test_packages=(libgtest-dev libgmock-dev librapidcheck-dev)
python_packages=(python3-dev python3-venv)

say() { printf '%s\n' "$*" >&2; }

# quietly LOG COMMAND...: runs COMMAND with its output in LOG, which is shown only if it fails.
quietly() {
  local log="$1"
  shift
  mkdir -p "$(dirname "$log")"
  if ! "$@" >"$log" 2>&1; then
    cat "$log" >&2
    say "failed: $*"
    return 1
  fi
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

# install_packages NAME...: installs those that are missing; asks for root only if some are.
install_packages() {
  local package missing=()
  if ! command -v dpkg-query >/dev/null; then
    say "not a Debian system: make sure that these are installed: $*"
    return 0
  fi
  for package in "$@"; do
    if [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" != installed ]; then
      missing+=("$package")
    fi
  done
  [ "${#missing[@]}" -gt 0 ] || return 0

  say "installing Debian packages: ${missing[*]}"
  local install=(env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}")
  # The package lists of a fresh machine may be absent or old; only then are they fetched.
  if ! as_root "${install[@]}" >/dev/null 2>&1; then
    quietly "$reshard_root/build/apt-update.log" as_root apt-get update
    quietly "$reshard_root/build/apt-install.log" as_root "${install[@]}"
  fi
}

# build_preset PRESET [TARGET...]: configures build/PRESET and builds all of it, or these programs.
build_preset() {
  local preset="$1" logs="$reshard_root/build/logs"
  local targets=("${@:2}")
  if [ ! -e "$reshard_root/build/$preset/build.ninja" ]; then
    say "building ($preset); the first time takes some minutes"
  fi
  (
    cd "$reshard_root"
    quietly "$logs/$preset-configure.log" cmake --preset "$preset"
    quietly "$logs/$preset-build.log" cmake --build --preset "$preset" ${targets[@]:+--target "${targets[@]}"}
  )
}

# make_venv: .venv with the exact versions of tests/requirements.txt, made again when that file changes.
make_venv() {
  local venv="$reshard_root/.venv" requirements="$reshard_root/tests/requirements.txt" wanted
  wanted="$(sha256sum "$requirements" | cut -d' ' -f1)"
  [ "$(cat "$venv/.requirements.sha256" 2>/dev/null)" != "$wanted" ] || return 0

  say "making .venv with PyTorch and the other libraries that the tests compare with"
  rm -rf "$venv"
  quietly "$reshard_root/build/logs/venv.log" python3 -m venv "$venv"
  quietly "$reshard_root/build/logs/pip.log" "$venv/bin/pip" install --no-input -r "$requirements"
  printf '%s\n' "$wanted" >"$venv/.requirements.sha256"
}

# install_package: the Python package, built in build/release and installed in .venv. The program is
# built with it: build/release/bin/reshard.
install_package() {
  local logs="$reshard_root/build/logs"
  say "building the program and the Python package"
  (
    cd "$reshard_root"
    quietly "$logs/package.log" .venv/bin/pip install --no-input --no-deps --no-build-isolation \
      --force-reinstall --config-settings=build-dir=build/release .
  )
}
