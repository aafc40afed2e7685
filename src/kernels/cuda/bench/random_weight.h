#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/gemm/weight_layout.h"

namespace sabrewing::kernels::cuda {

/// "mxfp4", "mxfp8", "nvfp4", "int4g128", "int4g64", "int4row", "fp8row", "fp8block", "fp8tensor": the
/// names of the benchmark files; else ELEMENT:BLOCK:SCALE[:zp|:fzp], as in "uint3:g64:fp16:zp",
/// "float6e3m2:row:fp32", "int8:tensor:fp32", "float8e4m3:128x128:fp32".
formats::WeightFormat format_by_name(const std::string& name);

/// "bf16", "fp16"; "fp8", "fp8e5m2", "int8", "int4", "fp4" (per token), and "fp8tok" and "int8tok" for the
/// same; "fp8tensor"; "fp8g128", "int8g128", "int4g128", "fp4g128"; "mxfp8", "mxfp4".
formats::ActivationFormat activation_by_name(const std::string& name);

/// A weight and activation format of the covering set.
struct CoveredPair {
  std::string format;
  std::string activation;
  Accuracy accuracy = Accuracy::kDefault;
};
/// Every element width, scale type, block shape, zero point and activation of the plane layout at least once;
/// what CI compiles and the check on a GPU runs.
std::vector<CoveredPair> covering_set();

/// A random weight as a checkpoint would store it; no element is NaN or infinite.
struct RandomWeight {
  formats::WeightFormat format;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::vector<std::byte> values;
  std::vector<std::byte> scales;
  std::vector<std::byte> zeros;
  std::int64_t row_bytes = 0;
  std::int64_t scale_row_bytes = 0;
  std::int64_t zero_row_bytes = 0;
  std::int64_t groups = 0;  ///< scales per row
  float second_scale = 1;

  RandomWeight(const formats::WeightFormat& weight_format, std::int64_t rows, std::int64_t columns,
               std::uint32_t seed);
  WeightSource source() const;
  /// Rows [first, first + count) of it; `first` is at a scale row's beginning.
  WeightSource source(std::int64_t first, std::int64_t count) const;
  std::uint8_t code(std::int64_t row, std::int64_t column) const;
  float scale(std::int64_t row, std::int64_t group) const;  ///< with the second scale
  float zero(std::int64_t row,
             std::int64_t group) const;  ///< 0 without zero points; a float one with the second scale
  double value(std::int64_t row, std::int64_t column) const;
  std::int64_t group_of(std::int64_t column) const {
    return format.block.k == 0 ? 0 : column / format.block.k;
  }

 private:
  std::int64_t scale_row(std::int64_t row) const { return format.block.n == 0 ? 0 : row / format.block.n; }
};

/// Random BF16 numbers from a normal distribution.
std::vector<std::uint16_t> random_bf16(std::size_t count, std::uint32_t seed);

}  // namespace sabrewing::kernels::cuda
