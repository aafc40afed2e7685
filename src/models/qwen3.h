#pragma once

#include "models/architecture.h"

namespace sabrewing::models {

/// Qwen3 dense: RMSNorm per head on q and k before RoPE, SwiGLU, embeddings often tied.
class Qwen3 final : public Architecture {
 public:
  std::string_view model_type() const override { return "qwen3"; }
  DecoderSpec read(ConfigReader& config) const override;
};

}  // namespace sabrewing::models
