#!/usr/bin/env bash
# The CUDA kernels on this machine's GPU: correctness, sanitizers, times. One line per claim, figures as JSON.
# shellcheck disable=SC2016  # inner shells expand their own arguments
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/acceptance/gpu.sh [--only SECTION[,SECTION...]] [--quick] [--bin FOLDER] [--out FOLDER] [--budget SECONDS]
                               [--shapes NxK[,NxK...]] [--formats W/A[,W/A...]] [--merge FILE[,FILE...]]

Sections, in this order:
  errors      plans and their kernels against float64
  covering    every pair of the covering set, long K, FP32 output, exponents over 20 binades
  quantizers  activation quantizers byte for byte, and their times
  packing     packing on the device byte for byte, and its rate
  startup     first result with an empty and a warm cache, one compile, one enqueue
  tune        choices of the tuner for each pair of formats, timed again; --out of an earlier run adds to its choices
  timings     candidates of the cost model
  variants    more candidates and token groups where peers are close
  covering_times  times of the covering set
  a8_times    4-bit and FP8 weights beside 8-bit activations, held against recorded peers
  peers       this library beside every peer that is installed (bench/peers), in one process
  python      the Python package and the C ABI
  models      whole models (gpu_models.sh)
  sanitizers  memcheck, racecheck, synccheck, initcheck on a smoke set

  --only            these sections alone
  --quick           fewer sizes; no sanitizers unless named
  --bin FOLDER      test programs and sabrewing (default: build/release/bin); libsabrewing in ../lib
  --out FOLDER      for logs, JSON and summary.json (default: a new temporary folder)
  --budget SECONDS  sections that would begin after it are skipped (default: no limit)
  --shapes          these shapes alone in the sections that time
  --formats         tune, peers: these weights/activations alone (bench/peers/run.py --help)
  --merge           peers: rows of earlier runs, judged together with this one's against all that is asked

Needs an NVIDIA GPU with NVRTC; compute-sanitizer for the sanitizers; a Python with torch and numpy for peers, and with
pytest for python (SABREWING_TEST_PYTHON names it). What is missing is skipped by name. Exit status: 0 every claim that
was checked holds, 1 one does not, 2 wrong usage.
TEXT
}

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=$repository/build/release/bin
out=""
quick=0
only=""
shapes=""
formats=""
merge=""
budget=1000000
sections="errors covering quantizers packing startup tune timings variants covering_times a8_times peers python models sanitizers"
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --quick) quick=1; shift ;;
    --bin | --out | --only | --budget | --shapes | --formats | --merge)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      declare "${1#--}=$2"
      shift 2 ;;
    *) usage >&2; exit 2 ;;
  esac
done
for name in ${only//,/ }; do
  case " $sections " in
    *" $name "*) ;;
    *) echo "gpu.sh: no section $name" >&2; usage >&2; exit 2 ;;
  esac
done
[[ $budget =~ ^[0-9]+$ ]] || { usage >&2; exit 2; }
[ -n "$out" ] || out=$(mktemp -d)
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
bin=$(cd "$bin" 2>/dev/null && pwd) || { echo "gpu.sh: no folder of test programs" >&2; exit 2; }
bench=$bin/cuda_gemm_bench
check=$bin/cuda_gemm_check
sabrewing=$bin/sabrewing
claims_py=$repository/tests/acceptance/gpu_claims.py
failures=0

quoted() {  # as JSON
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  printf '"%s"' "$(tr -d '\000-\037' <<<"$text" | tr -cd '\11\12\40-\176')"
}
record() {  # STATE NAME FIGURE
  printf '%-5s %s: %s\n' "$1" "$2" "$3"
  printf '{"section": "%s", "claim": %s, "state": "%s", "figure": %s}\n' "$section" "$(quoted "$2")" "$1" \
    "$(quoted "$3")" >>"$out/claims.jsonl"
}
# LIMIT_S NAME COMMAND...: passes when the command does; its last line is the figure. After a failure the lines that say
# what is wrong follow.
claim() {
  local limit=$1 name=$2 log status
  shift 2
  log=$out/${name// /_}.log
  timeout "$limit" "$@" >"$log" 2>&1
  status=$?
  local figure
  figure=$(tail -n 1 "$log" | cut -c1-400)
  [ $status != 124 ] || figure="stopped after $limit s; $figure"
  case $status in
    0) record ok "$name" "$figure" ;;
    77) record skip "$name" "$figure" ;;
    *)
      record FAIL "$name" "$figure"
      grep -E 'FAIL|wrong:|not tuned|not timed|rror|Failure|differ|^failed' "$log" | head -n 24 | cut -c1-700 | sed 's/^/      | /'
      failures=$((failures + 1)) ;;
  esac
}
skip() { record skip "$1" "$2"; }
have() {  # PROGRAM...: whether they are there, else the section is skipped by name
  local program
  for program in "$@"; do
    [ -x "$program" ] || { skip "$section" "${program##*/} is missing: build it"; return 1; }
  done
}
find_python() {  # MODULE...: a Python that has them
  local python
  for python in ${SABREWING_TEST_PYTHON:-} python3 /usr/bin/python3; do
    "$python" -c "import $(IFS=,; echo "$*")" 2>/dev/null && { echo "$python"; return 0; }
  done
  return 1
}
# Compiled kernels stay for the sections after: nothing is compiled twice.
export SABREWING_CACHE_DIR=${SABREWING_CACHE_DIR:-$out/cache}

sizes=1,7,8,9,16,17,63,64,65,127,128,129,255,256,257,1000
section_errors() {
  have "$bench" "$bin/cuda_gemm_gpu_test" || return
  claim 120 "plans" "$bin/cuda_gemm_gpu_test" --gtest_filter='GemmPlan*' --gtest_brief=1
  claim 240 "errors against float64" "$bench" --check-only --formats mxfp4,int4g128,int4row,fp8row \
    --shapes 33x384,192x2880,100x28672 --m "$sizes" --limit 5
  claim 120 "errors at large M" "$bench" --check-only --formats mxfp4,int4g128 --shapes 2880x4096 --m 4096 --limit 3
  claim 120 "scales in FP32" "$bench" --check-only --exact --float-output --formats mxfp4,int4g128 --shapes 192x2880 \
    --m 1,17,64,257 --limit 4
}
# Every pair of the covering set, the sizes shared out over the shapes.
section_covering() {
  have "$check" || return
  claim 240 "covering set" "$check" --shapes 192x2880 --m 1,16,63,127,256,1000 --per-family 1 --deadline 180
  claim 240 "covering set at edges" "$check" --shapes 33x384 --m 7,8,9,64,128,255 --per-family 1 --deadline 180
  claim 240 "covering set at long K" "$check" --shapes 33x28672 --m 17,65,129,257 --per-family 1 --deadline 180
  claim 90 "covering set in FP32" "$check" --float-output --shapes 192x768 --m 1,65 --per-family 1 --deadline 80
  claim 120 "covering set at M 4096" "$check" --shapes 192x2880 --m 4096 --per-family 1 --deadline 100
  claim 60 "exponents over 20 binades" "$check" --spread --shapes 192x2880 --m 64,129 --deadline 40
}
section_quantizers() {
  have "$bin/cuda_gemm_gpu_test" "$sabrewing" || return
  claim 180 "quantizers byte for byte" "$bin/cuda_gemm_gpu_test" --gtest_filter='Quantizers*' --gtest_brief=1
  claim 180 "quantizer times" sh -c '"$1" bench kernel --device cuda --quantize fp8,int8,fp8g128,mxfp8,int4,fp4 --json \
    >"$2/quantizers.json" && echo "$2/quantizers.json"' - "$sabrewing" "$out"
  claim 10 "quantizers at or below the peers" python3 "$claims_py" quantizers "$out/quantizers.json"
}
section_packing() {
  have "$bin/cuda_pack_check" || return
  claim 240 "packing" "$bin/cuda_pack_check" --out "$out/packing.json"
  grep 'GB/s of' "$out/packing.log"
}
section_startup() {
  have "$bin/cuda_startup_check" || return
  rm -rf "$out/cold"
  claim 60 "start with an empty cache" "$bin/cuda_startup_check" --cache "$out/cold" --out "$out/start_cold.json"
  claim 60 "start with a warm cache" "$bin/cuda_startup_check" --cache "$out/cold" --first 0.3 --out "$out/start_warm.json"
}
if [ "$quick" = 0 ]; then
  shapes=${shapes:-4096x4096,5120x2880,2880x4096,8192x8192,28672x8192,8192x28672}
  times=1,4,16,32,64,128,256,512,1024,2048,4096,8192
else
  shapes=${shapes:-4096x4096}
  times=1,16,64,512
fi
shapes_file() {  # of the shapes to time, as sabrewing reads them
  local items="" shape
  for shape in ${shapes//,/ }; do items+="${items:+, }{\"name\": \"$shape\", \"n\": ${shape%x*}, \"k\": ${shape#*x}}"; done
  printf '{"shapes": [%s], "m": [%s], "weights": ["mxfp4", "int4g128"]}\n' "$items" "$times" >"$out/shapes.json"
}
section_tune() {
  have "$sabrewing" || return
  shapes_file
  local intervals="" pair all=mxfp4/bf16,int4g128/bf16,fp8row/bf16,mxfp4/fp8tok,int4g128/fp8tok,int4g128/int8tok
  all+=,fp8row/fp8tok,fp8tensor/fp8tensor,fp8block/fp8g128
  local pairs=${formats:-$all}
  [ "$quick" = 0 ] || intervals=$times
  for pair in ${pairs//,/ }; do
    [ "$SECONDS" -le "$budget" ] || { skip "tuned ${pair/\// x }" "$budget s are over"; continue; }
    claim 300 "tuned ${pair/\// x }" sh -c '"$1" tune --shapes "$2/shapes.json" --weights "${4%/*}" --activations "${4#*/}" \
      ${3:+--m "$3"} --burst-from 1024 --rerun --deadline 270 --out "$2/tuning.json" --json >"$2/tune_${4%/*}_${4#*/}.json"' \
      - "$sabrewing" "$out" "$intervals" "$pair"
  done
  pair=${pairs%%,*}
  claim 150 "plans take the tuned choices" sh -c 'SABREWING_TUNING=$2/tuning.json "$1" bench kernel --device cuda \
    --shapes "$2/shapes.json" --weights "${3%/*}" --activations "${3#*/}" --m 16 --explain >"$2/explain.txt" && \
    grep -m 1 -o "tuned [0-9.]* us" "$2/explain.txt"' - "$sabrewing" "$out" "$pair"
}
section_timings() {
  have "$bench" "$sabrewing" || return
  claim 60 "plans timed" "$sabrewing" bench kernel --device cuda --weights mxfp4,int4g128 --m 1,64,512
  claim 480 "times" "$bench" --formats mxfp4,int4g128 --shapes "$shapes" --m "$times" --limit 8 --deadline 420 \
    --out "$out/gemm.json"
  grep ' us (' "$out/times.log"
}
section_variants() {
  have "$bench" || return
  claim 280 "variants at large M" "$bench" --formats int4g128,mxfp4 --shapes 8192x8192,4096x4096 --m 512,1024,4096 \
    --limit 40 --token-groups 1,2,8,16 --deadline 220 --out "$out/variants_large.json"
  claim 280 "variants at small M" "$bench" --formats int4g128,mxfp4 --shapes 4096x4096,5120x2880,2880x4096 \
    --m 16,32,64 --limit 60 --deadline 220 --out "$out/variants_small.json"
  grep -hE ' us \(|token group' "$out/variants_at_large_M.log" "$out/variants_at_small_M.log"
}
section_covering_times() {
  have "$check" || return
  claim 300 "covering times" "$check" --time --shapes 4096x4096 --m 1,16,64,512 --per-family 1 --deadline 240 \
    --out "$out/covering.json"
  grep ' us (' "$out/covering_times.log"
}
section_a8_times() {
  have "$check" || return
  claim 500 "8-bit activations timed" "$check" --time --shapes 4096x4096,8192x8192,5120x2880 --m 1,16,64,256,1024,4096 \
    --formats "mxfp4 x fp8,int4:g128:bf16 x fp8,int4:g128:bf16 x int8,fp8row x fp8" --per-family 3 --deadline 420 \
    --out "$out/a8.json"
  claim 10 "8-bit activations beside the peers" python3 "$claims_py" a8 "$out/a8.json"
  cat "$out/8-bit_activations_beside_the_peers.log"
}
section_peers() {
  local python name reason chosen="" judged=(--shapes "$shapes" --m "$times") earlier=()
  python=$(find_python torch numpy) || { skip "peers" "no Python with torch and numpy (SABREWING_TEST_PYTHON names one)"; return; }
  [ -e "$bin/../lib/libsabrewing.so.1" ] || { skip "peers" "libsabrewing.so.1 is missing: build it"; return; }
  local -x SABREWING_LIBRARY=$bin/../lib/libsabrewing.so.1
  "$python" "$repository/bench/peers/run.py" --list >"$out/peers.txt"
  while IFS= read -r name; do
    reason=${name#*: }
    name=${name%%: *}
    case $reason,$name in
      ready,* | *,sabrewing | *,cublas) chosen+=${chosen:+,}$name ;;
      *) skip "peer $name" "$reason" ;;
    esac
  done <"$out/peers.txt"
  [ ! -e "$out/tuning.json" ] || export SABREWING_TUNING=$out/tuning.json
  claim 580 "peers" "$python" "$repository/bench/peers/run.py" --impl "$chosen" --only "$shapes" --m "$times" \
    --deadline 500 ${formats:+--formats "$formats"} --out "$out/peers.json"
  [ -e "$out/peers.json" ] || return
  sed -n '/^| weights/,$p' "$out/peers.log"
  grep '^skipped' "$out/peers.log"
  [ -z "$merge" ] || { IFS=, read -ra earlier <<<"$merge"; judged=(); }
  claim 10 "ratios to the peers" python3 "$claims_py" peers "${earlier[@]}" "$out/peers.json" "${judged[@]}"
  grep ' asked, least ' "$out/ratios_to_the_peers.log" | sed 's/^/      /'
}
section_python() {
  [ -e "$bin/../lib/libsabrewing.so.1" ] || { skip "python" "libsabrewing.so.1 is missing: build it"; return; }
  SABREWING_REQUIRE_GPU=1 claim 240 "python package" "$repository/python/tests/run.sh" "$bin/../lib/libsabrewing.so.1"
}
section_models() {
  have "$sabrewing" "$bin/cuda_ops_test" "$bin/cuda_models_test" || return
  local limit=300
  [ "$quick" = 0 ] || limit=20
  claim 580 "whole models" "$repository/tests/acceptance/gpu_models.sh" --out "$out/models" --binary "$sabrewing" \
    --tests "$bin" --limit "$limit" --only tests,verify,latency,cli,eval,server
  sed 's/^/      /' "$out/models/table.txt"
}
section_sanitizers() {
  have "$bench" || return
  local tool sanitizer
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) ||
    { skip "sanitizers" "compute-sanitizer is not installed"; return; }
  for tool in memcheck racecheck synccheck initcheck; do
    claim 140 "$tool" "$sanitizer" --tool "$tool" --error-exitcode 1 "$bench" --check-only --race-checkable \
      --formats mxfp4,int4g128 --shapes 192x1408 --m 8,65,200 --limit 6
  done
  have "$sabrewing" || return
  claim 300 "whole models" "$repository/tests/acceptance/gpu_models.sh" --out "$out/models_sanitizers" \
    --binary "$sabrewing" --only sanitizers
  sed 's/^/      /' "$out/models_sanitizers/table.txt"
}

: >"$out/claims.jsonl"
if [ -x "$sabrewing" ]; then
  "$sabrewing" doctor >"$out/doctor.txt" 2>&1
  reason=$(sed -n 's/^NVIDIA driver *no *//p; s/^run-time compiler *no *//p' "$out/doctor.txt" | head -n 1)
fi
for section in $sections; do
  if [ -n "$only" ]; then
    case ",$only," in *",$section,"*) ;; *) continue ;; esac
  elif [ "$quick" = 1 ] && [ "$section" = sanitizers ]; then
    continue
  fi
  if [ -n "${reason:-}" ]; then skip "$section" "${reason:0:200}"; continue; fi
  if [ "$SECONDS" -ge "$budget" ]; then skip "$section" "the budget of $budget s is spent"; continue; fi
  begin=$SECONDS
  "section_$section"
  echo "      section $section: $((SECONDS - begin)) s"
done
IFS=, read -r device driver < <(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null)
commit=$(git -C "$repository" rev-parse HEAD 2>/dev/null)
{
  printf '{"machine": {"device": %s, "driver": %s}, "commit": %s,\n "claims": [\n' "$(quoted "${device:-}")" \
    "$(quoted "${driver# }")" "$(quoted "$commit")"
  sed '$!s/$/,/' "$out/claims.jsonl"
  printf ']}\n'
} >"$out/summary.json"
echo "figures in $out"
[ "$failures" = 0 ]
