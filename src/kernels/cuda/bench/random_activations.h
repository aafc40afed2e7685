#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "formats/scheme/weight_format.h"

namespace sabrewing::kernels::cuda {

/// Random activations of shape (m, k) as a kernel reads them.
struct RandomActivations {
  formats::ActivationFormat format;
  std::int64_t m = 0;
  std::int64_t k = 0;
  std::int64_t group = 0;         ///< columns of a scale; K without groups
  std::vector<std::byte> codes;   ///< (m, k); INT4 and FP4 as the INT8 numbers they are multiplied as
  std::vector<std::byte> scales;  ///< (K / group, m); empty for 16-bit ones

  RandomActivations(const formats::ActivationFormat& activation, std::int64_t rows, std::int64_t columns);

  /// The type of a code.
  formats::ElementType stored() const;
  /// Scales of the first `rows` tokens.
  std::vector<std::byte> scales_of(std::int64_t rows) const;
  /// `scales` as numbers.
  std::vector<float> scale_values() const;
  /// (m, k): codes times scales.
  std::vector<float> values() const;

 private:
  void quantize();
};

}  // namespace sabrewing::kernels::cuda
