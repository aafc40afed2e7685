#!/usr/bin/env bash
# The binary as a user runs it, on the CPU: one line per claim with its measured value.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/acceptance/cpu.sh [--quick] [--models FOLDER] [--task FILE] [--bench | --bench-only] [--results FILE]
                               [--bare-root] [--binary FILE]

  --quick          only what takes a minute: models/, the short task, hostile input
  --models FOLDER  also the larger checkpoints in it: every folder with a reference.json that the CPU can run
  --task FILE      word problems for the evaluation (JSON lines; default: the short set beside this script)
  --bench          also the speed of kernels and of a full-size model with random weights (needs 24 GB of memory)
  --bench-only     that alone
  --results FILE   where the figures of the benchmarks go, as in bench/results/cpu_*.json
  --bare-root      also quick start and tests in an empty root (needs root and debootstrap)
  --binary FILE    default: build/release/bin/sabrewing

Exit status: 0 every claim that was checked holds, 1 one does not, 2 wrong usage.
TEXT
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
binary=$repository/build/release/bin/sabrewing
models_folder=""
task=$here/word_problems.jsonl
quick=0
bench=0
bench_only=0
results=""
bare_root=0
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --quick) quick=1; shift ;;
    --bench) bench=1; shift ;;
    --bench-only) bench_only=1; shift ;;
    --bare-root) bare_root=1; shift ;;
    --models | --task | --results | --binary)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      case $1 in --models) models_folder=$2 ;; --task) task=$2 ;; --results) results=$2 ;; --binary) binary=$2 ;; esac
      shift 2 ;;
    *) usage >&2; exit 2 ;;
  esac
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
held=0
broken=0
left_out=0

# claim STATUS TEXT [DETAIL_FILE]: STATUS 0 holds; of a broken one the last lines are shown.
claim() {
  if [ "$1" = 0 ]; then
    held=$((held + 1))
    printf 'ok    %s\n' "$2"
  else
    broken=$((broken + 1))
    printf 'FAIL  %s\n' "$2"
    if [ -n "${3:-}" ]; then tail -n 6 "$3" | cut -c1-300 | sed 's/^/      | /'; fi
  fi
}
not_checked() {
  left_out=$((left_out + 1))
  printf -- '-     %s: not checked, %s\n' "$1" "$2"
}

# value KEY FILE: the number after "KEY" in one of our flat JSON outputs.
value() { sed -n "s/.*\"$1\" *: *\([-+0-9.eE]*\).*/\1/p" "$2" | head -n 1; }
# holds EXPRESSION: floating-point comparison; false when a value is missing.
holds() { awk "BEGIN {exit !($1)}" 2>/dev/null; }

. "$here/hostile.sh"

verification() {
  local model=$1 name=${1#"$repository"/} agreement
  "$binary" verify "$model" --reference "$model/reference.json" --precision exact >"$work/out" 2>&1
  claim $? "verify --precision exact $name" "$work/out"
  "$binary" verify "$model" --reference "$model/reference.json" --precision default --json >"$work/json" 2>"$work/out"
  agreement=$(value top_choice_share "$work/json")
  holds "\"$agreement\" != \"\" && ${agreement:-0} >= 0.98"
  claim $? "default mode $name: the reference token is the top choice in ${agreement:-?} of all, at least 0.98" "$work/out"
}

# evaluation MODEL LEAST: strict match in both modes.
evaluation() {
  local model=$1 least=$2 name=${1#"$repository"/} precision score=() problems
  problems=$(wc -l <"$task")
  for precision in exact default; do
    "$binary" eval "$model" --task "$task" --precision $precision --json >"$work/json.$precision" 2>"$work/out" ||
      claim 1 "eval $name --precision $precision" "$work/out"
    score+=("$(value 'exact_match,strict-match' "$work/json.$precision")")
  done
  holds "${score[0]:-0} >= $least && ${score[1]:-0} >= $least"
  claim $? "eval $name on $problems problems: exact ${score[0]:-?}, default ${score[1]:-?}, at least $least" "$work/out"
  # On a short set one problem weighs more than the bound.
  holds "(${score[0]:-9} - ${score[1]:-0})^2 <= ((0.015 > 1.01 / $problems ? 0.015 : 1.01 / $problems))^2"
  claim $? "eval $name: the modes differ by at most 1.5 points or one problem"
}

# tests_claim REGEX TEXT: the CTest entries that match hold TEXT; none at all is a failure.
tests_claim() {
  ctest --test-dir "$repository/build/release" -R "$1" --no-tests=error >"$work/out" 2>&1
  claim $? "$2: $(sed -n 's/^[0-9]*% tests passed, .* out of \([0-9]*\)$/\1 test programs/p' "$work/out")" "$work/out"
}

# cases_claim PROGRAM FILTER NAME: some test cases of one program.
cases_claim() {
  local count
  "$repository/build/release/bin/$1" --gtest_filter="$2" >"$work/out" 2>&1 &&
    count=$(sed -n 's/^\[  PASSED  \] \([1-9][0-9]*\) tests.*/\1/p' "$work/out") && [ -n "$count" ]
  claim $? "$3: ${count:-no} test cases" "$work/out"
}

# Shares of what this machine measured in the same process, so that the bounds hold on any machine.
speed() {
  local config=$repository/bench/configs/gpt-oss-20b.json got planned peak phases
  "$binary" bench kernel --check --json >"$work/kernel.json" 2>"$work/out"
  claim $? "bench kernel --check: every shape of bench/shapes.json at its threshold" "$work/out"
  "$binary" bench latency "$config" --load-format dummy --threads 1 --prompt-tokens 16 --output-tokens 32 --json \
    >"$work/decode.json" 2>"$work/out"
  got=$(value decode_read_fraction "$work/decode.json")
  holds "${got:-0} >= 0.75"
  claim $? "gpt-oss-20b, decode with one thread: ${got:-?} of its read bandwidth, at least 0.75" "$work/out"
  planned=$(value planned_bytes "$work/decode.json")
  peak=$(value peak_bytes "$work/decode.json")
  holds "${planned:-0} > 0 && (${peak:-0} / ${planned:-1} - 1)^2 <= 0.05^2"
  claim $? "gpt-oss-20b: peak memory ${peak:-?} bytes within 5 % of the planned ${planned:-?}"
  phases=$(for phase in open plan weights; do printf ' %s %s s' $phase "$(value $phase "$work/decode.json")"; done)
  holds "$(value weights "$work/decode.json") > 0"
  claim $? "gpt-oss-20b: loading time by phase:$phases"
  "$binary" bench latency "$config" --load-format dummy --prompt-tokens 128 --output-tokens 2 --repeats 7 --json \
    >"$work/prefill.json" 2>"$work/out"
  got=$(value prefill_int8_fraction "$work/prefill.json")
  holds "${got:-0} >= 0.40"
  claim $? "gpt-oss-20b, prompt of 128 tokens, all layers counted for each: ${got:-?} of the int8 rate sustained beside it, at least 0.40" "$work/out"
  [ -n "$results" ] || return 0
  {
    printf '{\n"commit": "%s",\n"version": "%s",\n' "$(git -C "$repository" rev-parse HEAD)" "$("$binary" --version)"
    for part in kernel decode prefill; do printf '"%s": %s,\n' $part "$(sed "s|$repository/||" "$work/$part.json")"; done
    printf '"command": "tests/acceptance/cpu.sh --bench-only --results FILE"\n}\n'
  } >"$results"
}

[ -x "$binary" ] || { echo "cpu.sh: $binary is missing; build it with scripts/test" >&2; exit 1; }

finish() {
  echo "$held claims hold, $broken do not, $left_out not checked"
  [ $broken = 0 ]
  exit
}

if [ $bench_only = 1 ]; then
  speed
  finish
fi

echo "== correct answers"
checkpoints=("$repository"/models/mini-*)
for model in "${checkpoints[@]}"; do verification "$model"; done
if [ -n "$models_folder" ]; then
  for model in "$models_folder"/*/; do
    model=${model%/}
    if [ -f "$model/reference.json" ] && grep -Eq '"model_type": *"(gpt_oss|qwen3|qwen3_moe)"' "$model/config.json"; then
      case ${model##*/} in mini-*) continue ;; esac
      verification "$model"
      [ $quick = 1 ] || evaluation "$model" 0.95
    fi
  done
else
  not_checked "larger checkpoints" "no --models"
fi
for model in "${checkpoints[@]}"; do evaluation "$model" 0.85; done

echo "== a conversation from the command line"
"$binary" run "$repository/models/mini-gpt-oss" --max-tokens 256 \
  --prompt "Gia is 24 years old. Dan is 8 years older than Gia. How old will Dan be in 9 years?" >"$work/out" 2>"$work/err" &&
  grep -q '#### 41' "$work/out"
claim $? "run answers 41" "$work/err"
for threads in 1 2; do
  "$binary" run "$repository/models/mini-qwen3-moe" --max-tokens 64 --precision exact --threads $threads --temperature 1 --seed 7 \
    --json --prompt "A lamp costs 120 dollars. Sam gets 20 percent off. How many dollars does Sam pay?" 2>/dev/null |
    tr -d ' \n' | sed -n 's/.*"ids":\[\([-0-9,]*\)\].*/\1/p' >"$work/ids.$threads"
done
[ -s "$work/ids.1" ] && cmp -s "$work/ids.1" "$work/ids.2"
claim $? "equal seeds give equal ids with 1 and 2 threads: $(tr ',' '\n' <"$work/ids.1" | wc -l) ids"

echo "== hostile input"
hostile_input

if [ $quick = 0 ]; then
  echo "== tests behind the claims"
  tests_claim 'engine|models|decoder' "long contexts, odd shapes, repeatability"
  cases_claim engine_test 'Sampl*' "sampling"
  tests_claim 'tokenizer|template|jinja' "tokenizer and templates"
fi

echo "== speed"
if [ $bench = 1 ]; then
  speed
else
  not_checked "speed" "no --bench"
fi

echo "== from nothing"
if [ $bare_root = 1 ]; then
  "$here/bare_root.sh" | tee "$work/out"
  claim "${PIPESTATUS[0]}" "quick start and tests in an empty root"
else
  not_checked "empty root" "no --bare-root"
fi

finish
