#include "models/qwen3_moe.h"

#include <algorithm>

#include "core/error.h"
#include "models/linear.h"

namespace sabrewing::models {
namespace {

std::string projection(std::int64_t layer, std::int64_t expert, const char* name) {
  return fmt::format("model.layers.{}.mlp.experts.{}.{}", layer, expert, name);
}

}  // namespace

DecoderSpec Qwen3Moe::read(ConfigReader& config) const {
  DecoderSpec spec;
  // The reference takes hidden / heads where the field is absent.
  read_common(config, spec, 0, 10000.0, nullptr);
  spec.attention_bias = config.boolean_or("attention_bias", false);
  spec.qk_norm = true;

  const std::int64_t window = config.boolean_or("use_sliding_window", false)
                                  ? config.integer_or("sliding_window", 4096, 1, std::int64_t{1} << 40)
                                  : 0;
  config.ignore({"sliding_window", "max_window_layers"});
  const std::int64_t experts =
      config.integer(config.find("num_experts") != nullptr ? "num_experts" : "num_local_experts", 0, 4096);
  const std::int64_t step = config.integer_or("decoder_sparse_step", 1, 1, 1024);
  const std::vector<std::int64_t> dense = config.integers("mlp_only_layers", 0, std::int64_t{1} << 20);
  bool any_dense = false;
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    const auto layer = static_cast<std::int64_t>(i);
    const bool listed = std::find(dense.begin(), dense.end(), layer) != dense.end();
    spec.layers[i] = {window, !listed && experts > 0 && (layer + 1) % step == 0};
    any_dense = any_dense || !spec.layers[i].sparse;
    if (spec.layers[i].sparse) spec.experts = experts;
  }
  constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;
  if (any_dense) spec.intermediate = config.integer("intermediate_size", 1, kMaxWidth);
  config.ignore({"intermediate_size"});
  if (spec.experts > 0) {
    spec.top_k = static_cast<int>(config.integer("num_experts_per_tok", 1, experts));
    spec.expert_intermediate = config.integer("moe_intermediate_size", 1, kMaxWidth);
    spec.renormalize = config.boolean_or("norm_topk_prob", false);
  }
  config.ignore({"num_experts_per_tok", "moe_intermediate_size", "norm_topk_prob"});
  return spec;
}

formats::WeightFormat Qwen3Moe::expert_format(const DecoderSpec& spec, const TensorSource& tensors,
                                              std::int64_t layer) const {
  const std::string first = projection(layer, 0, "gate_proj");
  const formats::WeightFormat format = linear_format(*spec.scheme, tensors, first);
  for (std::int64_t e = 0; e < spec.experts; ++e) {
    for (const char* name : {"gate_proj", "up_proj", "down_proj"}) {
      const std::string module = projection(layer, e, name);
      const formats::WeightFormat other = linear_format(*spec.scheme, tensors, module);
      SABREWING_CHECK(other == format, kUnsupported,
                      "[load] {} is {} but {} is {}: the experts of a layer share one "
                      "format",
                      first, formats::to_string(format), module, formats::to_string(other));
    }
  }
  return format;
}

ExpertTensors Qwen3Moe::take_experts(const DecoderSpec& spec, TensorSource& tensors,
                                     std::int64_t layer) const {
  ExpertTensors result;
  const auto take = [&](std::int64_t expert, const char* name, std::int64_t n, std::int64_t k) {
    LinearTensors linear = take_linear(*spec.scheme, tensors, projection(layer, expert, name), n, k);
    result.held.insert(result.held.end(), linear.held.begin(), linear.held.end());
    return linear.rows;
  };
  for (std::int64_t e = 0; e < spec.experts; ++e) {
    kernels::ExpertSource source;
    source.gate = take(e, "gate_proj", spec.expert_intermediate, spec.hidden);
    source.up = take(e, "up_proj", spec.expert_intermediate, spec.hidden);
    source.down = take(e, "down_proj", spec.hidden, spec.expert_intermediate);
    source.done = [&tensors, held = std::vector<TensorView>(result.held.end() - 3, result.held.end())] {
      for (const TensorView& tensor : held) tensors.discard(tensor.bytes);
    };
    result.sources.push_back(source);
  }
  return result;
}

}  // namespace sabrewing::models
