#!/usr/bin/env bash
# A running server against the packages that people use: openai, anthropic, lm-evaluation-harness.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/acceptance/server.sh [--binary FILE] [--venv FOLDER] [--page] [PYTEST ARGUMENT...]

Makes a virtual environment with what tests/conformance/requirements.txt pins (Python 3.11 or 3.12; the first time
needs PyPI) and runs the tests there. Further arguments go to pytest: -k stream, test_chat.py.

  --binary FILE    default: build/release/bin/sabrewing
  --venv FOLDER    default: build/conformance
  --page           also the chat page in headless Chromium (needs the chromium package)

Exit status: 0 all passed, 1 a test failed or the environment could not be made, 2 wrong usage.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
suite=$repository/tests/conformance
binary=$repository/build/release/bin/sabrewing
venv=$repository/build/conformance
page=0
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --page) page=1; shift ;;
    --binary | --venv)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      case $1 in --binary) binary=$2 ;; --venv) venv=$2 ;; esac
      shift 2 ;;
    *) break ;;
  esac
done
[ -x "$binary" ] || { echo "server.sh: $binary is missing; build it with scripts/test" >&2; exit 1; }

binary=$(realpath "$binary")
venv=$(realpath -m "$venv")

start=$SECONDS
if ! cmp -s "$suite/requirements.txt" "$venv/requirements.txt"; then
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  rm -rf "$venv"
  # Every package is in the list, so nothing is left to resolve.
  if ! { python3 -m venv "$venv" &&
    "$venv/bin/pip" install --disable-pip-version-check --no-deps --require-hashes -r "$suite/requirements.txt" &&
    "$venv/bin/pip" check && cp "$suite/requirements.txt" "$venv/"; } >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    echo "server.sh: could not make the virtual environment $venv" >&2
    exit 1
  fi
  echo "virtual environment: $((SECONDS - start)) s"
fi

[ $# -gt 0 ] || set -- .
[ $page = 1 ] || set -- --ignore=test_page.py "$@"
cd "$suite" || exit 1
SABREWING_BINARY=$binary "$venv/bin/python" -m pytest -q -p no:cacheprovider --durations=5 "$@"
