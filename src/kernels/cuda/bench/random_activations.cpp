#include "kernels/cuda/bench/random_activations.h"

#include <algorithm>
#include <cstring>
#include <random>
#include <span>

#include "formats/numeric/element_type.h"
#include "formats/quantize/activations.h"

namespace sabrewing::kernels::cuda {

using formats::ActivationFormat;
using formats::ElementType;
using Granularity = ActivationFormat::Granularity;

RandomActivations::RandomActivations(const ActivationFormat& activation, std::int64_t rows,
                                     std::int64_t columns)
    : format(activation),
      m(rows),
      k(columns),
      group(activation.granularity == Granularity::kGroup ? activation.group : columns) {
  const ElementType type = stored();
  const auto bytes = static_cast<std::size_t>(type.bits / 8);
  const auto count = static_cast<std::size_t>(m * k);
  codes.resize(count * bytes);
  if (format.scale)
    scales.resize(static_cast<std::size_t>((k + group - 1) / group * m * (format.scale->bits / 8)));
  if (format.element.bits == 4) {
    quantize();
    return;
  }
  // A table keeps this fast; drawing from it keeps the distribution.
  std::mt19937 random(17);
  std::normal_distribution<double> normal;
  const double unit = type.is_integer() ? 40 : type.bits == 8 ? 8 : 1;
  std::vector<std::uint32_t> table(1 << 16);
  for (std::uint32_t& code : table) code = formats::encode(type, unit * normal(random));
  for (std::size_t i = 0; i < count; ++i)
    std::memcpy(codes.data() + i * bytes, &table[random() & 0xffff], bytes);
  if (!format.scale) return;
  const auto scale_bytes = static_cast<std::size_t>(format.scale->bits / 8);
  std::uniform_real_distribution<double> spread(0.5, 2);
  std::uint32_t code = 0;
  for (std::size_t at = 0; at < scales.size(); at += scale_bytes) {
    if (at == 0 || format.granularity != Granularity::kTensor)
      code = formats::encode(*format.scale, spread(random) / unit);
    std::memcpy(scales.data() + at, &code, scale_bytes);
  }
}

ElementType RandomActivations::stored() const {
  return format.element.bits == 4 ? ElementType::integer(8) : format.element;
}

void RandomActivations::quantize() {
  // FP4 is doubled, with half of the scale.
  const float unit = format.element == formats::kE2M1 ? 0.5f : 1.0f;
  const auto scale_bytes = static_cast<std::size_t>(format.scale->bits / 8);
  std::mt19937 random(17);
  std::normal_distribution<float> normal;
  std::vector<float> row(static_cast<std::size_t>(k));
  std::vector<std::uint8_t> row_codes(row.size());
  std::vector<float> row_scales(static_cast<std::size_t>((k + group - 1) / group));
  for (std::int64_t t = 0; t < m; ++t) {
    for (float& x : row) x = normal(random);
    formats::quantize_row(format, row, row_codes, row_scales);
    for (std::size_t g = 0; g < row_scales.size(); ++g) {
      const std::uint32_t code = formats::encode(*format.scale, row_scales[g] * unit);
      const std::size_t at = g * static_cast<std::size_t>(m) + static_cast<std::size_t>(t);
      std::memcpy(scales.data() + at * scale_bytes, &code, scale_bytes);
    }
    for (std::size_t c = 0; c < row.size(); ++c)
      codes[static_cast<std::size_t>(t * k) + c] =
          static_cast<std::byte>(static_cast<int>(formats::decode(format.element, row_codes[c]) / unit));
  }
}

std::vector<std::byte> RandomActivations::scales_of(std::int64_t rows) const {
  std::vector<std::byte> out;
  if (!format.scale) return out;
  const auto bytes = static_cast<std::size_t>(format.scale->bits / 8);
  const std::size_t stride = static_cast<std::size_t>(m) * bytes;
  for (std::size_t at = 0; at < scales.size(); at += stride)
    out.insert(out.end(), scales.begin() + static_cast<std::ptrdiff_t>(at),
               scales.begin() + static_cast<std::ptrdiff_t>(at + static_cast<std::size_t>(rows) * bytes));
  return out;
}

std::vector<float> RandomActivations::scale_values() const {
  std::vector<float> out;
  if (!format.scale) return out;
  const auto bytes = static_cast<std::size_t>(format.scale->bits / 8);
  for (std::size_t at = 0; at < scales.size(); at += bytes) {
    std::uint32_t code = 0;
    std::memcpy(&code, scales.data() + at, bytes);
    out.push_back(formats::decode(*format.scale, code));
  }
  return out;
}

std::vector<float> RandomActivations::values() const {
  const ElementType type = stored();
  const auto bytes = static_cast<std::size_t>(type.bits / 8);
  const std::vector<float> factors = scale_values();
  std::vector<float> out(static_cast<std::size_t>(m * k));
  for (std::int64_t t = 0; t < m; ++t)
    for (std::int64_t c = 0; c < k; ++c) {
      const auto i = static_cast<std::size_t>(t * k + c);
      std::uint32_t code = 0;
      std::memcpy(&code, codes.data() + i * bytes, bytes);
      const float factor = factors.empty() ? 1.0f : factors[static_cast<std::size_t>(c / group * m + t)];
      out[i] = formats::decode(type, code) * factor;
    }
  return out;
}

}  // namespace sabrewing::kernels::cuda
