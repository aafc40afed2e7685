#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "formats/numeric/element_type.h"

namespace sabrewing::formats {

/// The part of a weight matrix (N, K) that shares one scale: `n` rows by `k` columns; 0 stands for the
/// whole extent. {1, 32}: a group of 32 along K; {1, 0}: an output channel; {0, 0}: the whole tensor.
struct BlockShape {
  std::int64_t n = 0;
  std::int64_t k = 0;
  constexpr bool operator==(const BlockShape&) const = default;
};

enum class ZeroPoint : std::uint8_t {
  kNone,
  kInteger,  ///< value = (code - zero) * scale, one unsigned zero of the element's width per block
  kFloat,    ///< value = code * scale + zero, one zero of the scale's type per block
};

/// What the numbers of a weight matrix mean, independent of any storage layout:
/// value = decode(element, code) * scale of its block * second-level scale of the tensor.
struct WeightFormat {
  ElementType element = formats::kBF16;
  BlockShape block;                         ///< meaningful only with `scale`
  std::optional<ElementType> scale;         ///< nothing: not scaled
  std::optional<ElementType> second_scale;  ///< one multiplier per tensor, above the block scales
  ZeroPoint zero_point = ZeroPoint::kNone;

  static constexpr WeightFormat plain(ElementType element) { return {element, {}, {}, {}, ZeroPoint::kNone}; }
  static constexpr WeightFormat scaled(ElementType element, BlockShape block, ElementType scale) {
    return {element, block, scale, {}, ZeroPoint::kNone};
  }
  static constexpr WeightFormat bf16() { return plain(formats::kBF16); }
  static constexpr WeightFormat fp16() { return plain(formats::kFP16); }
  static constexpr WeightFormat fp32() { return plain(formats::kFP32); }
  static constexpr WeightFormat mxfp4() { return scaled(kE2M1, {1, 32}, kE8M0); }
  static constexpr WeightFormat mxfp8() { return scaled(kE4M3, {1, 32}, kE8M0); }
  static constexpr WeightFormat nvfp4() { return {kE2M1, {1, 16}, kE4M3, formats::kFP32, ZeroPoint::kNone}; }

  bool is_scaled() const { return scale.has_value(); }

  /// Scales of an (n, k) matrix along each axis; a partial last block counts. 0 by 0 when not scaled.
  BlockShape scale_grid(std::int64_t n, std::int64_t k) const;

  constexpr bool operator==(const WeightFormat&) const = default;
};

/// "bf16", "mxfp4", "mxfp8", "nvfp4", else the parts: "int4 g128 bf16", "uint4 g128 fp16 zp",
/// "float8e4m3 128x128 fp32", "int8 channel fp32", "float8e4m3 tensor fp32".
std::string to_string(const WeightFormat& format);

/// What a GEMM reads as its activation operand.
struct ActivationFormat {
  enum class Granularity : std::uint8_t {
    kNone,    ///< no scale
    kTensor,  ///< one scale, given by the checkpoint
    kToken,   ///< one scale per row
    kGroup,   ///< one scale per row and `group` columns
  };

  ElementType element = formats::kBF16;
  Granularity granularity = Granularity::kNone;
  std::int64_t group = 0;            ///< only with kGroup
  std::optional<ElementType> scale;  ///< set unless kNone

  static constexpr ActivationFormat plain(ElementType element) {
    return {element, Granularity::kNone, 0, {}};
  }
  static constexpr ActivationFormat bf16() { return plain(formats::kBF16); }
  static constexpr ActivationFormat fp16() { return plain(formats::kFP16); }
  static constexpr ActivationFormat fp32() { return plain(formats::kFP32); }
  static constexpr ActivationFormat per_tensor(ElementType element) {
    return {element, Granularity::kTensor, 0, formats::kFP32};
  }
  static constexpr ActivationFormat per_token(ElementType element) {
    return {element, Granularity::kToken, 0, formats::kFP32};
  }
  static constexpr ActivationFormat per_group(ElementType element, std::int64_t group, ElementType scale) {
    return {element, Granularity::kGroup, group, scale};
  }
  static constexpr ActivationFormat mx(ElementType element) { return per_group(element, 32, kE8M0); }

  constexpr bool operator==(const ActivationFormat&) const = default;
};

/// "bf16", "int8 token", "float8e4m3 tensor", "float8e4m3 g128 fp32", "mxfp8", "mxfp4".
std::string to_string(const ActivationFormat& format);

}  // namespace sabrewing::formats
