#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "formats/numeric/element_type.h"
#include "jit/driver.h"
#include "kernels/cuda/bench/gemm_bench.h"
#include "kernels/cuda/bench/random_activations.h"
#include "kernels/cuda/bench/random_weight.h"
#include "kernels/cuda/bench/tuner.h"

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
  refused(R"({"shapes": [{"name": "a", "n": 8, "k": 8}], "m": [1], "weights": ["mxfp4"], "activations": []})",
          "\"activations\"");
  refused(
      R"({"shapes": [{"name": "a", "n": 8, "k": 8}], "m": [1], "weights": ["mxfp4"], "activations": [1]})",
      "activations is no text");
}

TEST(GemmBenchCases, ActivationsAreBf16UnlessListed) {
  const std::string head = R"({"shapes": [{"name": "a", "n": 96, "k": 192}, {"name": "b", "n": 96, "k": 256}],
      "m": [1], "weights": ["int4g128", "fp8row"])";
  EXPECT_EQ(parse_gemm_bench_cases(head + "}", "file").activations, std::vector<std::string>{"bf16"});
  const GemmBenchCases cases =
      parse_gemm_bench_cases(head + R"(, "activations": ["bf16", "int8tok"]})", "file");
  std::vector<std::string> names;
  for (const GemmBenchCase& one : every_case(cases)) names.push_back(one.name());
  EXPECT_THAT(names, ::testing::ElementsAre("int4g64 x bf16 96x192", "int4g128 x bf16 96x256",
                                            "int4g64 x int8tok 96x192", "int4g128 x int8tok 96x256",
                                            "fp8row x bf16 96x192", "fp8row x bf16 96x256",
                                            "fp8row x int8tok 96x192", "fp8row x int8tok 96x256"));
}

TEST(GemmBenchCases, ProblemsHaveTheFormatsOfTheirNames) {
  using formats::ActivationFormat;
  const auto activation = [](const char* name) {
    return gemm_bench_case({"a", 4096, 2880}, "int4g128", name).desc.activation;
  };
  const GemmBenchCase one = gemm_bench_case({"a", 4096, 2880}, "int4g128", "bf16");
  EXPECT_EQ(one.desc.weight,
            formats::WeightFormat::scaled(formats::ElementType::integer(4), {1, 64}, formats::kBF16));
  EXPECT_EQ(one.desc.n, 4096);
  EXPECT_EQ(one.desc.k, 2880);
  EXPECT_EQ(activation("bf16"), ActivationFormat::bf16());
  EXPECT_EQ(activation("fp8tok"), ActivationFormat::per_token(formats::kE4M3));
  EXPECT_EQ(activation("int8tok"), ActivationFormat::per_token(formats::ElementType::integer(8)));
  EXPECT_EQ(activation("fp8tensor"), ActivationFormat::per_tensor(formats::kE4M3));
  EXPECT_EQ(activation("fp8g128"), ActivationFormat::per_group(formats::kE4M3, 128, formats::kFP32));
  EXPECT_EQ(gemm_bench_case({"a", 8, 8}, "fp8tensor", "fp8tensor").desc.weight.block,
            (formats::BlockShape{0, 0}));
  EXPECT_THROW(activation("fp9"), Error);
}

TEST(RandomActivations, CodesTimesScalesAreTheValues) {
  for (const char* name : {"bf16", "fp8", "int8", "fp8tensor", "fp8g128", "mxfp8", "int4", "mxfp4"}) {
    const std::int64_t m = 5, k = 160, first = 3;
    const RandomActivations x(activation_by_name(name), m, k);
    const std::vector<float> values = x.values(), scales = x.scale_values();
    ASSERT_EQ(values.size(), 800u) << name;
    const formats::ElementType type = x.stored();
    const auto bytes = static_cast<std::size_t>(type.bits / 8);
    ASSERT_EQ(x.codes.size(), 800 * bytes) << name;
    double sum = 0;
    for (std::size_t t = 0; t < 5; ++t)
      for (std::size_t c = 0; c < 160; ++c) {
        std::uint32_t code = 0;
        std::memcpy(&code, x.codes.data() + (t * 160 + c) * bytes, bytes);
        const std::size_t group = std::string(name) == "fp8g128"        ? c / 128
                                  : std::string(name).starts_with("mx") ? c / 32
                                                                        : 0;
        const float scale = scales.empty() ? 1.0f : scales[group * 5 + t];
        EXPECT_EQ(values[t * 160 + c], formats::decode(type, code) * scale) << name;
        sum += values[t * 160 + c] * values[t * 160 + c];
      }
    EXPECT_NEAR(sum / 800, 1.4, 0.8) << name;
    const std::vector<std::byte> some = x.scales_of(first);
    EXPECT_EQ(some.size() * 5, x.scales.size() * 3) << name;
    if (std::string(name) == "fp8tensor") {
      EXPECT_THAT(scales, ::testing::Each(scales[0]));
    }
    if (std::string(name) != "fp8g128") continue;
    ASSERT_EQ(scales.size(), 10u);
    EXPECT_EQ(std::memcmp(some.data() + 12, x.scales.data() + 20, 12), 0);  // the second group's
  }
}

TEST(Race, OnlyTheFastestAndTheModelsFirstAreTimedWithCare) {
  const std::vector<double> first{9, 3, 4, 2, 8, 5}, second{8.5, 3.1, 2.5, 1e9, 0.1, 0.1};
  std::vector<std::size_t> cared;
  const auto quick = [&](std::size_t i) { return std::optional(first[i]); };
  const auto careful = [&](std::size_t i) -> std::optional<double> {
    cared.push_back(i);
    if (i == 3) return std::nullopt;  // wrong
    return second[i];
  };
  const std::vector<TimedCandidate> timed = race(first.size(), 2, quick, careful);
  EXPECT_THAT(cared, ::testing::ElementsAre(3, 1, 2, 0));
  std::vector<std::size_t> order;
  for (const TimedCandidate& one : timed) order.push_back(one.index);
  EXPECT_THAT(order, ::testing::ElementsAre(2, 1, 0, 5, 4));
  EXPECT_EQ(timed[0].us, 2.5);
  EXPECT_TRUE(timed[2].careful);
  EXPECT_FALSE(timed[3].careful);
  EXPECT_EQ(timed[3].us, 5);
}

TEST(Race, NoRightCandidate) {
  const auto none = [](std::size_t) { return std::optional<double>(); };
  EXPECT_TRUE(race(4, 3, none, none).empty());
  EXPECT_TRUE(race(0, 3, none, none).empty());
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
  options.cases.activations = {"fp9"};
  EXPECT_THROW(run_gemm_bench(options), Error);
  options.cases.activations = {"fp8"};
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
