# shellcheck shell=bash
# shellcheck disable=SC2034  # used by the scripts that source this
# Shared by the scripts: messages, package set-up, configure and build. Sourced, never run.

# Packages that the same command names on Debian 12 and Ubuntu 24.04 (CONTRIBUTING.md has the table), but for Boost.
boost_package=libboost1.81-dev
! grep -qx 'ID=ubuntu' /etc/os-release 2>/dev/null || boost_package=libboost1.83-dev
readonly BUILD_PACKAGES="$boost_package g++ cmake ninja-build nlohmann-json3-dev libfmt-dev libcli11-dev libpcre2-dev libutf8proc-dev"
readonly TEST_PACKAGES="libgtest-dev libgmock-dev python3-pip"
readonly CHECK_PACKAGES="clang-19 libclang-rt-19-dev clang-tidy-19 clang-format-19 python3-numpy python3-pytest"

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# What the tests add to the build: structured output, from sources that fetch_sources puts there.
readonly TEST_OPTIONS="-DSABREWING_BUILD_TESTS=ON -DSABREWING_WITH_XGRAMMAR=ON -DSABREWING_SOURCES=$root/build/sources"
setup_log=""
trap '[ -z "$setup_log" ] || rm -f "$setup_log"' EXIT

say() { printf '%s\n' "$*" >&2; }
die() {
  local code=$1
  shift
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit "$code"
}

# Wall-clock seconds since the shell started the script, as "3m07s".
elapsed() { printf '%dm%02ds' $((SECONDS / 60)) $((SECONDS % 60)); }

# missing_packages PACKAGE...: those that dpkg does not list as installed.
missing_packages() {
  local package
  for package in "$@"; do
    dpkg-query -W -f '${db:Status-Abbrev}\n' "$package" 2>/dev/null | grep -q '^.i' || printf '%s ' "$package"
  done
}

# as_root COMMAND...: directly as root, else by sudo.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"; else sudo -- "$@"; fi
}

# apt_get ARGUMENT...: never asks, waits up to five minutes for another apt to finish.
apt_get() {
  local deadline=$((SECONDS + 300))
  while :; do
    if as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a LC_ALL=C \
      apt-get -q -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >"$setup_log" 2>&1 </dev/null; then
      return 0
    fi
    # The list lock has no time-out of its own.
    if ! grep -q 'Could not get lock' "$setup_log" || [ $SECONDS -ge $deadline ]; then
      return 1
    fi
    say "another package manager is running; waiting for it"
    sleep 5
  done
}

# install_packages PACKAGE...: installs what is missing. Without root and without a usable sudo it prints
# the one line to run and exits 2.
install_packages() {
  { command -v dpkg-query && command -v apt-get; } >/dev/null ||
    die 2 "packages are installed with apt, which this system lacks; install by hand the equivalents of: $*"
  local missing
  missing=$(missing_packages "$@")
  missing=${missing% }
  [ -n "$missing" ] || return 0

  local line="apt-get update && apt-get install -y --no-install-recommends $missing"
  if [ "$(id -u)" != 0 ]; then
    local -a ask=(-n)
    [ ! -t 0 ] || ask=()
    if ! command -v sudo >/dev/null || ! sudo "${ask[@]}" true 2>/dev/null; then
      say "These packages are missing, and installing them needs root: $missing"
      say "Run this line, then start again:"
      if command -v sudo >/dev/null; then
        printf "sudo sh -c '%s'\n" "$line"
      else
        printf "su -c '%s'\n" "$line"
      fi
      exit 2
    fi
  fi

  say "installing: $missing"
  setup_log=$(mktemp)
  local unreachable='Failed to fetch|Could not resolve|Temporary failure|Could not connect|Unable to fetch|Connection failed'
  local offline=0
  apt_get update || say "apt-get update failed; going on with the package lists at hand"
  ! grep -Eq "$unreachable" "$setup_log" || offline=1
  # shellcheck disable=SC2086  # a list of package names
  if ! apt_get install -y --no-install-recommends $missing; then
    tail -n 15 "$setup_log" >&2
    if [ $offline = 1 ] || grep -Eq "$unreachable" "$setup_log"; then
      say "The package mirror cannot be reached. Once there is a network, this line does the same: $line"
    elif grep -Eq 'Unable to locate package|has no installation candidate' "$setup_log"; then
      say "A package is unknown to this system. Needed are Debian 12 or Ubuntu 24.04, or newer; on Ubuntu the"
      say "'universe' component must be on (add-apt-repository universe)."
    fi
    die 1 "could not install: $missing"
  fi
  rm -f "$setup_log"
  setup_log=""
}

# fetch_sources: the sources that come from PyPI, checked, into build/sources. Nothing is fetched that is there.
fetch_sources() {
  local output
  output=$(cd "$root" && cmake "-DSABREWING_SOURCES=$root/build/sources" -P cmake/xgrammar.cmake 2>&1) || {
    printf '%s\n' "$output" >&2
    die 1 "could not fetch the sources that come from PyPI"
  }
}

# require_toolchain: the compiler and CMake are new enough, or one line that says what is too old.
require_toolchain() {
  local have
  have=$(cmake --version 2>/dev/null | sed -n '1s/.* \([0-9.]*\).*/\1/p') || true
  [ -n "$have" ] || die 2 "cmake is missing; the packages needed are: $BUILD_PACKAGES"
  printf '3.25\n%s\n' "$have" | sort -V -C || die 2 "CMake 3.25 or newer is needed, found $have"
  if [ -z "${CXX:-}" ]; then
    have=$(g++ -dumpversion 2>/dev/null) || true
    [ -n "$have" ] || die 2 "g++ is missing; the packages needed are: $BUILD_PACKAGES"
    [ "${have%%.*}" -ge 12 ] || die 2 "GCC 12 or newer is needed, found $have"
  fi
}

# build_jobs: the processors, but no more than one per 1.5 GiB of memory.
build_jobs() {
  local processors memory
  processors=$(nproc)
  memory=$(awk '/^MemAvailable:/ {print int($2 / 1572864)}' /proc/meminfo 2>/dev/null)
  [ "${memory:-0}" -ge 1 ] || memory=1
  echo $((processors < memory ? processors : memory))
}

# configure PRESET [CMAKE ARGUMENT...]: quiet unless it fails. A folder configured for another source tree is renewed.
configure() {
  local preset=$1 cache="$root/build/$1/CMakeCache.txt"
  shift
  local -a fresh=()
  if [ -f "$cache" ] && ! grep -qxF "CMAKE_HOME_DIRECTORY:INTERNAL=$root" "$cache"; then
    fresh=(--fresh)
  fi
  if [ ! -f "$cache" ] && command -v ccache >/dev/null; then
    set -- -DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"
  fi
  # Half the time of a whole build. The other presets compile each file alone, which shows that it can.
  if [ ! -f "$cache" ] && [ "$preset" = release ]; then
    set -- -DSABREWING_UNITY=ON "$@"
  fi
  local output
  output=$(cd "$root" && cmake --preset "$preset" "${fresh[@]}" "$@" 2>&1) || {
    printf '%s\n' "$output" >&2
    die 1 "configuring build/$preset failed"
  }
}
