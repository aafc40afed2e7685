#include "kernels/cuda/bench/random_weight.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <sstream>
#include <string_view>

#include "formats/numeric/bit_stream.h"
#include "formats/numeric/element_type.h"
#include "formats/numeric/float16.h"

namespace sabrewing::kernels::cuda {

using formats::ActivationFormat;
using formats::WeightFormat;
using formats::ZeroPoint;

namespace {

std::int64_t parse_extent(std::string_view text, const std::string& block) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  SABREWING_CHECK(error == std::errc() && end == text.data() + text.size() && value >= 1, kInvalidArgument,
                  "[bench] unknown block {}: row, tensor, g64 or 128x128 expected", block);
  return value;
}

formats::BlockShape parse_block(const std::string& text) {
  if (text == "row") return {1, 0};
  if (text == "tensor") return {0, 0};
  const std::string_view view = text;
  if (view.starts_with('g')) return {1, parse_extent(view.substr(1), text)};
  const std::size_t x = view.find('x');
  const std::string_view rows = view.substr(0, x);
  return {parse_extent(rows, text), parse_extent(x == std::string::npos ? "" : view.substr(x + 1), text)};
}

float read_number(formats::ElementType type, const std::byte* from) {
  std::uint32_t code = 0;
  std::memcpy(&code, from, type.bits / 8u);
  return formats::decode(type, code);
}

}  // namespace

WeightFormat format_by_name(const std::string& name) {
  if (name == "mxfp4") return WeightFormat::mxfp4();
  if (name == "mxfp8") return WeightFormat::mxfp8();
  if (name == "nvfp4") return WeightFormat::nvfp4();
  if (name == "int4g128") return format_by_name("int4:g128:bf16");
  if (name == "int4g64") return format_by_name("int4:g64:bf16");
  if (name == "int4row") return format_by_name("int4:row:bf16");
  if (name == "fp8row") return format_by_name("float8e4m3:row:fp32");
  if (name == "fp8tensor") return format_by_name("float8e4m3:tensor:fp32");
  if (name == "fp8block") return format_by_name("float8e4m3:128x128:fp32");
  std::vector<std::string> parts;
  std::istringstream stream(name);
  for (std::string part; std::getline(stream, part, ':');) parts.push_back(part);
  SABREWING_CHECK(parts.size() == 3 || parts.size() == 4, kInvalidArgument,
                  "[bench] unknown weight format {}", name);
  const auto element = formats::parse_element_type(parts[0]);
  const auto scale = formats::parse_element_type(parts[2]);
  SABREWING_CHECK(element && scale, kInvalidArgument, "[bench] unknown weight format {}", name);
  WeightFormat format = WeightFormat::scaled(*element, parse_block(parts[1]), *scale);
  if (parts.size() == 4) format.zero_point = parts[3] == "zp" ? ZeroPoint::kInteger : ZeroPoint::kFloat;
  return format;
}

ActivationFormat activation_by_name(const std::string& name) {
  const auto int8 = formats::ElementType::integer(8);
  if (name == "bf16") return ActivationFormat::bf16();
  if (name == "fp16") return ActivationFormat::fp16();
  if (name == "fp8" || name == "fp8tok") return ActivationFormat::per_token(formats::kE4M3);
  if (name == "fp8e5m2") return ActivationFormat::per_token(formats::kE5M2);
  if (name == "int8" || name == "int8tok") return ActivationFormat::per_token(int8);
  if (name == "int4") return ActivationFormat::per_token(formats::ElementType::integer(4));
  if (name == "fp4") return ActivationFormat::per_token(formats::kE2M1);
  if (name == "fp8tensor") return ActivationFormat::per_tensor(formats::kE4M3);
  if (name == "fp8g128") return ActivationFormat::per_group(formats::kE4M3, 128, formats::kFP32);
  if (name == "int8g128") return ActivationFormat::per_group(int8, 128, formats::kFP32);
  if (name == "int4g128")
    return ActivationFormat::per_group(formats::ElementType::integer(4), 128, formats::kFP32);
  if (name == "fp4g128") return ActivationFormat::per_group(formats::kE2M1, 128, formats::kFP32);
  if (name == "mxfp8") return ActivationFormat::mx(formats::kE4M3);
  if (name == "mxfp4") return ActivationFormat::mx(formats::kE2M1);
  fail(ErrorCode::kInvalidArgument, "[bench] unknown activation format {}", name);
}

std::vector<CoveredPair> covering_set() {
  const Accuracy high = Accuracy::kHigh;
  return {
      // 16-bit activations: scales before the sums.
      {"int1:g64:bf16", "bf16"},
      {"uint2:g32:fp16:zp", "fp16"},
      {"int3:g128:bf16", "bf16"},
      {"uint4:g128:bf16:zp", "bf16"},
      {"uint4:g64:fp16:fzp", "fp16"},
      {"int4:g128:fp16", "fp16"},
      {"int5:g96:bf16", "bf16"},
      {"uint6:g48:bf16:fzp", "bf16"},
      {"uint7:row:fp32:zp", "fp16"},
      {"int8:tensor:fp32", "bf16"},
      {"uint8:g16:bf16:zp", "bf16"},
      {"float3e1m1:g32:float8e8m0", "bf16"},
      {"float4e3m0:g16:float8e4m3", "fp16"},
      {"float5e2m2:g64:bf16", "bf16"},
      {"float6e3m2:g32:float8e8m0", "fp16"},
      {"float6e2m3:row:fp32", "bf16"},
      {"float7e3m3:g128:fp16", "fp16"},
      {"float8e5m2:g128:bf16", "bf16"},
      {"nvfp4", "bf16"},
      {"nvfp4", "fp16"},
      {"mxfp4", "fp16"},
      {"mxfp8", "bf16"},
      {"fp8row", "fp16"},
      // Scales after the sums.
      {"fp8block", "bf16"},
      {"int4:g32:fp16", "bf16"},
      {"uint4:g128:bf16:zp", "bf16", high},
      {"uint3:g16:fp32:zp", "fp16", high},
      {"float8e5m2:g64:bf16", "fp16", high},
      {"int8:g128:fp16", "bf16", high},
      // FP8 activations.
      {"mxfp4", "fp8"},
      {"mxfp4", "fp8", high},
      {"int4:g128:bf16", "fp8"},
      {"uint4:g64:fp16:zp", "fp8"},
      {"int4:row:fp32", "fp8"},
      {"int5:row:fp32", "fp8"},
      {"float6e3m2:g32:float8e8m0", "fp8"},
      {"fp8row", "fp8"},
      {"fp8row", "fp8e5m2"},
      {"float8e5m2:row:fp32", "fp8"},
      {"float8e5m2:g128:fp32", "fp8e5m2"},
      {"fp8block", "fp8g128"},
      {"nvfp4", "bf16", high},
      {"mxfp8", "mxfp8"},
      {"mxfp4", "mxfp8"},
      {"int3:g64:bf16", "fp8g128"},
      // INT8 activations.
      {"int8:row:fp32", "int8"},
      {"int4:g128:bf16", "int8"},
      {"int4:row:fp32", "int8"},
      {"uint7:g64:fp16:zp", "int8"},
      {"uint1:g32:bf16:zp", "int8"},
      {"int6:g128:fp32", "int8g128"},
      {"mxfp4", "int8"},
      // INT4 and FP4 activations through INT8 arithmetic.
      {"int4:g128:bf16", "int4"},
      {"int8:row:fp32", "int4g128"},
      {"mxfp4", "fp4"},
      {"int4:g64:bf16", "fp4g128"},
      {"mxfp4", "mxfp4"},
  };
}

RandomWeight::RandomWeight(const WeightFormat& weight_format, std::int64_t rows, std::int64_t columns,
                           std::uint32_t seed)
    : format(weight_format), n(rows), k(columns) {
  std::mt19937 random(seed);
  const int bits = format.element.bits;
  row_bytes = static_cast<std::int64_t>(formats::packed_bytes(static_cast<std::size_t>(k), bits));
  values.resize(static_cast<std::size_t>(n * row_bytes));
  for (std::size_t i = 0; i < values.size(); i += 4) {
    const std::uint32_t word = random();
    std::memcpy(values.data() + i, &word, std::min<std::size_t>(4, values.size() - i));
  }
  if (format.element == formats::kE4M3 || format.element == formats::kE5M2)
    for (std::byte& v : values)
      if (!std::isfinite(formats::decode(format.element, std::to_integer<std::uint32_t>(v))))
        v = std::byte{0x3a};
  const formats::BlockShape grid = format.scale_grid(n, k);
  groups = grid.k;
  const auto scale_bytes = static_cast<std::int64_t>(format.scale->bits / 8);
  scale_row_bytes = groups * scale_bytes;
  scales.resize(static_cast<std::size_t>(grid.n * scale_row_bytes));
  std::uniform_real_distribution<double> mantissa(0.5, 1.5);
  std::uniform_int_distribution<int> exponent(-9, -4);
  const auto put = [&](std::vector<std::byte>& to, std::int64_t index, double value) {
    const std::uint32_t code = formats::encode(*format.scale, value);
    std::memcpy(to.data() + index * scale_bytes, &code, static_cast<std::size_t>(scale_bytes));
  };
  // NVFP4's scales use the range of their own type.
  if (format.second_scale) second_scale = 0x1.8p-12f;
  const double unit = format.second_scale ? 64 : 0.01;
  for (std::int64_t i = 0; i < grid.n * groups; ++i)
    put(scales, i,
        *format.scale == formats::kE8M0 ? std::ldexp(1.0, exponent(random)) : unit * mantissa(random));
  if (format.zero_point == ZeroPoint::kFloat) {
    zero_row_bytes = scale_row_bytes;
    zeros.resize(scales.size());
    for (std::int64_t i = 0; i < grid.n * groups; ++i)
      put(zeros, i, -0.01 * mantissa(random) * std::ldexp(1.0, bits - 1));
  } else if (format.zero_point == ZeroPoint::kInteger) {
    zero_row_bytes = static_cast<std::int64_t>(formats::packed_bytes(static_cast<std::size_t>(groups), bits));
    zeros.resize(static_cast<std::size_t>(grid.n * zero_row_bytes));
    for (std::byte& v : zeros) v = static_cast<std::byte>(random() & 0xff);
  }
}

WeightSource RandomWeight::source() const { return source(0, n); }

WeightSource RandomWeight::source(std::int64_t first, std::int64_t count) const {
  WeightRows rows{values.data() + first * row_bytes,
                  row_bytes,
                  scales.data() + scale_row(first) * scale_row_bytes,
                  scale_row_bytes,
                  count,
                  format.block.n == 0 ? n : format.block.n,
                  zeros.empty() ? nullptr : zeros.data() + scale_row(first) * zero_row_bytes,
                  zero_row_bytes};
  WeightSource all{format, k, {rows}};
  all.second_scale = second_scale;
  return all;
}

std::uint8_t RandomWeight::code(std::int64_t row, std::int64_t column) const {
  return formats::read_code({values.data() + row * row_bytes, static_cast<std::size_t>(row_bytes)},
                            format.element.bits, static_cast<std::size_t>(column));
}

float RandomWeight::scale(std::int64_t row, std::int64_t group) const {
  return read_number(*format.scale,
                     scales.data() + scale_row(row) * scale_row_bytes + group * (format.scale->bits / 8)) *
         second_scale;
}

float RandomWeight::zero(std::int64_t row, std::int64_t group) const {
  const std::byte* from = zeros.data() + scale_row(row) * zero_row_bytes;
  switch (format.zero_point) {
    case ZeroPoint::kNone:
      break;
    case ZeroPoint::kInteger:
      return formats::read_code({from, static_cast<std::size_t>(zero_row_bytes)}, format.element.bits,
                                static_cast<std::size_t>(group));
    case ZeroPoint::kFloat:
      return read_number(*format.scale, from + group * (format.scale->bits / 8)) * second_scale;
  }
  return 0;
}

double RandomWeight::value(std::int64_t row, std::int64_t column) const {
  const std::int64_t group = group_of(column);
  const double number = formats::decode(format.element, code(row, column));
  const double zero_point = zero(row, group);
  return format.zero_point == ZeroPoint::kFloat ? number * scale(row, group) + zero_point
                                                : (number - zero_point) * scale(row, group);
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

}  // namespace sabrewing::kernels::cuda
