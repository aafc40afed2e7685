#!/usr/bin/env bash
# A server under many streams with random aborts: no failure, no leak, flat memory.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/acceptance/soak.sh [--binary FILE] [--model NAME] [OPTION OF tests/conformance/soak.py...]

  --binary FILE   default: build/release/bin/sabrewing
  --model NAME    folder below models/; default: mini-qwen3-moe

Then 20,000 requests, 256 at once: --requests N --streams N --aborts SHARE --max-tokens N --seed N. Needs python3 only.
A binary built with AddressSanitizer is recognised: it gets a quarantine of 16 MiB, so that its memory says something, and
must end without a report of an error or a leak.

Exit status: 0 every claim holds, 1 one does not, 2 wrong usage.
TEXT
}

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary=$repository/build/release/bin/sabrewing
model=mini-qwen3-moe
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --binary | --model)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      case $1 in --binary) binary=$2 ;; --model) model=$2 ;; esac
      shift 2 ;;
    *) break ;;
  esac
done
[ -x "$binary" ] || { echo "soak.sh: $binary is missing; build it with scripts/test" >&2; exit 1; }

sanitized=0
if grep -qa __asan_init "$binary"; then
  sanitized=1
  export ASAN_OPTIONS="quarantine_size_mb=16:malloc_context_size=8:detect_leaks=1:${ASAN_OPTIONS:-}"
fi

log=$(mktemp)
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -f "$log"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$binary" serve "$repository/models/$model" --port "$port" --precision exact --max-model-len 2048 --log-level warning >"$log" 2>&1 &
server=$!
for _ in $(seq 300); do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then break; fi
  sleep 0.1
done

python3 "$repository/tests/conformance/soak.py" --port "$port" --pid "$server" --model "$model" "$@"
result=$?
kill -TERM "$server"
wait "$server"
status=$?
server=""
if [ $status = 0 ]; then
  echo "ok    the server ended with 0 on SIGTERM"
else
  result=1
  echo "FAIL  the server ended with $status on SIGTERM"
  grep -A 20 'ERROR: ' "$log" | head -n 60
  tail -n 20 "$log"
fi
if [ $sanitized = 1 ]; then
  if grep -q 'Sanitizer' "$log"; then
    result=1
    echo "FAIL  AddressSanitizer reported an error or a leak"
  else
    echo "ok    no error and no leak reported by AddressSanitizer"
  fi
fi
exit $result
