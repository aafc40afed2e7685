#include "models/qwen3.h"

#include "models/layer_types.h"

namespace sabrewing::models {

DecoderSpec Qwen3::read(ConfigReader& config) const {
  DecoderSpec spec;
  read_common(config, spec, 128, 10000.0, nullptr);
  spec.attention_bias = config.boolean_or("attention_bias", false);
  spec.qk_norm = true;
  spec.intermediate = config.integer("intermediate_size", 1, std::int64_t{1} << 20);

  const bool use_window = config.boolean_or("use_sliding_window", false);
  const bool has_window = use_window && config.find("sliding_window") != nullptr;
  const std::int64_t window = config.integer_or("sliding_window", 0, 1, std::int64_t{1} << 40);
  const std::int64_t full_layers = config.integer_or("max_window_layers", 28, 0, std::int64_t{1} << 40);
  const auto fallback = [&](std::size_t layer) {
    return has_window && static_cast<std::int64_t>(layer) >= full_layers;
  };
  const std::vector<bool> sliding = read_layer_types(config, spec.layers.size(), fallback);
  for (std::size_t i = 0; i < spec.layers.size(); ++i) {
    if (sliding[i] && !has_window)
      config.reject("layer_types",
                    "asks for sliding_attention, but use_sliding_window or sliding_window is not set");
    spec.layers[i] = {sliding[i] ? window : 0, false};
  }
  return spec;
}

}  // namespace sabrewing::models
