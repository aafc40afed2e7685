#!/usr/bin/env bash
# ThreadSanitizer on everything that has threads: engine, server, thread pool and the CPU kernels over it.
set -uo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/acceptance/tsan.sh [--slow]

Builds the tests of the engine, the server and the CPU kernels with Clang 19 and ThreadSanitizer in build/tsan and runs
them. There is no suppression file: every report is a failure. Needs the packages clang-19 and libclang-rt-19-dev.

  --slow   also batching_test and server_soak_test (20,000 requests)

Exit status: 0 no report and every test passed, 1 otherwise, 2 wrong usage.
TEXT
}

slow=0
while [ $# -gt 0 ]; do
  case $1 in
    --help) usage; exit 0 ;;
    --slow) slow=1; shift ;;
    *) usage >&2; exit 2 ;;
  esac
done
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 1
. scripts/lib/setup.sh

tests=(core_test scheduler_test engine_test server_protocol_test server_socket_test cpu_gemm_test cpu_ops_test)
[ $slow = 0 ] || tests+=(batching_test server_soak_test)

# The stacks of a report need lines, not variables.
configure tsan -DSABREWING_BUILD_TESTS=ON "-DCMAKE_CXX_FLAGS_RELWITHDEBINFO=-O1 -gline-tables-only" || exit 1
ninja -C build/tsan -j "$(build_jobs)" "${tests[@]}" | tail -n 40 || exit 1
echo "built after $(elapsed)"

export TSAN_OPTIONS="second_deadlock_stack=1 exitcode=66 ${TSAN_OPTIONS:-}"
names=$(printf '%s|' "${tests[@]}")
ctest --test-dir build/tsan -R "^(${names%|})\$" --output-on-failure --no-tests=error --timeout 1800 || exit 1
echo "ThreadSanitizer: ${#tests[@]} test programs, no report, $(elapsed)"
