#include "gemm_problem.h"

#include <cstring>

#include "formats/numeric/bit_stream.h"
#include "formats/numeric/element_type.h"
#include "formats/numeric/float16.h"

namespace sabrewing::kernels::cuda::testing {

using formats::WeightFormat;

formats::WeightFormat format_by_name(const std::string& name) {
  const auto int4 = formats::ElementType::integer(4);
  if (name == "mxfp4") return WeightFormat::mxfp4();
  if (name == "int4g128") return WeightFormat::scaled(int4, {1, 128}, formats::kBF16);
  if (name == "int4g64") return WeightFormat::scaled(int4, {1, 64}, formats::kBF16);
  if (name == "int4row") return WeightFormat::scaled(int4, {1, 0}, formats::kBF16);
  if (name == "fp8row") return WeightFormat::scaled(formats::kE4M3, {1, 0}, formats::kFP32);
  fail(ErrorCode::kInvalidArgument, "[test] unknown weight format {}", name);
}

RandomWeight::RandomWeight(const WeightFormat& weight_format, std::int64_t rows, std::int64_t columns,
                           std::uint32_t seed)
    : format(weight_format), n(rows), k(columns) {
  std::mt19937 random(seed);
  row_bytes =
      static_cast<std::int64_t>(formats::packed_bytes(static_cast<std::size_t>(k), format.element.bits));
  values.resize(static_cast<std::size_t>(n * row_bytes));
  for (std::size_t i = 0; i < values.size(); i += 4) {
    const std::uint32_t word = random();
    std::memcpy(values.data() + i, &word, std::min<std::size_t>(4, values.size() - i));
  }
  // E4M3 has two codes for NaN, which no weight holds.
  if (format.element == formats::kE4M3)
    for (std::byte& v : values)
      if ((v & std::byte{0x7f}) == std::byte{0x7f}) v = std::byte{0x3a};
  groups = format.block.k == 0 ? 1 : k / format.block.k;
  const auto scale_bytes = static_cast<std::int64_t>(format.scale->bits / 8);
  scale_row_bytes = groups * scale_bytes;
  scales.resize(static_cast<std::size_t>(n * scale_row_bytes));
  std::uniform_real_distribution<double> mantissa(0.5, 1.5);
  std::uniform_int_distribution<int> exponent(-9, -4);
  for (std::int64_t i = 0; i < n * groups; ++i) {
    const double value =
        *format.scale == formats::kE8M0 ? std::ldexp(1.0, exponent(random)) : 0.01 * mantissa(random);
    const std::uint32_t code = formats::encode(*format.scale, value);
    std::memcpy(scales.data() + i * scale_bytes, &code, static_cast<std::size_t>(scale_bytes));
  }
}

WeightSource RandomWeight::source() const {
  return {format, k, {{values.data(), row_bytes, scales.data(), scale_row_bytes, n}}};
}

float RandomWeight::scale(std::int64_t row, std::int64_t group) const {
  const auto scale_bytes = static_cast<std::int64_t>(format.scale->bits / 8);
  std::uint32_t code = 0;
  std::memcpy(&code, scales.data() + row * scale_row_bytes + group * scale_bytes,
              static_cast<std::size_t>(scale_bytes));
  return formats::decode(*format.scale, code);
}

std::vector<std::uint16_t> random_bf16(std::size_t count, std::uint32_t seed) {
  // A table keeps this fast; drawing from it keeps the distribution.
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<std::uint16_t> table(1 << 16);
  for (std::uint16_t& v : table) v = formats::float_to_bf16(normal(random));
  std::vector<std::uint16_t> out(count);
  for (std::uint16_t& v : out) v = table[random() & 0xffff];
  return out;
}

}  // namespace sabrewing::kernels::cuda::testing
