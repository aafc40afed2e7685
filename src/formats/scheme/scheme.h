#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "core/tensor.h"
#include "formats/scheme/weight_format.h"

namespace sabrewing::formats {

/// Looks a tensor up by its full name; nothing when there is none. `Checkpoint::find` is one.
using TensorFinder = std::function<const TensorView*(std::string_view name)>;

/// Where a checkpoint keeps the weight of one module, and what its numbers mean. Names of tensors are full;
/// empty where the format has no such part.
struct StoredWeight {
  WeightFormat format;
  /// Logical extents: (N, K), or (experts, N, K) for weights that one tensor holds for all experts. For
  /// unquantized ones the tensor's own shape, whatever its order.
  Shape shape;
  std::string data;
  std::string scale;
};

/// How a checkpoint is quantized: one subclass and one file per published scheme. Modules have the names
/// of the checkpoint without a tensor's suffix: "model.layers.0.self_attn.q_proj",
/// "model.layers.0.mlp.experts.gate_up_proj". Immutable and thread-safe.
class Scheme {
 public:
  virtual ~Scheme() = default;

  /// "none", "mxfp4".
  virtual std::string_view name() const = 0;

  /// What the configuration says of `module`, without looking at tensors: nothing for "not quantized".
  virtual std::optional<WeightFormat> configured(std::string_view module) const = 0;

  /// Finds and checks the tensors of `module`. Throws `Error{kNotFound}` when they are absent, and
  /// `Error{kCorrupt}` naming the module and both sides when the tensors contradict the configuration or
  /// each other.
  virtual StoredWeight locate(std::string_view module, const TensorFinder& find) const = 0;

  /// `locate(module).format`.
  WeightFormat format_of(std::string_view module, const TensorFinder& find) const {
    return locate(module, find).format;
  }
};

/// The scheme that `quantization_config` of a parsed config.json announces (top level or under
/// `text_config`; none: unquantized). `what` names the file. Throws `Error{kUnsupported}` naming a method or
/// an option that is not supported and what is, `Error{kCorrupt}` for malformed fields.
std::unique_ptr<Scheme> parse_scheme(const nlohmann::json& config, std::string_view what);

/// The same for the model in `folder`, whose config.json was parsed to `config`; refuses the separate
/// configuration files of older quantizers (quantize_config.json, quant_config.json, hf_quant_config.json)
/// when config.json announces nothing.
std::unique_ptr<Scheme> load_scheme(const std::filesystem::path& folder, const nlohmann::json& config);

}  // namespace sabrewing::formats
