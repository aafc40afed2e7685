#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "../models/model_golden.h"
#include "engine/generator.h"
#include "engine/verify.h"
#include "kernels/cuda/backend/cuda_backend.h"

namespace sabrewing::engine {
namespace {

class CudaModels : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (const Feasibility usable = kernels::cuda::cuda_usable({}); !usable) GTEST_SKIP() << usable.reason;
  }

  void verify(kernels::Accuracy accuracy) {
    LoadOptions options;
    options.model = std::filesystem::path(SABREWING_SOURCE_DIR) / "models" / GetParam();
    options.device = "cuda";
    options.accuracy = accuracy;
    const ReferenceFile reference = read_reference(options.model / "reference.json");
    LoadedModel model = open_model(options);
    EXPECT_EQ(model.backend->name(), "cuda");
    load_weights(model, options);
    Generator generator(model, {});
    float largest = 0;
    for (const ReferenceCase& one : reference.cases) {
      VerifyBounds bounds = VerifyBounds::exact();
      if (accuracy != kernels::Accuracy::kExact)
        bounds = {0.1f, bf16_logit_bound(one, model.decoder->spec().layers.size())};
      const CaseResult result = verify_case(model, generator.runner(), one, reference.ignore_eos, bounds);
      for (const std::string& failure : result.failures) ADD_FAILURE() << one.name << ": " << failure;
      largest = std::max(largest, result.logit_difference / *bounds.logits);
    }
    RecordProperty("largest_share_of_the_bound", std::to_string(largest));
  }
};

TEST_P(CudaModels, ExactMatchesReference) { verify(kernels::Accuracy::kExact); }
TEST_P(CudaModels, DefaultStaysWithinTheBf16Bound) { verify(kernels::Accuracy::kDefault); }

INSTANTIATE_TEST_SUITE_P(Gpu, CudaModels, testing::Values("mini-gpt-oss", "mini-qwen3", "mini-qwen3-moe"),
                         [](const auto& test) { return golden_test_name(test.param); });

class CudaModelGolden : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (const Feasibility usable = kernels::cuda::cuda_usable({}); !usable) GTEST_SKIP() << usable.reason;
    backend_ = kernels::cuda::make_cuda_backend({0, kernels::Accuracy::kExact});
  }

  std::vector<float> run(std::span<const std::int32_t> prompt, std::int64_t chunk, std::int64_t block_size) {
    return golden_logits(*backend_, kernels::Accuracy::kExact, GetParam(), prompt, chunk, block_size);
  }

  std::unique_ptr<kernels::Backend> backend_;
};

TEST_P(CudaModelGolden, ExactWithinBound) {
  const ModelGolden golden = ModelGolden::read(GetParam());
  const float largest = golden.largest_difference(run(golden.prompt, 512, 16));
  EXPECT_LE(largest, 2e-3F);
  std::printf("%s: %zu tokens, largest logit difference %.2e\n", GetParam().c_str(), golden.prompt.size(),
              largest);
}

TEST_P(CudaModelGolden, ExactIsBitwiseIndependentOfTheSchedule) {
  ModelGolden golden = ModelGolden::read(GetParam());
  golden.prompt.resize(std::min<std::size_t>(golden.prompt.size(), 150));
  const std::vector<float> expected = run(golden.prompt, 512, 16);
  for (const std::int64_t chunk : {1, 7, 64})
    for (const std::int64_t block_size : {1, 37}) {
      const std::vector<float> logits = run(golden.prompt, chunk, block_size);
      EXPECT_TRUE(logits.size() == expected.size() &&
                  std::memcmp(logits.data(), expected.data(), logits.size() * sizeof(float)) == 0)
          << "chunk " << chunk << ", block size " << block_size;
    }
}

TEST_P(CudaModelGolden, SomeRowsAreThoseOfAll) {
  ModelGolden golden = ModelGolden::read(GetParam());
  golden.prompt.resize(std::min<std::size_t>(golden.prompt.size(), 60));
  const std::vector<float> all = run(golden.prompt, 512, 16);
  for (const std::vector<std::int32_t>& rows : kSomeRows)
    EXPECT_TRUE(are_rows_of(
        golden_logits_of_rows(*backend_, kernels::Accuracy::kExact, GetParam(), golden.prompt, 23, rows), all,
        golden.prompt.size(), 23, rows))
        << testing::PrintToString(rows);
}

INSTANTIATE_TEST_SUITE_P(Gpu, CudaModelGolden, testing::ValuesIn(golden_names()),
                         [](const auto& test) { return golden_test_name(test.param); });

}  // namespace
}  // namespace sabrewing::engine
