#pragma once
// Packing of weights, word by word: what gemm/weight_layout.cpp and gemm/plane_layout.cpp do by element.
// Nothing here knows of threads: a test runs it on the host.

#include "arith.cuh"
#include "pack_params.h"

namespace sabrewing::device {

inline constexpr int kPackBlock = 64;   // rows, and columns of a box
inline constexpr int kScaleBias = 126;  // of the stored scales of MXFP4 and int4
inline constexpr int kInt4Shift = 4;    // that the factors of int4 take over

/// The source of one row.
struct PackRow {
  const u8* values;
  const u8* scales;
  const u8* zeros;
};
SW_DEVICE PackRow pack_row(const PackParams& p, int row) {
  int part = 0;
  while (row >= p.parts[part].rows) row -= p.parts[part++].rows;
  const PackPart& from = p.parts[part];
  const i64 block = row / from.rows_per_scale;
  return {from.values + row * from.row_stride, from.scales + block * from.scale_row_stride,
          from.zeros == nullptr ? nullptr : from.zeros + block * from.zero_row_stride};
}

// Code `index` of a dense stream.
SW_DEVICE u32 stream_code(const u8* stream, i64 index, int bits) {
  const i64 bit = index * bits;
  const int shift = static_cast<int>(bit & 7);
  u32 word = stream[bit >> 3];
  if (shift + bits > 8) word |= static_cast<u32>(stream[(bit >> 3) + 1]) << 8;
  return word >> shift & ((1u << bits) - 1);
}

SW_DEVICE int number_bytes(PackNumber type) {
  return type == PackNumber::kFP32 ? 4 : type == PackNumber::kFP16 || type == PackNumber::kBF16 ? 2 : 1;
}
SW_DEVICE u32 number_code(const u8* from, i64 index, int bytes) {
  u32 code = 0;
  for (int i = 0; i < bytes; ++i) code |= static_cast<u32>(from[index * bytes + i]) << (8 * i);
  return code;
}
SW_DEVICE float number_value(PackNumber type, u32 code) {
  switch (type) {
    case PackNumber::kFP32:
      return __uint_as_float(code);
    case PackNumber::kFP16:
      return f16_to_float(code);
    case PackNumber::kBF16:
      return __uint_as_float(code << 16);
    case PackNumber::kE8M0:
      return code == 255 ? __uint_as_float(0x7fc00000) : __uint_as_float(code == 0 ? 1u << 22 : code << 23);
    default: {
      if ((code & 0x7f) == 0x7f) return __uint_as_float(0x7fc00000);
      const int exponent = static_cast<int>(code >> 3 & 15), mantissa = static_cast<int>(code & 7);
      const float size = ldexpf(static_cast<float>(exponent > 0 ? 8 + mantissa : mantissa),
                                exponent > 0 ? exponent - 10 : -9);
      return code & 0x80 ? -size : size;
    }
  }
}
SW_DEVICE float read_scale(const PackParams& p, const u8* from, i64 index) {
  return number_value(p.scale, number_code(from, index, number_bytes(p.scale)));
}
SW_DEVICE bool is_finite(float x) { return (__float_as_uint(x) & 0x7f800000) != 0x7f800000; }

// floor(log2(|x|)) of a number that is finite and not zero.
SW_DEVICE int exponent_of(float x) {
  const u32 bits = __float_as_uint(x) & 0x7fffffff;
  if (bits >= 1u << 23) return static_cast<int>(bits >> 23) - 127;
  int exponent = -127;
  for (u32 b = bits << 1; b < 1u << 23; b <<= 1) --exponent;
  return exponent;
}

// The code of value * 2^exponent in a 16-bit type; `trouble` when that rounds.
SW_DEVICE u32 exact_code(PackNumber type, float value, int exponent, bool& trouble) {
  const double scaled = ldexp(static_cast<double>(value), exponent);
  const float single = static_cast<float>(scaled);
  trouble |= static_cast<double>(single) != scaled;
  if (type == PackNumber::kBF16) {
    trouble |= (__float_as_uint(single) & 0xffff) != 0;
    return __float_as_uint(single) >> 16;
  }
  const u32 code = float_to_f16(single);
  trouble |= f16_to_float(code) != single;
  return code;
}

// Powers of two that a row's factor takes over from its stored scales.
SW_DEVICE int lowered_of_all(float largest) {
  if (largest == 0) return 0;
  return max(0, exponent_of(largest) + kScaleBias - 127);
}
SW_DEVICE int lowered_of_row(const PackParams& p, float scale, float zero) {
  if (scale == 0 && zero == 0) return 0;
  const bool bf16 = p.stored_scale == PackNumber::kBF16;
  const int largest = bf16 ? 127 : 15;
  int lowered = bf16 ? 0 : -1000;
  if (scale > 0)
    lowered = max(lowered, max(exponent_of(scale) + p.rebias - largest,
                               exponent_of(scale) + p.top_exponent + 1 - (largest - 1)));
  if (zero > 0) lowered = max(lowered, exponent_of(zero) - (largest - 2));
  return lowered;
}

// The bits of the code of register `reg`, half `half` in a word; gemm/weight_layout.cpp has the table.
SW_DEVICE u32 fragment_bits(PackEncoding encoding, int reg, int half, u32 code) {
  if (encoding == PackEncoding::kE2M1E8M0) {
    const int sign = reg == 0 ? 15 : reg == 1 ? 12 : reg == 2 ? 14 : 13;
    const int magnitude = reg == 0 ? 6 : reg == 1 ? 3 : reg == 2 ? 0 : 9;
    return ((code >> 3) << sign | (code & 7) << magnitude) << (16 * half);
  }
  if (encoding == PackEncoding::kInt4) {
    const u32 bits = code ^ 8;
    const u32 shift = static_cast<u32>(reg == 3 ? 16 * half + 31 : 16 * half + 3 + 4 * reg) & 31;
    return __funnelshift_l(bits, bits, shift);
  }
  return code << (16 * half + 8 * (reg & 1));
}

SW_DEVICE bool is_trouble(const PackParams& p, u32 code) {
  return static_cast<int>(code & ((1u << (p.bits - 1)) - 1)) >= p.infinite;
}

// Word `index` of the weights of slab (row_block, slab).
SW_DEVICE u32 weight_word(const PackParams& p, int row_block, int slab, int index, bool& trouble) {
  const int box_words = p.words * 128, warp_words = p.words * 32;
  const int box = index / box_words, warp = index % box_words / warp_words, in_warp = index % warp_words;
  const int first_row = row_block * kPackBlock + warp * 16, first_column = slab * p.slab_k + box * kPackBlock;
  u32 out = 0;
  if (p.encoding != PackEncoding::kPlanes) {
    const int lane = in_warp % 128 / 4, word = in_warp / 128 * 4 + in_warp % 4;
    const int step = p.words == 4 ? word : word / 2, registers = p.words == 4 ? 4 : 2;
    for (int r = 0; r < 2; ++r) {
      const int row = first_row + lane / 4 + 8 * r;
      const PackRow from = pack_row(p, min(row, p.n - 1));
      for (int i = r; i < registers; i += 2) {
        const int reg = p.words == 4 ? i : word % 2 * 2 + i;
        for (int half = 0; half < 2; ++half) {
          const int column = first_column + step * 16 + reg / 2 * 8 + lane % 4 * 2 + half;
          const u32 code = row < p.n && column < p.k ? stream_code(from.values, column, p.bits) : 0;
          trouble |= is_trouble(p, code);
          out |= fragment_bits(p.encoding, reg, half, code);
        }
      }
    }
    return out;
  }
  int before = 0, bit = 0;
  for (int plane = 8; plane > 0; plane /= 2) {
    if (!(p.bits & plane)) continue;
    if (in_warp < (before + plane) * 32) {
      const int piece = min(plane, 4), in_plane = in_warp - before * 32;
      const int lane = in_plane % (32 * piece) / piece,
                word = in_plane / (32 * piece) * piece + in_plane % piece;
      const int fields = p.lane_bits / plane, lanes = 32 / p.lane_bits;
      for (int f = 0; f < fields; ++f) {
        const int reg = word * fields + f, row = first_row + lane / 4 + 8 * (reg % 2);
        if (row >= p.n) continue;
        const PackRow from = pack_row(p, row);
        const int column = first_column + reg / 4 * 8 * lanes + reg % 4 / 2 * 4 * lanes + lane % 4 * lanes;
        for (int q = 0; q < lanes && column + q < p.k; ++q) {
          const u32 code = stream_code(from.values, column + q, p.bits);
          trouble |= is_trouble(p, code);
          out |= ((code ^ static_cast<u32>(p.code_mask)) >> bit & ((1u << plane) - 1))
                 << (q * p.lane_bits + f * plane);
        }
      }
      return out;
    }
    before += plane;
    bit += plane;
  }
  return out;
}

// Word `index` of the scales and zero points of slab (row_block, slab).
SW_DEVICE u32 scale_word(const PackParams& p, int row_block, int slab, int index, bool& trouble) {
  const int pair = index / p.scale_words;
  int at = index % p.scale_words * 4;  // byte in the pair's entries
  const bool planes = p.encoding == PackEncoding::kPlanes;
  const int segment = planes ? p.segment : min(p.group, p.slab_k), segments = p.slab_k / segment;
  const bool is_zero = planes && at >= p.zero_word * 4;
  if (is_zero) at -= p.zero_word * 4;
  int bytes = p.encoding == PackEncoding::kE2M1E8M0 ? 1 : 2;
  // The halves of a pair of the fragment layouts are padded apart, so that each has two bytes.
  const int half_bytes = planes ? 0 : p.scale_words * 2;
  if (planes) bytes = is_zero ? (p.zeros == PackZeros::kInteger ? 1 : 2) : number_bytes(p.stored_scale);
  u32 out = 0;
  for (int b = 0; b < 4; b += bytes) {
    const int in_pair = at + b;
    const int entry =
        planes ? in_pair / bytes : in_pair / half_bytes * segments + in_pair % half_bytes / bytes;
    if (planes ? entry >= 2 * segments : in_pair % half_bytes / bytes >= segments) continue;
    const int row = row_block * kPackBlock + pair / 8 * 16 + pair % 8 + 8 * (entry / segments);
    const int column = slab * p.slab_k + entry % segments * segment;
    if (row >= p.n || column >= p.k) continue;
    const PackRow from = pack_row(p, row);
    const int source = p.group == 0 ? 0 : column / p.group;
    u32 code;
    if (p.encoding == PackEncoding::kE2M1E8M0) {
      const int lowered = lowered_of_all(__uint_as_float(p.status[0]));
      code = static_cast<u32>(max(static_cast<int>(from.scales[source]) + kScaleBias - lowered, 0));
    } else if (p.encoding == PackEncoding::kInt4) {
      const float value = ldexpf(read_scale(p, from.scales, source),
                                 kScaleBias - lowered_of_all(__uint_as_float(p.status[0])));
      const u32 bits = __float_as_uint(value);
      code = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    } else if (is_zero && p.zeros == PackZeros::kInteger) {
      code = stream_code(from.zeros, source, p.bits);
    } else if (p.scales == PackScales::kBefore) {
      const int lowered = lowered_of_row(p, p.row_scale[row], p.row_zero[row]);
      code = exact_code(p.stored_scale, read_scale(p, is_zero ? from.zeros : from.scales, source),
                        is_zero ? -lowered : p.rebias - lowered, trouble);
    } else {
      code = number_code(from.scales, source, bytes);
    }
    out |= code << (8 * b);
  }
  return out;
}

// Lane `lane` of `lanes` over the scales of a row: the largest scale and zero point. The result is trouble
// when one is not finite.
SW_DEVICE bool scan_row(const PackParams& p, int row, int lane, int lanes, float& scale, float& zero) {
  const PackRow from = pack_row(p, row);
  bool trouble = false;
  // Without groups these layouts only refuse NaN, which the factor shows.
  if (p.encoding != PackEncoding::kPlanes && p.group == 0) return false;
  for (int i = lane; i < p.columns; i += lanes) {
    const float value = read_scale(p, from.scales, i);
    trouble |= !is_finite(value);
    scale = fmaxf(scale, fabsf(value));
    if (p.zeros == PackZeros::kFloat) {
      const float point = read_scale(p, from.zeros, i);
      trouble |= !is_finite(point);
      zero = fmaxf(zero, fabsf(point));
    }
  }
  return trouble;
}

SW_DEVICE float row_factor(const PackParams& p, int row, bool& trouble) {
  if (row >= p.n) return 1;
  const PackRow from = pack_row(p, row);
  if (p.encoding != PackEncoding::kPlanes) {
    float factor = 1;
    if (p.group == 0) factor = read_scale(p, from.scales, 0);
    trouble |= factor != factor;
    const int lowered = p.group == 0 ? 0 : lowered_of_all(__uint_as_float(p.status[0]));
    return factor * ldexpf(1, lowered + (p.encoding == PackEncoding::kInt4 ? kInt4Shift : 0));
  }
  double factor = ldexp(static_cast<double>(p.second_scale), p.ledger);
  if (p.scales == PackScales::kFactor) factor *= static_cast<double>(read_scale(p, from.scales, 0));
  if (p.scales == PackScales::kBefore)
    factor = ldexp(factor, lowered_of_row(p, p.row_scale[row], p.row_zero[row]));
  trouble |= !is_finite(static_cast<float>(factor));
  return static_cast<float>(factor);
}

}  // namespace sabrewing::device
