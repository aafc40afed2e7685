// The kernel benchmark: its shapes file, its bookkeeping on a tiny run, its thresholds.

#include <gtest/gtest.h>

#include <algorithm>

#include "core/error.h"
#include "core/json.h"
#include "kernels/cpu/bench.h"

namespace sabrewing::kernels::cpu {
namespace {

TEST(CpuBench, DefaultCases) {
  const std::vector<KernelBenchCase> cases = default_kernel_bench_cases();
  ASSERT_FALSE(cases.empty());
  const auto has = [&](std::int64_t n, std::int64_t m, bool experts) {
    return std::any_of(cases.begin(), cases.end(), [&](const KernelBenchCase& c) {
      return c.n == n && c.m == m && (c.intermediate > 0) == experts &&
             c.min_read_fraction + c.min_op_fraction > 0;
    });
  };
  for (const std::int64_t n : {5760, 2880, 5120})
    for (const std::int64_t m : {1, 128}) EXPECT_TRUE(has(n, m, false)) << n << " " << m;
  EXPECT_TRUE(has(2880, 128, true));
}

TEST(CpuBench, BadShapesFilesNameTheField) {
  const auto message = [](const char* text) -> std::string {
    try {
      parse_kernel_bench_cases(text, "shapes.json");
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_NE(message("[]").find("shapes.json"), std::string::npos);
  EXPECT_NE(message(R"({"gemm": {}})").find("gemm"), std::string::npos);
  EXPECT_NE(message(R"({"gemm": [{"weight": "int3", "m": 1, "n": 1, "k": 1}]})").find("int3"),
            std::string::npos);
  EXPECT_NE(message(R"({"gemm": [{"weight": "bf16", "m": 1, "n": 1}]})").find("\"k\""), std::string::npos);
  EXPECT_NE(message(R"({"gemm": [{"weight": "bf16", "m": -1, "n": 1, "k": 1}]})").find("\"m\""),
            std::string::npos);
  EXPECT_NE(message(R"({"gemm": [{"weight": "bf16", "m": 0, "n": 1, "k": 1}]})").find("size of 0"),
            std::string::npos);
  EXPECT_NE(
      message(R"({"gemm": [{"weight": "bf16", "m": 1, "n": 1, "k": 1, "accuracy": "fast"}]})").find("fast"),
      std::string::npos);
  EXPECT_NE(message(R"({"experts": [{"name": "x", "weight": "bf16", "m": 1, "hidden": 8, "intermediate": 8,
                       "experts": 2, "top_k": 3}]})")
                .find("top 3"),
            std::string::npos);
}

TEST(CpuBench, TinyRun) {
  KernelBenchOptions options;
  options.cases = parse_kernel_bench_cases(R"({
    "gemm": [{"weight": "mxfp4", "m": 2, "n": 64, "k": 64, "threads": 1, "min_read_fraction": 1e9},
             {"weight": "bf16", "m": 3, "n": 33, "k": 31, "accuracy": "exact", "min_op_fraction": 1e-12}],
    "experts": [{"name": "tiny", "weight": "mxfp4", "m": 2, "hidden": 64, "intermediate": 32, "experts": 4,
                 "top_k": 2, "activation": "clamped_swiglu"}]})",
                                           "test");
  options.threads = 2;
  options.passes = 1;
  options.rotate_bytes = std::size_t{1} << 16;
  std::size_t calls = 0;
  options.progress = [&](std::size_t step, std::size_t steps, const std::string&) {
    EXPECT_EQ(step, calls++);
    EXPECT_EQ(steps, 3u + 2 * 2);
    return true;
  };
  const KernelBenchResult result = run_kernel_bench(options);
  ASSERT_EQ(result.rows.size(), 3u);
  EXPECT_TRUE(result.complete);
  EXPECT_EQ(result.rows[0].threads, 1);
  EXPECT_EQ(result.rows[1].threads, 2);
  EXPECT_EQ(result.rows[0].ops, 2.0 * 2 * 64 * 64);
  EXPECT_EQ(result.rows[2].ops, 6.0 * 2 * 2 * 64 * 32);
  EXPECT_GT(result.rows[0].seconds, 0);
  EXPECT_LE(result.rows[0].seconds, result.rows[0].median_seconds);
  EXPECT_GE(result.rows[0].weight_bytes, 64 * 64 / 2);
  const std::vector<std::string> failures = check_kernel_bench(result);
  ASSERT_EQ(failures.size(), 1u);
  EXPECT_NE(failures[0].find("64x64 mxfp4 M 2"), std::string::npos);
  const Json json = parse_json(kernel_bench_json(result), "result");
  EXPECT_EQ(json.at("rows").size(), 3u);
  EXPECT_EQ(json.at("rates").size(), 2u);
  EXPECT_NE(format_kernel_bench(result).find("tiny 4 experts top 2"), std::string::npos);

  options.progress = [](std::size_t step, std::size_t, const std::string&) { return step < 3; };
  const KernelBenchResult stopped = run_kernel_bench(options);
  EXPECT_FALSE(stopped.complete);
  EXPECT_EQ(stopped.rows.size(), 1u);
  options.passes = 0;
  EXPECT_THROW(run_kernel_bench(options), Error);
}

}  // namespace
}  // namespace sabrewing::kernels::cpu
