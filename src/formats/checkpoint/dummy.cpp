#include "formats/checkpoint/dummy.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "formats/numeric/dequantize.h"
#include "formats/numeric/element_type.h"

namespace sabrewing::formats {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;

/// The finalizer of splitmix64.
constexpr std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

/// Random bits where `keep` has ones and `base` elsewhere, in every lane of 8, 16 or 32 bits.
struct Pattern {
  int lane_bits = 8;
  std::uint32_t keep = 0xff;
  std::uint32_t base = 0;
};

std::uint64_t replicate(std::uint32_t lane, int lane_bits) {
  std::uint64_t word = 0;
  for (int shift = 0; shift < 64; shift += lane_bits) word |= std::uint64_t{lane} << shift;
  return word;
}

void fill(const Pattern& pattern, std::uint64_t seed, std::span<std::byte> out, ThreadPool* pool) {
  const std::uint64_t keep = replicate(pattern.keep, pattern.lane_bits);
  const std::uint64_t base = replicate(pattern.base, pattern.lane_bits);
  const auto fill_chunk = [&](std::int64_t index, int) {
    const std::size_t begin = static_cast<std::size_t>(index) * kChunk;
    const auto chunk = out.subspan(begin, std::min(kChunk, out.size() - begin));
    std::uint64_t state = mix(seed ^ mix(static_cast<std::uint64_t>(index) + 1));
    for (std::size_t at = 0; at < chunk.size(); at += sizeof(std::uint64_t)) {
      state += 0x9e3779b97f4a7c15;
      const std::uint64_t word = (mix(state) & keep) | base;
      std::memcpy(chunk.data() + at, &word, std::min(sizeof word, chunk.size() - at));
    }
  };
  const auto chunks = static_cast<std::int64_t>((out.size() + kChunk - 1) / kChunk);
  if (pool != nullptr) {
    pool->parallel_for(chunks, fill_chunk);
  } else {
    for (std::int64_t index = 0; index < chunks; ++index) fill_chunk(index, 0);
  }
}

/// Root mean square of values spread over two neighbouring octaves, the lower one beginning at 1:
/// uniformly within each (mantissa bits), or on their two powers of two.
double two_octaves_rms(ElementType type) { return type.mantissa == 0 ? std::sqrt(2.5) : std::sqrt(35.0 / 6); }

/// Values of a floating-point type in the two octaves whose root mean square is nearest to `rms`.
Pattern two_octaves(ElementType type, double rms, bool with_sign) {
  const bool is_exponent = type.kind == ElementType::Kind::kExponent;
  const int bias = is_exponent ? 127 : (1 << (type.exponent - 1)) - 1;
  // The lowest exponent bit is random, so the lower octave has an even exponent field; 0 would be
  // subnormal, and the two highest may hold no numbers.
  const int highest = (1 << type.exponent) - 4;
  const double field = std::log2(rms / two_octaves_rms(type)) + bias;
  const int even =
      std::clamp(2 * static_cast<int>(std::lround(std::clamp(field, -1e4, 1e4) / 2)), 2, highest);
  Pattern pattern;
  pattern.lane_bits = type.bits;
  pattern.base = static_cast<std::uint32_t>(even) << type.mantissa;
  pattern.keep = (1u << type.mantissa) | ((1u << type.mantissa) - 1);
  if (with_sign) pattern.keep |= 1u << (type.bits - 1);
  return pattern;
}

/// All finite codes of a type of at most 8 bits; those of E4M3 and E5M2 below 2.
Pattern all_codes(ElementType type) {
  Pattern pattern;
  if (type == kE4M3 || type == kE5M2) pattern.keep = 0xbf;
  return pattern;
}

double codes_rms(ElementType type, const Pattern& pattern) {
  double sum = 0;
  int count = 0;
  const std::vector<float> table = decode_table(type);
  for (std::uint32_t code = 0; code < table.size(); ++code) {
    if ((code & pattern.keep) != code) continue;
    sum += double{table[code]} * double{table[code]};
    ++count;
  }
  return std::sqrt(sum / count);
}

void check_rms(double rms) {
  SABREWING_CHECK(rms > 0 && std::isfinite(rms), kInvalidArgument, "[dummy] root mean square is {}", rms);
}

}  // namespace

void fill_dummy_values(ElementType type, double rms, std::uint64_t seed, std::span<std::byte> out,
                       ThreadPool* pool) {
  SABREWING_CHECK(type.is_valid() && type.kind == ElementType::Kind::kIeee, kInvalidArgument,
                  "[dummy] {} cannot hold plain values, expected bf16, fp16 or fp32", to_string(type));
  check_rms(rms);
  fill(two_octaves(type, rms, true), seed, out, pool);
}

float fill_dummy_weight(const WeightFormat& format, double rms, std::uint64_t seed, std::span<std::byte> data,
                        std::span<std::byte> scales, ThreadPool* pool) {
  const Feasibility feasible = can_dequantize(format);
  SABREWING_CHECK(feasible, kUnsupported, "[dummy] {}: {}", to_string(format), feasible.reason);
  check_rms(rms);
  if (!format.scale) {
    fill_dummy_values(format.element, rms, seed, data, pool);
    return 1;
  }
  const Pattern codes = all_codes(format.element);
  SABREWING_CHECK(format.element.bits <= 8 && format.element != kE8M0 && format.scale->exponent >= 4,
                  kUnsupported, "[dummy] {}: no random weights of this format", to_string(format));
  fill(codes, seed, data, pool);
  // Below a second-level scale the block scales keep to the middle of their range.
  const double block_rms = format.second_scale ? 8 : rms / codes_rms(format.element, codes);
  fill(two_octaves(*format.scale, block_rms, false), ~seed, scales, pool);
  return format.second_scale ? static_cast<float>(rms / codes_rms(format.element, codes) / block_rms) : 1.0f;
}

}  // namespace sabrewing::formats
