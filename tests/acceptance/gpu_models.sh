#!/usr/bin/env bash
# Whole models on the GPU against their references and the CPU: one line per claim with its measured value.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/acceptance/gpu_models.sh --out FOLDER [--only SECTION[,SECTION...]] [--binary FILE] [--tests FOLDER]
                                      [--models FOLDER] [--task FILE] [--limit N] [--results FILE] [--commit ID]

Sections, in this order:
  tests       cuda_ops_test, cuda_models_test
  verify      models against an independent implementation, in both precisions
  latency     time of a prompt and of a decoded token
  cli         without a cache that can be written, with a full, a damaged and a shared one, without a GPU, interrupted
  eval        word problems on the GPU and on the CPU, all models at once
  server      the same problems, many at a time, through the server
  sanitizers  memcheck, racecheck, initcheck, synccheck on one generation each

  --out FOLDER     where logs, JSON and the table go
  --only           these sections alone
  --binary FILE    default: build/release/bin/sabrewing
  --tests FOLDER   test programs; default: the binary's folder
  --models FOLDER  also the checkpoints in it (gpt_oss, qwen3, qwen3_moe with a reference.json)
  --task FILE      word problems for the evaluation (default: the short set beside this script)
  --limit N        only the first N of them
  --results FILE   where the figures go, as in bench/results/gpu_*_models.json
  --commit ID      of the binary, for the results; default: this repository's

What the machine does not have is skipped by name. Exit status: 0 every claim that was checked holds, 1 one does not,
2 wrong usage.
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
results=""
commit=""
only=""
sections="tests verify latency cli eval server sanitizers"
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --out | --only | --binary | --tests | --models | --task | --limit | --results | --commit)
      [ $# -ge 2 ] || { usage >&2; exit 2; }
      case $1 in
        --out) out=$2 ;; --only) only=$2 ;; --binary) binary=$2 ;; --tests) tests=$2 ;; --models) models_folder=$2 ;;
        --task) task=$2 ;; --limit) limit=$2 ;; --results) results=$2 ;; --commit) commit=$2 ;;
      esac
      shift 2 ;;
    *) usage >&2; exit 2 ;;
  esac
done
for name in ${only//,/ }; do
  case " $sections " in
    *" $name "*) ;;
    *) echo "gpu_models.sh: no section $name" >&2; usage >&2; exit 2 ;;
  esac
done
[ -n "$out" ] || { usage >&2; exit 2; }
[ -x "$binary" ] || { echo "gpu_models.sh: $binary is missing; build it with scripts/test" >&2; exit 1; }
tests=${tests:-$(dirname "$binary")}
mkdir -p "$out" || exit 2
out=$(cd "$out" && pwd)
export SABREWING_CACHE_DIR=$out/cache

broken=0
# claim STATUS TEXT [LOG]; of a broken one the last lines are shown.
claim() {
  local state=ok
  [ "$1" = 0 ] || { state=FAIL; broken=1; }
  {
    printf '%-5s %s\n' "$state" "$2"
    if [ $state = FAIL ] && [ -n "${3:-}" ]; then tail -n 12 "$3" | cut -c1-300 | sed 's/^/      | /'; fi
  } | tee -a "$out/table.txt"
}
skip() { printf 'skip  %s: %s\n' "$1" "$2" | tee -a "$out/table.txt"; }
# row SECTION OBJECT: for the results.
row() { printf '%s\n' "$2" >>"$out/rows.$1"; }
value() { sed -n "s/.*\"$1\" *: *\([-+0-9.eE]*\).*/\1/p" "$2" | head -n 1; }
# total KEY FILE: of the whole output, not of a case in it; null when missing.
total() { sed -n "s/^  \"$1\": \([^,]*\),*$/\1/p" "$2" | grep . || echo null; }
holds() { awk "BEGIN {exit !($1)}" 2>/dev/null; }
seconds() { awk "BEGIN {printf \"%.1f\", $2 - $1}"; }
now() { date +%s.%N; }
answer() { tr -d ' \n' <"$1" | grep -o '"ids":\[[0-9,]*\]'; }

checkpoints=("$repository"/models/mini-*)
if [ -n "$models_folder" ]; then
  for model in "$models_folder"/*/; do
    if grep -Eqs '"model_type": *"(gpt_oss|qwen3|qwen3_moe)"' "$model/config.json"; then checkpoints+=("${model%/}"); fi
  done
fi

section_tests() {
  local test start status log took
  for test in cuda_ops_test cuda_models_test; do
    log=$out/$test.log
    start=$(now)
    "$tests/$test" --gtest_brief=1 >"$log" 2>&1
    status=$?
    took=$(seconds "$start" "$(now)")
    grep -q 'PASSED' "$log" && ! grep -q SKIPPED "$log" || status=1
    claim $status "$test: $(sed -n 's/.*PASSED.*\] *//p' "$log") in $took s" "$log"
    row tests "{\"program\": \"$test\", \"passed\": $(sed -n 's/.*PASSED  *\] \([0-9]*\).*/\1/p' "$log" | grep . || echo 0), \
\"failed\": $(grep -c '^\[  FAILED  \].*ms)' "$log"), \"seconds\": $took}"
  done
}

section_verify() {
  local model precision log
  for model in "${checkpoints[@]}"; do
    for precision in exact default; do
      log=$out/verify-${model##*/}-$precision
      "$binary" verify "$model" --reference "$model/reference.json" --device cuda --precision $precision --json \
        >"$log.json" 2>"$log.log"
      claim $? "verify --precision $precision ${model##*/}: first choice $(total top_choice_share "$log.json"), \
$(total ties "$log.json") ties, largest logit difference $(total logit_difference "$log.json"), \
$(total logit_bound_share "$log.json") of its bound" "$log.log"
      row verify "$(printf '{"model": "%s", "precision": "%s"' "${model##*/}" $precision
        for key in tokens top_choice_share ties logit_difference logit_bound_share failed; do
          printf ', "%s": %s' $key "$(total $key "$log.json")"
        done)}"
    done
  done
}

median() { sed -n "/\"$1\"/,/}/s/.*\"median\": \([-+0-9.eE]*\).*/\1/p" "$2"; }
section_latency() {
  local model log decode prefill
  for model in "${checkpoints[@]}"; do
    log=$out/latency-${model##*/}
    "$binary" bench latency "$model" --device cuda --prompt-tokens 128 --output-tokens 64 --repeats 3 --json \
      >"$log.json" 2>"$log.log"
    decode=$(median decode_seconds_per_token "$log.json")
    prefill=$(median prefill_seconds "$log.json")
    holds "${decode:-0} > 0 && ${decode:-9} < 0.05 && ${prefill:-9} < 0.5"
    claim $? "bench latency ${model##*/}: prompt of 128 tokens ${prefill:-?} s, ${decode:-?} s per decoded token" "$log.log"
    row latency "{\"model\": \"${model##*/}\", \"prompt_tokens\": 128, \"prefill_seconds\": ${prefill:-null}, \
\"decode_seconds_per_token\": ${decode:-null}}"
  done
}

question="Gia is 24 years old. Dan is 8 years older than Gia. How old will Dan be in 9 years?"
# run_with NAME DEVICE [VARIABLE=VALUE...]: an answer of a small model into cli-NAME.json, messages into cli-NAME.log
run_with() {
  local name=$1 device=$2
  shift 2
  env "$@" "$binary" run "$repository/models/mini-gpt-oss" --device "$device" --prompt "$question" --max-tokens 24 --json \
    >"$out/cli-$name.json" 2>"$out/cli-$name.log"
}
# cli_claim STATUS TEXT [LOG]
cli_claim() {
  local state=ok
  [ "$1" = 0 ] || state=FAIL
  claim "$1" "$2" "${3:-}"
  row cli "{\"check\": \"${2%%: *}\", \"state\": \"$state\"}"
}
# goes_on NAME: the answer is the usual one, and one warning says that there is no cache.
goes_on() {
  [ "$(answer "$out/cli-$1.json")" = "$usual" ] && [ "$(grep -c 'going on without this cache' "$out/cli-$1.log")" = 1 ]
}
section_cli() {
  local usual first second start took pid entry status
  if ! run_with usual cuda; then cli_claim 1 "an answer of mini-gpt-oss" "$out/cli-usual.log"; return; fi
  usual=$(answer "$out/cli-usual.json")

  run_with unwritable cuda SABREWING_CACHE_DIR=/proc/sabrewing && goes_on unwritable
  cli_claim $? "a cache folder that cannot be made: $(grep -m 1 -o '\[cache\].*' "$out/cli-unwritable.log")" "$out/cli-unwritable.log"
  mkdir -p "$out/full"
  if mount -t tmpfs -o size=32k none "$out/full" 2>"$out/cli-full.log"; then
    run_with full cuda SABREWING_CACHE_DIR="$out/full" && goes_on full
    cli_claim $? "a full cache folder: $(grep -m 1 -o '\[cache\].*' "$out/cli-full.log")" "$out/cli-full.log"
    umount "$out/full"
  else
    skip "a full cache folder" "$(head -n 1 "$out/cli-full.log")"
  fi
  (
    trap '' XFSZ
    ulimit -f 8
    run_with limited cuda SABREWING_CACHE_DIR="$out/limited"
  ) && goes_on limited && [ -z "$(find "$out/limited" -type f)" ]
  cli_claim $? "a cache file that cannot be written whole: $(grep -m 1 -o '\[cache\].*' "$out/cli-limited.log")" "$out/cli-limited.log"

  run_with pair_a cuda SABREWING_CACHE_DIR="$out/pair" &
  first=$!
  run_with pair_b cuda SABREWING_CACHE_DIR="$out/pair" &
  second=$!
  status=0
  wait $first || status=1
  wait $second || status=1
  [ $status = 0 ] && [ "$(answer "$out/cli-pair_a.json")" = "$usual" ] && [ "$(answer "$out/cli-pair_b.json")" = "$usual" ] &&
    [ -z "$(find "$out/pair" -name '.writing-*')" ] && ! grep -q cache "$out"/cli-pair_?.log
  cli_claim $? "two processes with one empty cache: $(find "$out/pair" -type f | wc -l) entries after them" "$out/cli-pair_b.log"

  while IFS= read -r entry; do truncate -s 100 "$entry"; done < <(find "$out/pair" -type f)
  run_with damaged cuda SABREWING_CACHE_DIR="$out/pair" && [ "$(answer "$out/cli-damaged.json")" = "$usual" ] &&
    grep -q 'compiling it again' "$out/cli-damaged.log"
  cli_claim $? "damaged cache entries: compiled again" "$out/cli-damaged.log"

  "$binary" run "$repository/models/mini-gpt-oss" --prompt "$question" --max-tokens 2 >/dev/null 2>"$out/cli-auto.log" &&
    grep -q 'on cuda 0' "$out/cli-auto.log"
  cli_claim $? "--device auto with a GPU: $(grep -o 'on cuda 0, [^:]*' "$out/cli-auto.log")" "$out/cli-auto.log"
  CUDA_VISIBLE_DEVICES='' "$binary" run "$repository/models/mini-gpt-oss" --prompt "$question" --max-tokens 2 \
    >/dev/null 2>"$out/cli-none.log" && grep -q 'on cpu.*no GPU: .*CUDA_ERROR_NO_DEVICE' "$out/cli-none.log"
  cli_claim $? "--device auto without a GPU: $(grep -o 'no GPU: [^)]*)[^)]*' "$out/cli-none.log" | cut -c1-120)" "$out/cli-none.log"
  run_with none_cuda cuda CUDA_VISIBLE_DEVICES=
  [ $? = 1 ] && [ "$(wc -l <"$out/cli-none_cuda.log")" = 1 ] && grep -q 'no usable GPU: .*NO_DEVICE' "$out/cli-none_cuda.log"
  cli_claim $? "--device cuda without a GPU: $(cut -c1-120 "$out/cli-none_cuda.log")" "$out/cli-none_cuda.log"
  run_with ordinal cuda:7
  [ $? = 2 ] && grep -q 'cuda:7 not in' "$out/cli-ordinal.log"
  cli_claim $? "--device cuda:7: $(head -n 1 "$out/cli-ordinal.log")" "$out/cli-ordinal.log"

  "$binary" run "$repository/models/mini-qwen3" --device cuda --raw --prompt "$question" --ignore-eos --max-tokens 20000 \
    >"$out/cli-interrupt.txt" 2>"$out/cli-interrupt.log" &
  pid=$!
  for _ in $(seq 600); do
    [ -s "$out/cli-interrupt.txt" ] || ! kill -0 $pid 2>/dev/null && break
    sleep 0.05
  done
  start=$(now)
  kill -INT $pid
  wait $pid
  status=$?
  took=$(seconds "$start" "$(now)")
  [ $status = 1 ] && holds "$took < 2" && grep -q 'answer [1-9][0-9]* tokens' "$out/cli-interrupt.log"
  cli_claim $? "Ctrl-C while generating: exit status $status after $took s, $(grep -o 'answer [0-9]* tokens' "$out/cli-interrupt.log")" \
    "$out/cli-interrupt.log"
}

# agrees PROBLEMS SCORE SCORE: within 1.5 points; on a short set one problem weighs more.
agrees() { holds "${1:-0} > 0 && (${2:-9} - ${3:-0})^2 <= ((0.015 > 1.01 / $1 ? 0.015 : 1.01 / $1))^2"; }
section_eval() {
  local model device log scores problems threads=$(($(nproc) / ${#checkpoints[@]}))
  for model in "${checkpoints[@]}"; do
    for device in cpu cuda; do
      log=$out/eval-${model##*/}-$device
      "$binary" eval "$model" --task "$task" --limit "$limit" --device $device --threads $((threads > 0 ? threads : 1)) \
        --json >"$log.json" 2>"$log.log" &
    done
  done
  wait
  for model in "${checkpoints[@]}"; do
    log=$out/eval-${model##*/}
    scores=()
    for device in cpu cuda; do scores+=("$(value 'exact_match,strict-match' "$log-$device.json")"); done
    problems=$(value effective "$log-cuda.json")
    agrees "$problems" "${scores[1]}" "${scores[0]}"
    claim $? "eval ${model##*/}, ${problems:-?} problems: GPU ${scores[1]:-?} in $(value seconds "$log-cuda.json") s, \
CPU ${scores[0]:-?} in $(value seconds "$log-cpu.json") s, all models at once" "$log-cuda.log"
    row eval "{\"model\": \"${model##*/}\", \"problems\": ${problems:-0}, \"gpu\": ${scores[1]:-null}, \"cpu\": ${scores[0]:-null}}"
  done
}

# Many requests in one step: the same problems, 32 at a time, through the server.
section_server() {
  local model log server address score problems cpu
  for model in "${checkpoints[@]}"; do
    log=$out/server-${model##*/}
    "$binary" serve "$model" --device cuda --port 0 >"$log.server" 2>&1 &
    server=$!
    for _ in $(seq 300); do
      address=$(sed -n 's/^listening *\(http[^ ]*\).*/\1/p' "$log.server")
      [ -z "$address" ] && kill -0 $server 2>/dev/null || break
      sleep 0.1
    done
    "$binary" eval --base-url "$address" --task "$task" --limit "$limit" --num-concurrent 32 --json >"$log.json" 2>"$log.log"
    [ -s "$out/eval-${model##*/}-cpu.json" ] ||
      "$binary" eval "$model" --task "$task" --limit "$limit" --device cpu --json >"$out/eval-${model##*/}-cpu.json" 2>>"$log.log"
    kill -TERM $server 2>/dev/null
    wait $server || echo "exit status $? of the server" >>"$log.log"
    score=$(value 'exact_match,strict-match' "$log.json")
    cpu=$(value 'exact_match,strict-match' "$out/eval-${model##*/}-cpu.json")
    problems=$(value effective "$log.json")
    agrees "$problems" "$score" "$cpu" && ! grep -q 'exit status' "$log.log"
    claim $? "serve ${model##*/}, $problems problems, 32 at a time: GPU ${score:-?} in $(value seconds "$log.json") s, CPU ${cpu:-?}" "$log.log"
    row server "{\"model\": \"${model##*/}\", \"problems\": ${problems:-0}, \"at_once\": 32, \"gpu\": ${score:-null}, \
\"cpu\": ${cpu:-null}, \"seconds\": $(value seconds "$log.json" | grep . || echo null)}"
  done
}

section_sanitizers() {
  local sanitizer model tool log status summary
  local -A processes=()
  sanitizer=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null) ||
    { skip "sanitizers" "compute-sanitizer is not installed"; return; }
  for model in mini-gpt-oss mini-qwen3-moe; do
    for tool in memcheck racecheck initcheck synccheck; do
      log=$out/sanitizer-$model-$tool.log
      timeout 150 "$sanitizer" --tool $tool --error-exitcode 9 "$binary" run "$repository/models/$model" --device cuda \
        --max-tokens 8 --prompt "$question" >"$log" 2>&1 &
      processes[$model-$tool]=$!
    done
  done
  for model in mini-gpt-oss mini-qwen3-moe; do
    for tool in memcheck racecheck initcheck synccheck; do
      log=$out/sanitizer-$model-$tool.log
      wait "${processes[$model-$tool]}"
      status=$?
      summary=$(grep -oE '(ERROR|RACECHECK) SUMMARY.*' "$log")
      if grep -q 'Device not supported' "$log"; then
        skip "compute-sanitizer $tool, $model" "it does not support this device here"
        row sanitizers "{\"tool\": \"$tool\", \"model\": \"$model\", \"state\": \"not supported here\"}"
        continue
      fi
      [ $status = 0 ] && grep -q 'answer [1-9][0-9]* tokens' "$log" && [ -n "$summary" ]
      status=$?
      claim $status "compute-sanitizer $tool, one generation of $model: ${summary:-no summary}" "$log"
      row sanitizers "{\"tool\": \"$tool\", \"model\": \"$model\", \"state\": \"${summary:-failed}\"}"
    done
  done
}

write_results() {
  local driver section
  driver=$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)
  {
    printf '{\n "machine": {"device": "%s", "driver": "%s", "compiler": "%s"},\n' \
      "$(sed -n 's/^gpu 0 *yes *\([^,]*\),.*/\1/p' "$out/doctor.txt")" \
      "${driver:-$(sed -n 's/^NVIDIA driver *yes *//p' "$out/doctor.txt")}" \
      "$(sed -n 's/^run-time compiler *yes *\([^ ]*\) .*/\1/p' "$out/doctor.txt")"
    printf ' "version": "%s",\n "commit": "%s",\n' "$("$binary" --version)" \
      "${commit:-$(git -C "$repository" rev-parse HEAD)}"
    printf ' "command": "tests/acceptance/gpu_models.sh --models FOLDER --task FILE --out FOLDER --results FILE"'
    for section in $sections; do
      [ -s "$out/rows.$section" ] || continue
      printf ',\n "%s": [\n' "$section"
      sed -e 's/^{/  {/' -e 's/}$/},/' -e '$s/,$//' "$out/rows.$section"
      printf ' ]'
    done
    printf '\n}\n'
  } >"$results"
}

rm -f "$out"/rows.*
: >"$out/table.txt"
"$binary" doctor >"$out/doctor.txt" 2>&1
grep -E '^ *(gpu|NVIDIA|run-time)' "$out/doctor.txt"
for section in $sections; do
  case ",${only:-$section}," in *",$section,"*) ;; *) continue ;; esac
  begin=$SECONDS
  "section_$section"
  echo "      section $section: $((SECONDS - begin)) s"
done
[ -z "$results" ] || write_results
printf '%s\n' "logs and JSON: $out"
exit $broken
