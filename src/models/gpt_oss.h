#pragma once

#include "models/architecture.h"

namespace sabrewing::models {

/// gpt-oss (OpenAI): attention sinks, alternating sliding windows, YaRN, biases, MXFP4 experts with
/// interleaved gate and up rows and a clamped SwiGLU. Layout: openai/gpt-oss checkpoints on the HF hub.
class GptOss final : public Architecture {
 public:
  std::string_view model_type() const override { return "gpt_oss"; }
  DecoderSpec read(ConfigReader& config) const override;
  std::string_view router_module() const override { return "mlp.router"; }
  formats::WeightFormat expert_format(const DecoderSpec& spec, const TensorSource& tensors,
                                      std::int64_t layer) const override;
  ExpertTensors take_experts(const DecoderSpec& spec, TensorSource& tensors,
                             std::int64_t layer) const override;
};

}  // namespace sabrewing::models
