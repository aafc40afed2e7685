#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "formats/scheme/scheme.h"
#include "kernels/moe.h"
#include "models/rope.h"

namespace sabrewing::models {

/// What varies between the layers of one decoder.
struct LayerSpec {
  std::int64_t window = 0;  ///< keys a query sees, itself included; 0: all
  bool sparse = false;      ///< mixture of experts instead of one dense MLP
};

/// A pre-norm decoder with grouped-query attention and SwiGLU, read from config.json: everything that
/// decides its arithmetic.
struct DecoderSpec {
  std::string model_type;
  std::int64_t vocabulary = 0;
  std::int64_t hidden = 0;
  std::int64_t q_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  std::int64_t max_positions = 0;
  float norm_epsilon = 1e-6F;
  bool tied_embeddings = false;
  bool attention_bias = false;  ///< biases on q, k, v and o
  bool qk_norm = false;         ///< RMSNorm per head on q and k, before RoPE
  bool sinks = false;           ///< one logit per query head in the softmax denominator
  Rope rope;
  std::vector<LayerSpec> layers;

  std::int64_t intermediate = 0;  ///< dense MLP width; 0 when no layer is dense

  std::int64_t experts = 0;  ///< 0 when no layer is sparse
  int top_k = 0;
  std::int64_t expert_intermediate = 0;
  kernels::RouterScore router_score = kernels::RouterScore::kSoftmaxThenTopK;
  bool renormalize = true;
  bool router_bias = false;
  bool expert_bias = false;
  kernels::GluActivation activation = kernels::GluActivation::kSilu;
  float activation_limit = 0;

  std::shared_ptr<const formats::Scheme> scheme;  ///< which modules are quantized, and how
  std::vector<std::int64_t> eos_ids;              ///< from config.json
  std::vector<std::string> unknown_fields;        ///< of config.json; the loader warns about them

  std::int64_t q_width() const { return q_heads * head_dim; }
  std::int64_t kv_width() const { return kv_heads * head_dim; }
};

}  // namespace sabrewing::models
