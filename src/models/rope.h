#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/config_reader.h"

namespace sabrewing::models {

/// Rotary embedding of one model: position p rotates pair i by p * inverse_frequency[i]; cos and sin are
/// multiplied by `attention_factor`.
struct Rope {
  std::vector<float> inverse_frequency;  ///< (head_dim / 2)
  float attention_factor = 1;
  std::string description;  ///< "yarn x32 over 4096, theta 150000"
};

/// Reads `rope_parameters`, or `rope_theta` with `rope_scaling`, from `config`: types default, linear and
/// yarn (Peng et al., arXiv 2309.00071, with the defaults of transformers); others are `kUnsupported`.
/// `default_scaling` is what the architecture assumes when the file names none (null: default).
Rope read_rope(ConfigReader& config, std::int64_t head_dim, std::int64_t max_positions, double default_theta,
               const Json& default_scaling);

}  // namespace sabrewing::models
