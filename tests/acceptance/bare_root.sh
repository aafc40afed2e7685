#!/usr/bin/env bash
# scripts/quickstart and scripts/test in an empty Debian or Ubuntu root with nothing but bash: debootstrap, the
# host's package configuration, a fresh clone, chroot. Mounts live in a private namespace and vanish with it.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/acceptance/bare_root.sh [--folder FOLDER] [--suite NAME] [--keep] [--only-quickstart]

  --folder FOLDER    where to make the root (default: a new temporary folder)
  --suite NAME       release to install (default: the host's)
  --keep             do not remove the root afterwards
  --only-quickstart  leave scripts/test out

Needs root, debootstrap and git. Prints one line per check with its time and leaves the logs in FOLDER/log; exit status 1 when one fails.
TEXT
}

folder=""
# shellcheck disable=SC1091
suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
keep=0
tests=1
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --folder | --suite)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      declare "${1#--}=$2"
      shift 2 ;;
    --keep) keep=1; shift ;;
    --only-quickstart) tests=0; shift ;;
    *) usage >&2; exit 2 ;;
  esac
done
[ "$(id -u)" = 0 ] || { echo "bare_root.sh: needs root" >&2; exit 2; }
command -v debootstrap >/dev/null || { echo "bare_root.sh: debootstrap is missing" >&2; exit 2; }

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
[ -n "$folder" ] || folder=$(mktemp -d)
mkdir -p "$folder"
root=$folder/root
log=$folder/log
mkdir -p "$log"
[ ! -e "$root" ] || { echo "bare_root.sh: $root exists already" >&2; exit 2; }
cleanup() { [ $keep = 1 ] || rm -rf --one-file-system "$root"; }
trap cleanup EXIT

# shellcheck disable=SC2016  # apt expands them
mirror=$(apt-get indextargets --format '$(CODENAME) $(COMPONENT) $(REPO_URI)' 2>/dev/null |
  awk -v suite="$suite" '$1 == suite && $2 == "main" && $3 ~ /\/(debian|ubuntu)\/?$/ {print $3; exit}')
[ -n "$mirror" ] || { echo "bare_root.sh: the host's apt knows no mirror of $suite" >&2; exit 2; }

echo "root: $suite from the host's mirror"
start=$SECONDS
debootstrap --variant=minbase "$suite" "$root" "$mirror" >"$log/debootstrap" 2>&1 ||
  { tail -n 20 "$log/debootstrap" >&2; exit 1; }
echo "root made in $((SECONDS - start)) s"

# The host's way to its packages: sources, options, keys, certificates, name resolution.
rm -rf "$root/etc/apt"
cp -a /etc/apt "$root/etc/apt"
for item in /usr/share/keyrings /etc/ssl/certs /usr/local/share/ca-certificates /usr/share/ca-certificates /etc/pip.conf /etc/hosts; do
  [ ! -e "$item" ] || { mkdir -p "$root${item%/*}" && cp -aT "$item" "$root$item"; }
done
cp -L /etc/resolv.conf "$root/etc/resolv.conf"

git clone -q --no-hardlinks "$repository" "$root/sabrewing"
echo "commit: $(git -C "$root/sabrewing" log -1 --format='%h %s')"

# inside USER COMMAND: in the root, with an empty environment and no standard input.
inside() {
  # shellcheck disable=SC2016  # expanded by the inner shell
  unshare --mount --pid --fork --propagation private bash -c '
    set -e
    mount -t proc proc "$1/proc"
    mount --rbind /dev "$1/dev"
    exec chroot --userspec="$2" "$1" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
      HOME=/tmp bash -c "cd /sabrewing && $3"' _ "$root" "$1" "$2" </dev/null
}

failures=0
# verdict NAME STATUS SECONDS: STATUS 0 holds.
verdict() {
  if [ "$2" = 0 ]; then echo "ok    $1 ($3 s)"; else
    echo "FAIL  $1 ($3 s)"
    failures=$((failures + 1))
  fi
}

# timed NAME USER COMMAND LOG: the command's exit status in $status, its seconds in $took. The processor time says
# what the wall clock would have been on an idle machine.
timed() {
  local begin=$SECONDS
  status=0
  TIMEFORMAT='%U %S'
  { time inside "$2" "$3" >"$log/$4.out" 2>"$log/$4.err"; } 2>"$log/$4.time" || status=$?
  took=$((SECONDS - begin))
  printf '      %s: exit status %s, %s s wall clock, processor seconds (user, system) %s\n' \
    "$1" "$status" "$took" "$(cat "$log/$4.time")"
}

timed "without root" 65534:65534 scripts/quickstart unprivileged
[ "$status" = 2 ] && grep -q "apt-get install -y" "$log/unprivileged.out" && held=0 || held=1
verdict "without root: the line to run, exit status 2" "$held" "$took"

timed "quick start" 0:0 scripts/quickstart quickstart
tail -n 8 "$log/quickstart.err" | sed 's/^/      /'
sed 's/^/      /' "$log/quickstart.out"
[ "$status" = 0 ] && grep -q '#### 41' "$log/quickstart.out" && grep -Eqi '(tok(en)?s?/s|tokens per second)' "$log/quickstart.err" &&
  held=0 || held=1
verdict "scripts/quickstart answers 41, with tokens per second" "$held" "$took"
verdict "scripts/quickstart within 6 minutes" $((took > 360)) "$took"

timed "quick start again" 0:0 scripts/quickstart quickstart_again
[ "$status" = 0 ] && cmp -s "$log/quickstart.out" "$log/quickstart_again.out" && held=0 || held=1
verdict "scripts/quickstart again gives the same" "$held" "$took"

if [ $tests = 1 ]; then
  timed "tests" 0:0 scripts/test test
  grep -A 40 'tests passed' "$log/test.out" | sed 's/^/      /' || true
  [ "$status" = 0 ] || tail -n 30 "$log/test.err" | sed 's/^/      /'
  verdict "scripts/test passes" "$status" "$took"
  verdict "scripts/test within 20 minutes" $((took > 1200)) "$took"
fi

echo "bare root: $failures of the checks failed; logs in $log"
[ $failures = 0 ]
