#!/usr/bin/env bash
# What batching brings: tokens per second of many streams against one, as `bench serve` measures them.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/acceptance/batching.sh [--binary FILE] [--config FILE] [--streams N] [--least RATIO]

Serves random weights in the shape of --config and loads the server with one stream, then with many, of random token
ids: 16 in, 32 out. Needs a quiet machine and about a minute.

  --binary FILE    default: build/release/bin/sabrewing
  --config FILE    default: bench/configs/Qwen3-0.6B.json
  --streams N      default: 16
  --least RATIO    of the rates; default: 4

Exit status: 0 the ratio is reached, 1 it is not, 2 wrong usage.
TEXT
}

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
binary=$repository/build/release/bin/sabrewing
config=$repository/bench/configs/Qwen3-0.6B.json
streams=16
least=4
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --binary | --config | --streams | --least)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      case $1 in --binary) binary=$2 ;; --config) config=$2 ;; --streams) streams=$2 ;; --least) least=$2 ;; esac
      shift 2 ;;
    *) usage >&2; exit 2 ;;
  esac
done
[ -x "$binary" ] || { echo "batching.sh: $binary is missing; build it with scripts/test" >&2; exit 1; }

log=$(mktemp)
server=""
trap '[ -z "$server" ] || kill "$server" 2>/dev/null; rm -f "$log"' EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$binary" serve "$config" --load-format dummy --device cpu --port "$port" --max-model-len 256 \
  --no-enable-prefix-caching --log-level warning >"$log" 2>&1 &
server=$!

# rate STREAMS PROMPTS: tokens per second of answers; each stream has its warm-up.
rate() {
  "$binary" bench serve --base-url "http://127.0.0.1:$port" --dataset-name random-ids --vocab-size 1000 \
    --random-input-len 16 --random-output-len 32 --ignore-eos --max-concurrency "$1" --num-prompts "$2" --num-warmups "$1" \
    --json 2>>"$log" | python3 -c '
import json, sys
result = json.load(sys.stdin)
sys.exit("requests failed") if result["failed"] else print(result["output_throughput"])'
}
if ! { one=$(rate 1 3) && many=$(rate "$streams" $((2 * streams))); }; then
  tail -n 20 "$log" >&2
  exit 1
fi
awk -v one="$one" -v many="$many" -v least="$least" -v streams="$streams" -v name="$(basename "$config" .json)" 'BEGIN {
  held = many >= least * one
  printf "%s %s, %d processors: 1 stream %.1f tokens/s, %d streams %.1f tokens/s, ratio %.1f (at least %s)\n",
    held ? "ok   " : "FAIL ", name, '"$(nproc)"', one, streams, many, many / one, least
  exit !held
}'
