#!/usr/bin/env bash
# Whole models on the GPU against their references and the CPU: one line per claim with its measured value.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/acceptance/gpu_models.sh --out FOLDER [--binary FILE] [--tests FOLDER] [--models FOLDER] [--task FILE]
                                      [--limit N] [--no-sanitizer]

  --out FOLDER     where logs, JSON and the table go
  --binary FILE    default: build/release/bin/sabrewing
  --tests FOLDER   test programs; default: the binary's folder
  --models FOLDER  also the checkpoints in it (gpt_oss, qwen3, qwen3_moe with a reference.json)
  --task FILE      word problems for the evaluation (default: the short set beside this script)
  --limit N        only the first N of them
  --no-sanitizer   leave out compute-sanitizer

Exit status: 0 every claim that was checked holds, 1 one does not, 2 wrong usage.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
binary=$repository/build/release/bin/sabrewing
tests=""
out=""
models_folder=""
task=$here/word_problems.jsonl
limit=0
with_sanitizer=1
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --no-sanitizer) with_sanitizer=0; shift ;;
    --out | --binary | --tests | --models | --task | --limit)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      case $1 in
        --out) out=$2 ;; --binary) binary=$2 ;; --tests) tests=$2 ;; --models) models_folder=$2 ;;
        --task) task=$2 ;; --limit) limit=$2 ;;
      esac
      shift 2 ;;
    *) usage >&2; exit 2 ;;
  esac
done
[ -n "$out" ] || { usage >&2; exit 2; }
[ -x "$binary" ] || { echo "gpu_models.sh: $binary is missing; build it with scripts/test" >&2; exit 1; }
tests=${tests:-$(dirname "$binary")}
mkdir -p "$out" || exit 2
export SABREWING_CACHE_DIR=$out/cache

broken=0
# claim STATUS TEXT [LOG]
claim() {
  if [ "$1" = 0 ]; then
    printf 'ok    %s\n' "$2"
  else
    printf 'FAIL  %s\n' "$2"
    if [ -n "${3:-}" ]; then tail -n 12 "$3" | cut -c1-300 | sed 's/^/      | /'; fi
  fi | tee -a "$out/table.txt"
  [ "$1" = 0 ] || broken=1
}
value() { sed -n "s/.*\"$1\" *: *\([-+0-9.eE]*\).*/\1/p" "$2" | head -n 1; }
holds() { awk "BEGIN {exit !($1)}" 2>/dev/null; }
seconds() { awk "BEGIN {printf \"%.1f\", $2 - $1}"; }
now() { date +%s.%N; }

: >"$out/table.txt"
"$binary" doctor >"$out/doctor.txt" 2>&1
grep -E '^ *(gpu|NVIDIA|run-time)' "$out/doctor.txt"

for test in cuda_ops_test cuda_models_test; do
  start=$(now)
  "$tests/$test" --gtest_brief=1 >"$out/$test.log" 2>&1
  status=$?
  grep -q 'PASSED' "$out/$test.log" && ! grep -q SKIPPED "$out/$test.log" || status=1
  claim $status "$test: $(sed -n 's/.*PASSED.*\] *//p' "$out/$test.log") in $(seconds "$start" "$(now)") s" "$out/$test.log"
done

checkpoints=("$repository"/models/mini-*)
if [ -n "$models_folder" ]; then
  for model in "$models_folder"/*/; do
    if grep -Eqs '"model_type": *"(gpt_oss|qwen3|qwen3_moe)"' "$model/config.json"; then checkpoints+=("${model%/}"); fi
  done
fi
for model in "${checkpoints[@]}"; do
  for precision in exact default; do
    log=$out/verify-${model##*/}-$precision
    "$binary" verify "$model" --reference "$model/reference.json" --device cuda --precision $precision --json \
      >"$log.json" 2>"$log.log"
    claim $? "verify --precision $precision ${model##*/}: first choice $(value top_choice_share "$log.json"), \
$(value ties "$log.json") ties, largest logit difference $(value logit_difference "$log.json")" "$log.log"
  done
done

for model in "${checkpoints[@]}"; do
  for device in cpu cuda; do
    start=$(now)
    log=$out/eval-${model##*/}-$device
    "$binary" eval "$model" --task "$task" --limit "$limit" --device $device --json >"$log.json" 2>"$log.log"
    status=$?
    score=$(value 'exact_match,strict-match' "$log.json")
    if [ $device = cpu ]; then cpu_score=$score; cpu_seconds=$(value seconds "$log.json"); fi
    [ $status = 0 ] || claim 1 "eval ${model##*/} --device $device" "$log.log"
  done
  problems=$(value effective "$log.json")
  holds "(${cpu_score:-9} - ${score:-0})^2 <= ((0.015 > 1.01 / $problems ? 0.015 : 1.01 / $problems))^2"
  claim $? "eval ${model##*/}, $problems problems: GPU $score in $(value seconds "$log.json") s, CPU $cpu_score in $cpu_seconds s" \
    "$log.log"
done

if [ $with_sanitizer = 1 ]; then
  sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
  for model in mini-gpt-oss mini-qwen3; do
    for tool in memcheck racecheck initcheck synccheck; do
      log=$out/sanitizer-$model-$tool.log
      timeout 60 "$sanitizer" --tool $tool --error-exitcode 9 "$binary" run "$repository/models/$model" --device cuda \
        --max-tokens 12 --prompt "Gia is 24 years old. Dan is 8 years older than Gia. How old will Dan be in 9 years?" \
        >"$log" 2>&1
      claim $? "compute-sanitizer $tool, one generation of $model: $(grep -oE '(ERROR|RACECHECK) SUMMARY.*' "$log")" "$log"
    done
  done
fi
printf '%s\n' "logs and JSON: $out"
exit $broken
