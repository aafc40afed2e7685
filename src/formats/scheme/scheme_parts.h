#pragma once

#include <initializer_list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "formats/scheme/scheme.h"

namespace sabrewing::formats {

/// What the schemes share; not for use outside this folder.

std::unique_ptr<Scheme> make_unquantized_scheme();

/// `quantization` is the quantization_config and `model_type` the model it belongs to.
std::unique_ptr<Scheme> make_mxfp4_scheme(const nlohmann::json& quantization, std::string_view model_type,
                                          std::string_view what);

/// Throws `Error{kUnsupported}` naming the first field of `quantization` that is not in `known`.
void check_known_fields(const nlohmann::json& quantization, std::initializer_list<std::string_view> known,
                        std::string_view what);

/// The name of the BF16, FP16 or FP32 tensor of a module, "<module>.weight" or "<module>"; empty when there
/// is neither.
std::string plain_tensor_name(std::string_view module, const TensorFinder& find);

/// The unquantized weight of a module. Throws as `Scheme::locate`; `rule` is what says that the module is not
/// quantized.
StoredWeight locate_plain(std::string_view module, const TensorFinder& find, std::string_view rule);

}  // namespace sabrewing::formats
