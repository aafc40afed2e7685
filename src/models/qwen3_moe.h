#pragma once

#include "models/architecture.h"

namespace sabrewing::models {

/// Qwen3-MoE: Qwen3 attention; sparse layers with one tensor per expert and projection, softmax over all
/// experts before the choice; dense layers where `mlp_only_layers` or `decoder_sparse_step` say so.
class Qwen3Moe final : public Architecture {
 public:
  std::string_view model_type() const override { return "qwen3_moe"; }
  DecoderSpec read(ConfigReader& config) const override;
  std::string_view router_module() const override { return "mlp.gate"; }
  formats::WeightFormat expert_format(const DecoderSpec& spec, const TensorSource& tensors,
                                      std::int64_t layer) const override;
  ExpertTensors take_experts(const DecoderSpec& spec, TensorSource& tensors,
                             std::int64_t layer) const override;
};

}  // namespace sabrewing::models
