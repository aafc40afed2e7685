#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include "models/config_reader.h"

namespace sabrewing::models {

/// For each layer whether it slides, from `layer_types` ("full_attention" or "sliding_attention", one
/// per layer) or, without the field, from `fallback`.
std::vector<bool> read_layer_types(ConfigReader& config, std::size_t layers,
                                   const std::function<bool(std::size_t)>& fallback);

}  // namespace sabrewing::models
