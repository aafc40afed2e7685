#!/usr/bin/env bash
# The CUDA GEMM on this machine's GPU: correctness, sanitizers, times. One line per claim, full figures as JSON.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/acceptance/gpu.sh [--quick] [--bin FOLDER] [--out FOLDER]

  --quick       without the sanitizers and with four sizes to time
  --bin FOLDER  where cuda_gemm_bench and cuda_gemm_gpu_test are (default: build/release/bin); libsabrewing in ../lib
  --out FOLDER  for logs and JSON (default: a new temporary folder)

Needs an NVIDIA GPU with NVRTC; compute-sanitizer for the sanitizers; a Python with torch, numpy and pytest
(SABREWING_TEST_PYTHON names it) for the Python package. Exit status: 0 every claim holds, 1 one does
not, 2 wrong usage.
TEXT
}

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$repository/build/release/bin
out=""
quick=0
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --quick) quick=1; shift ;;
    --bin | --out)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      declare "${1#--}=$2"
      shift 2 ;;
    *) usage >&2; exit 2 ;;
  esac
done
[ -n "$out" ] || out=$(mktemp -d)
mkdir -p "$out"
bench=$bin/cuda_gemm_bench
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

sizes=1,7,8,9,16,17,63,64,65,127,128,129,255,256,257,1000
claim "plans" "$bin/cuda_gemm_gpu_test"
claim "errors against float64" "$bench" --check-only --formats mxfp4,int4g128,int4row,fp8row \
  --shapes 33x384,192x2880,100x28672 --m "$sizes" --limit 5
claim "errors at large M" "$bench" --check-only --formats mxfp4,int4g128 --shapes 2880x4096 --m 4096 --limit 3
claim "scales in FP32" "$bench" --check-only --exact --float-output --formats mxfp4,int4g128 --shapes 192x2880 \
  --m 1,17,64,257 --limit 4
claim "python" env SABREWING_REQUIRE_GPU=1 "$repository/python/tests/run.sh" "$bin/../lib/libsabrewing.so.1" -k gpu
if [ "$quick" = 0 ]; then
  for tool in memcheck racecheck synccheck initcheck; do
    claim "$tool" compute-sanitizer --tool "$tool" --error-exitcode 1 "$bench" --check-only --race-checkable \
      --formats mxfp4,int4g128 --shapes 192x1408 --m 8,65,200 --limit 6
  done
  shapes=4096x4096,8192x8192,5120x2880,2880x4096,28672x8192,8192x28672
  times=1,4,16,32,64,128,256,512,1024,2048,4096,8192
else
  shapes=4096x4096
  times=1,16,64,512
fi
claim "plans timed" "$bin/sabrewing" bench kernel --device cuda --weights mxfp4,int4g128 --m 1,64,512
claim "times" "$bench" --formats mxfp4,int4g128 --shapes "$shapes" --m "$times" --limit 24 --out "$out/gemm.json"
grep ' us (' "$out/times.log"
echo "figures in $out"
[ "$failures" = 0 ]
