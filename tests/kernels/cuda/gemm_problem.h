#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/gemm/weight_layout.h"

namespace sabrewing::kernels::cuda::testing {

/// "mxfp4", "int4g128", "int4g64", "int4row", "fp8row": the names of the benchmark files.
formats::WeightFormat format_by_name(const std::string& name);

/// A random weight as a checkpoint would store it.
struct RandomWeight {
  formats::WeightFormat format;
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::vector<std::byte> values;
  std::vector<std::byte> scales;
  std::int64_t row_bytes = 0;
  std::int64_t scale_row_bytes = 0;
  std::int64_t groups = 0;  ///< scales per row

  RandomWeight(const formats::WeightFormat& weight_format, std::int64_t rows, std::int64_t columns,
               std::uint32_t seed);
  WeightSource source() const;
  float scale(std::int64_t row, std::int64_t group) const;
};

/// Random BF16 numbers from a normal distribution.
std::vector<std::uint16_t> random_bf16(std::size_t count, std::uint32_t seed);

}  // namespace sabrewing::kernels::cuda::testing
