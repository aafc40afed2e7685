// Long contexts and odd shapes against transformers in FP32: scripts/make_model_goldens.py makes the data.
#include <gtest/gtest.h>

#include "kernels/cpu/cpu_backend.h"
#include "model_golden.h"

namespace sabrewing {
namespace {

struct Setting {
  int threads = 2;
  std::int64_t chunk = 512;
  std::int64_t block_size = 16;
  std::string tier;
};

std::vector<float> run(const std::string& name, const std::vector<std::int32_t>& prompt,
                       const Setting& setting) {
  const auto backend = kernels::cpu::make_cpu_backend({setting.threads, setting.tier});
  return golden_logits(*backend, kernels::Accuracy::kExact, name, prompt, setting.chunk, setting.block_size);
}

class CpuModelGolden : public testing::TestWithParam<std::string> {};

TEST_P(CpuModelGolden, ExactWithinBound) {
  const ModelGolden golden = ModelGolden::read(GetParam());
  const float largest = golden.largest_difference(run(GetParam(), golden.prompt, {}));
  EXPECT_LE(largest, 2e-3F);
  std::printf("%s: %zu tokens, largest logit difference %.2e\n", GetParam().c_str(), golden.prompt.size(),
              largest);
}

TEST_P(CpuModelGolden, ExactIsBitwiseIndependentOfTheSchedule) {
  ModelGolden golden = ModelGolden::read(GetParam());
  golden.prompt.resize(std::min<std::size_t>(golden.prompt.size(), 300));
  const std::vector<float> expected = run(GetParam(), golden.prompt, {});
  Setting setting;
  for (const std::int64_t chunk : {1, 7, 64, 300}) {
    for (const std::int64_t block_size : {1, 16, 37}) {
      for (const int threads : {1, 2}) {
        setting.chunk = chunk;
        setting.block_size = block_size;
        setting.threads = threads;
        EXPECT_EQ(expected, run(GetParam(), golden.prompt, setting))
            << "chunk " << chunk << ", block size " << block_size << ", threads " << threads;
      }
    }
  }
  EXPECT_EQ(expected, run(GetParam(), golden.prompt, {})) << "repeated";
}

TEST_P(CpuModelGolden, SomeRowsAreThoseOfAll) {
  ModelGolden golden = ModelGolden::read(GetParam());
  golden.prompt.resize(std::min<std::size_t>(golden.prompt.size(), 60));
  const std::vector<float> all = run(GetParam(), golden.prompt, {});
  const auto backend = kernels::cpu::make_cpu_backend({2, ""});
  for (const std::vector<std::int32_t>& rows : kSomeRows)
    EXPECT_TRUE(are_rows_of(
        golden_logits_of_rows(*backend, kernels::Accuracy::kExact, GetParam(), golden.prompt, 23, rows), all,
        golden.prompt.size(), 23, rows))
        << testing::PrintToString(rows);
}

TEST_P(CpuModelGolden, TiersAgree) {
  ModelGolden golden = ModelGolden::read(GetParam());
  golden.prompt.resize(std::min<std::size_t>(golden.prompt.size(), 200));
  Setting setting;
  setting.tier = "scalar";
  const std::vector<float> scalar = run(GetParam(), golden.prompt, setting);
  setting.tier.clear();
  const std::vector<float> best = run(GetParam(), golden.prompt, setting);
  ASSERT_EQ(scalar.size(), best.size());
  for (std::size_t i = 0; i < scalar.size(); ++i) ASSERT_NEAR(scalar[i], best[i], 2e-3F) << i;
}

INSTANTIATE_TEST_SUITE_P(Data, CpuModelGolden, testing::ValuesIn(golden_names()),
                         [](const auto& test) { return golden_test_name(test.param); });

}  // namespace
}  // namespace sabrewing
