#include "models/layer_types.h"

#include "core/error.h"
#include "core/printable.h"

namespace sabrewing::models {

std::vector<bool> read_layer_types(ConfigReader& config, std::size_t layers,
                                   const std::function<bool(std::size_t)>& fallback) {
  std::vector<bool> sliding(layers);
  if (config.find("layer_types") == nullptr) {
    for (std::size_t i = 0; i < layers; ++i) sliding[i] = fallback(i);
    return sliding;
  }
  const std::vector<std::string> types = config.texts("layer_types");
  if (types.size() != layers)
    config.reject("layer_types", fmt::format("has {} entries for {} layers", types.size(), layers));
  for (std::size_t i = 0; i < layers; ++i) {
    sliding[i] = types[i] == "sliding_attention";
    SABREWING_CHECK(
        sliding[i] || types[i] == "full_attention", kUnsupported,
        "[config] {}: field \"layer_types\" holds {}; supported: full_attention, sliding_attention",
        config.where(), printable(types[i]));
  }
  return sliding;
}

}  // namespace sabrewing::models
