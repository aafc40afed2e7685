#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

namespace sabrewing {

/// Storage type of a tensor's elements. The names are those of safetensors.
enum class DType {
  kBool,
  kU8,
  kI8,
  kU16,
  kI16,
  kU32,
  kI32,
  kU64,
  kI64,
  kF8E4M3,  ///< E4M3FN: maximum 448, no infinities
  kF8E5M2,
  kF8E8M0,  ///< 2^(b-127); 255 is NaN
  kBF16,
  kF16,
  kF32,
  kF64,
};

/// Bytes of one element.
std::size_t size_of(DType dtype);

/// The safetensors name: "BF16", "F8_E4M3", ...
std::string_view to_string(DType dtype);

/// The inverse of `to_string`; nothing for an unknown name.
std::optional<DType> parse_dtype(std::string_view name);

}  // namespace sabrewing
