#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "engine/generator.h"
#include "engine/verify.h"
#include "kernels/cuda/backend/cuda_backend.h"

namespace sabrewing::engine {
namespace {

/// How far BF16 activations move the logits. A rounding changes a value by at most half a unit in the last
/// place, uniformly: 2^-8 / sqrt(3) of it in the root mean square. On the way through a layer a value is
/// rounded at most ten times (norm, qkv, q/k norm, rotary embedding, attention, output; norm, gate and up,
/// activation, down), then by the last norm. Taken as independent, and as passed on whole although the FP32
/// residual carries most of the value past them, they add up to sqrt(10 L + 1) of one rounding. Six standard
/// deviations leave no chance to any of the vocabulary's logits.
float bf16_logit_bound(const ReferenceCase& reference, std::size_t layers) {
  double squares = 0;
  for (const double logit : reference.last_logits) squares += logit * logit;
  const double size = std::sqrt(squares / static_cast<double>(reference.last_logits.size()));
  const double rounding = std::ldexp(1, -8) / std::sqrt(3.0);
  return static_cast<float>(6 * rounding * std::sqrt(10.0 * static_cast<double>(layers) + 1) * size);
}

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
                         [](const auto& test) {
                           std::string name = test.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace sabrewing::engine
