#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "jit/driver.h"
#include "kernels/cuda/bench/gemm_bench.h"
#include "kernels/cuda/bench/random_weight.h"

namespace sabrewing::kernels::cuda {
namespace {

using ::testing::HasSubstr;

TEST(GemmBenchCases, BuiltIn) {
  const GemmBenchCases cases = default_gemm_bench_cases();
  const auto has = [&](std::int64_t n, std::int64_t k) {
    for (const GemmBenchShape& shape : cases.shapes)
      if (shape.n == n && shape.k == k) return true;
    return false;
  };
  for (const auto& [n, k] : {std::pair{4096, 4096},
                             {8192, 8192},
                             {8192, 28672},
                             {28672, 8192},
                             {5120, 2880},
                             {2880, 4096},
                             {5120, 2048},
                             {2048, 4096},
                             {1536, 4096},
                             {4096, 8192}})
    EXPECT_TRUE(has(n, k)) << n << "x" << k;
  EXPECT_EQ(cases.m.front(), 1);
  EXPECT_EQ(cases.m.back(), 8192);
  for (const std::string& name : cases.weights) EXPECT_NO_THROW(format_by_name(name));
}

TEST(GemmBenchCases, MalformedFilesAreRefusedWithTheField) {
  const auto refused = [](const char* json, const char* part) {
    try {
      parse_gemm_bench_cases(json, "shapes.json");
      FAIL() << "no error: " << json;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kCorrupt);
      EXPECT_THAT(error.what(), HasSubstr("shapes.json"));
      EXPECT_THAT(error.what(), HasSubstr(part));
    }
  };
  refused("[]", "\"shapes\"");
  refused("{", "");
  refused(R"({"shapes": []})", "\"shapes\"");
  refused(R"({"shapes": [3]})", "\"name\"");
  refused(R"({"shapes": [{"name": 1}]})", "name is no text");
  refused(R"({"shapes": [{"name": "a", "n": 0, "k": 8}]})", "n is 0");
  refused(R"({"shapes": [{"name": "a", "n": 8, "k": 8.5}]})", "k is no integer");
  refused(R"({"shapes": [{"name": "a", "n": 8, "k": 4294967296}]})", "k is 4294967296");
  refused(R"({"shapes": [{"name": "a", "n": 8, "k": 8}], "m": 1})", "\"m\"");
  refused(R"({"shapes": [{"name": "a", "n": 8, "k": 8}], "m": [1], "weights": [2]})", "weights is no text");
}

TEST(GemmBenchRows, JsonHasTheKeysOfEveryImplementation) {
  GemmBenchResult result;
  result.device = "a device";
  result.driver_version = 13000;
  GemmBenchRow measured;
  measured.shape.n = 5120;
  measured.shape.k = 2880;
  measured.m = 16;
  measured.weights = "mxfp4";
  measured.activations = "bf16";
  measured.us = 9.5;
  measured.floor_us = 2.1;
  measured.error = 1.6e-3;
  result.rows.push_back(measured);
  result.refusals.push_back("why");
  const auto json = nlohmann::json::parse(gemm_bench_json(result));
  const auto& row = json.at("rows").at(0);
  EXPECT_EQ(row.at("n"), 5120);
  EXPECT_EQ(row.at("k"), 2880);
  EXPECT_EQ(row.at("m"), 16);
  EXPECT_EQ(row.at("weights"), "mxfp4");
  EXPECT_EQ(row.at("activations"), "bf16");
  EXPECT_EQ(row.at("impl"), "sabrewing");
  EXPECT_EQ(row.at("us"), 9.5);
  EXPECT_EQ(row.at("floor_us"), 2.1);
  EXPECT_EQ(row.at("error"), 1.6e-3);
  EXPECT_EQ(json.at("machine").at("driver_cuda"), "13.0");
  EXPECT_EQ(json.at("refused").at(0), "why");
}

TEST(GemmBenchRun, RefusesWithTheReason) {
  GemmBenchOptions options;
  EXPECT_THROW(run_gemm_bench(options), Error);
  options.cases = default_gemm_bench_cases();
  options.cases.weights = {"int99"};
  try {
    run_gemm_bench(options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("int99"));
  }
  if (const Feasibility driver = jit::driver_available(); driver) GTEST_SKIP() << "this machine has a GPU";
  options.cases.weights = {"mxfp4"};
  try {
    run_gemm_bench(options);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kDevice);
  }
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
