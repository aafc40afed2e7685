#!/usr/bin/env bash
# The CUDA GEMM on this machine's GPU: correctness, sanitizers, times. One line per claim, full figures as JSON.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/acceptance/gpu.sh [--quick] [--bin FOLDER] [--out FOLDER]

  --quick       without the sanitizers and with four sizes to time
  --bin FOLDER  where cuda_gemm_bench and cuda_gemm_gpu_test are (default: build/release/bin); libsabrewing in ../lib
  --out FOLDER    for logs and JSON (default: a new temporary folder)

Needs an NVIDIA GPU with NVRTC; compute-sanitizer for the sanitizers; a Python with torch, numpy and pytest
(SABREWING_TEST_PYTHON names it) for the Python package. Exit status: 0 every claim holds, 1 one does
not, 2 wrong usage.
TEXT
}

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$repository/build/release/bin
out=""
quick=0
only=""
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --quick) quick=1; shift ;;
    --bin | --out | --only)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      declare "${1#--}=$2"
      shift 2 ;;
    *) usage >&2; exit 2 ;;
  esac
done
case $only in
  "" | errors | covering | sanitizers | timings | covering_times) ;;
  *) usage >&2; exit 2 ;;
esac
[ -n "$out" ] || out=$(mktemp -d)
mkdir -p "$out"
bench=$bin/cuda_gemm_bench
check=$bin/cuda_gemm_check
failures=0

claim() {  # NAME COMMAND...: passes when the command does; its last line is the figure
  local name=$1 log
  shift
  log=$out/${name// /_}.log
  if "$@" >"$log" 2>&1; then
    echo "ok    $name: $(tail -n 1 "$log")"
  else
    echo "FAIL  $name: $(tail -n 1 "$log") ($log)"
    failures=$((failures + 1))
  fi
}

section() {  # NAME FUNCTION: runs it unless another one was asked for, and prints its time
  local begin=$SECONDS
  [ -z "$only" ] || [ "$only" = "$1" ] || return 0
  "$1"
  echo "      section $1: $((SECONDS - begin)) s"
}

sizes=1,7,8,9,16,17,63,64,65,127,128,129,255,256,257,1000
errors() {
  claim "plans" "$bin/cuda_gemm_gpu_test"
  claim "errors against float64" "$bench" --check-only --formats mxfp4,int4g128,int4row,fp8row \
    --shapes 33x384,192x2880,100x28672 --m "$sizes" --limit 5
  claim "errors at large M" "$bench" --check-only --formats mxfp4,int4g128 --shapes 2880x4096 --m 4096 --limit 3
  claim "scales in FP32" "$bench" --check-only --exact --float-output --formats mxfp4,int4g128 --shapes 192x2880 \
    --m 1,17,64,257 --limit 4
}
# What no hardware has run yet: every pair of the covering set.
covering() {
  claim "covering set" "$check" --deadline 150
  claim "covering set in FP32" "$check" --float-output --shapes 192x768 --m 1,65 --per-family 1 --deadline 60
  claim "long K" "$check" --formats fp8,fp8g128,int8 --shapes 33x28672 --m 16,129 --per-family 1 --deadline 40
  claim "exponents over 20 binades" "$check" --spread --shapes 192x2880 --m 64,129 --deadline 30
}
sanitizers() {
  for tool in memcheck racecheck synccheck initcheck; do
    claim "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "$bench" --check-only --race-checkable \
      --formats mxfp4,int4g128 --shapes 192x1408 --m 8,65,200 --limit 6
  done
}
if [ "$quick" = 0 ]; then
  shapes=4096x4096,8192x8192,5120x2880,2880x4096,28672x8192,8192x28672
  times=1,4,16,32,64,128,256,512,1024,2048,4096,8192
else
  shapes=4096x4096
  times=1,16,64,512
fi
timings() {
  claim "plans timed" "$bin/sabrewing" bench kernel --device cuda --weights mxfp4,int4g128 --m 1,64,512
  claim "times" "$bench" --formats mxfp4,int4g128 --shapes "$shapes" --m "$times" --limit 24 --deadline 150 \
    --out "$out/gemm.json"
  grep ' us (' "$out/times.log"
}
covering_times() {
  claim "covering times" "$check" --time --shapes 4096x4096 --m 1,16,64,512 --per-family 1 --deadline 60 \
    --out "$out/covering.json"
  grep ' us (' "$out/covering_times.log"
}
section errors
section covering
[ "$quick" = 1 ] || section sanitizers
section timings
section covering_times
echo "figures in $out"
[ "$failures" = 0 ]
