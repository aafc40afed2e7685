// Loading: sources are given back while they are packed, and what is planned is what is held.

#include "engine/loader.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "engine/generator.h"
#include "models/dummy_source.h"

namespace sabrewing::engine {
namespace {

constexpr const char* kGptOss = R"({"model_type": "gpt_oss", "vocab_size": 1000, "hidden_size": 128,
  "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
  "head_dim": 32, "max_position_embeddings": 4096, "num_local_experts": 6, "num_experts_per_tok": 2,
  "sliding_window": 16, "tie_word_embeddings": false, "eos_token_id": 1,
  "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert":
    ["model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head"]}})";
constexpr const char* kQwen3Moe = R"({"model_type": "qwen3_moe", "vocab_size": 1000, "hidden_size": 128,
  "intermediate_size": 96, "moe_intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
  "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 4096, "num_experts": 6,
  "num_experts_per_tok": 2, "mlp_only_layers": [1], "tie_word_embeddings": true, "eos_token_id": 1})";

class ConfigFile {
 public:
  explicit ConfigFile(const char* text)
      : path_(std::filesystem::temp_directory_path() / ("sabrewing_loader_" + std::to_string(::getpid()))) {
    std::ofstream(path_) << text;
  }
  ~ConfigFile() { std::filesystem::remove(path_); }
  ConfigFile(const ConfigFile&) = delete;
  ConfigFile& operator=(const ConfigFile&) = delete;

  LoadedModel open() const {
    LoadOptions options;
    options.model = path_;
    options.device = "cpu";
    options.threads = 2;
    options.dummy = true;
    return open_model(options);
  }

 private:
  std::filesystem::path path_;
};

/// Overwrites what is discarded at once, to the byte.
class ForgetfulSource final : public models::TensorSource {
 public:
  DType dtype_of(const std::string& name, std::initializer_list<DType> accepted) const override {
    return inner_.dtype_of(name, accepted);
  }
  bool has(const std::string& name) const override { return inner_.has(name); }
  TensorView take(const std::string& name, const Shape& shape,
                  std::initializer_list<DType> accepted) override {
    const TensorView tensor = inner_.take(name, shape, accepted);
    if (shape.rank() > 1 && name.find("bias") == std::string::npos) matrices_ += tensor.bytes.size();
    return tensor;
  }
  void discard(std::span<const std::byte> part) override {
    discarded_ += part.size();
    std::memset(const_cast<std::byte*>(part.data()), 0x5b, part.size());
  }
  void release(const TensorView& tensor) override { inner_.release(tensor); }
  void finish(const std::vector<std::string>& ignored) override {
    inner_.finish(ignored);
    EXPECT_EQ(discarded_, matrices_);
  }

 private:
  models::DummySource inner_{0, 1};
  std::size_t matrices_ = 0;
  std::size_t discarded_ = 0;
};

std::vector<float> logits_of(LoadedModel model) {
  load_weights(model, {});
  Generator generator(model, {64, 16, 32});
  std::vector<std::int32_t> prompt;
  for (std::int32_t i = 0; i < 24; ++i) prompt.push_back(i * 37 % 1000);
  SamplingParams params;
  params.temperature = 0;
  params.ignore_eos = true;
  params.max_tokens = 8;
  params.logprobs = 20;
  std::vector<float> logprobs;
  for (const TokenLogprobs& token : generator.generate(prompt, params, {}).logprobs)
    for (const auto& top : token.top) logprobs.push_back(top.logprob);
  return logprobs;
}

class Loader : public testing::TestWithParam<const char*> {};

TEST_P(Loader, ReadsNothingThatItDiscarded) {
  const ConfigFile config(GetParam());
  LoadedModel poisoned = config.open();
  poisoned.source = std::make_unique<ForgetfulSource>();
  const std::vector<float> expected = logits_of(config.open());
  EXPECT_EQ(expected.size(), 160u);
  EXPECT_EQ(logits_of(std::move(poisoned)), expected);
}

TEST_P(Loader, HoldsWhatWasPlanned) {
  const ConfigFile config(GetParam());
  LoadedModel model = config.open();
  const MemoryPlan plan = Generator::plan_memory(model, {64, 16, 32});
  load_weights(model, {});
  const auto held = static_cast<double>(model.decoder->weight_bytes());
  // The routers and 1000 words pad their last panel of 16 rows.
  EXPECT_NEAR(held, static_cast<double>(plan.weights), held * 0.02);
  EXPECT_GE(held, static_cast<double>(plan.weights));
  EXPECT_GT(plan.cache, 0u);
  EXPECT_GT(plan.workspace, 0u);
  EXPECT_EQ(plan.total(), plan.weights + plan.cache + plan.workspace + plan.staging);
}

INSTANTIATE_TEST_SUITE_P(Architectures, Loader, testing::Values(kGptOss, kQwen3Moe),
                         [](const auto& parameter) {
                           return std::string(parameter.index == 0 ? "gpt_oss" : "qwen3_moe");
                         });

}  // namespace
}  // namespace sabrewing::engine
