#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "models/config_reader.h"
#include "models/spec.h"
#include "models/tensor_source.h"

namespace sabrewing::models {

/// One layer's experts as the checkpoint holds them. The views stay valid until `release`; the sources
/// discard them expert by expert.
struct ExpertTensors {
  std::vector<kernels::ExpertSource> sources;
  std::vector<float> bias13;  ///< (experts, 2I), gate then up
  std::vector<float> bias2;   ///< (experts, hidden)
  std::vector<TensorView> held;
};

/// What one `model_type` adds to the shared decoder: how its config.json is read and where its tensors
/// are. One file per architecture.
class Architecture {
 public:
  virtual ~Architecture() = default;
  virtual std::string_view model_type() const = 0;
  virtual DecoderSpec read(ConfigReader& config) const = 0;
  /// Module name of the router inside a sparse layer, below "model.layers.N.".
  virtual std::string_view router_module() const { return {}; }
  /// The format of a sparse layer's experts; throws when the layer's parts disagree.
  virtual formats::WeightFormat expert_format(const DecoderSpec& spec, const TensorSource& tensors,
                                              std::int64_t layer) const;
  virtual ExpertTensors take_experts(const DecoderSpec& spec, TensorSource& tensors,
                                     std::int64_t layer) const;
};

/// The architecture of `model_type`, which `where` says; throws `kUnsupported` with the supported names.
const Architecture& find_architecture(std::string_view model_type, std::string_view where);

/// Every supported model_type.
std::vector<std::string> architecture_names();

/// Reads config.json of a model folder: architecture and spec. Errors name file and field.
DecoderSpec read_spec(const std::filesystem::path& config_file);
/// The same from its text; `where` names it in errors.
DecoderSpec parse_spec(std::string_view text, const std::string& where);

/// Fields that every architecture here shares, checked: sizes, heads, norm, rope, ties, eos, quantization.
/// `default_head_dim` 0 means hidden / heads.
void read_common(ConfigReader& config, DecoderSpec& spec, std::int64_t default_head_dim, double default_theta,
                 const Json& default_scaling);

}  // namespace sabrewing::models
