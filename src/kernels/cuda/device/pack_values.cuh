#pragma once
// Packing of weights: what gemm/weight_layout.cpp and gemm/plane_layout.cpp do by element. The phases of a
// block of threads take a thread's number: a test runs them on the host.

#include "arith.cuh"
#include "pack_params.h"

namespace sabrewing::device {

inline constexpr int kPackBlock = 64;   // rows, and columns of a box
inline constexpr int kScaleBias = 126;  // of the stored scales of MXFP4 and int4
inline constexpr int kInt4Shift = 4;    // that the factors of int4 take over
inline constexpr int kE8M0Bias = 127;

/// Words from a row of codes in shared memory to the next: four more than there are, so that eight rows lie
/// in different banks.
SW_DEVICE constexpr int tile_pitch(int bits) { return kPackTileColumns / 32 * bits + 4; }
inline constexpr int kPackTileWords = kPackBlock * tile_pitch(8);

/// The source of one row.
SW_DEVICE const PackPart& part_of(const PackParams& p, int& row) {
  int part = 0;
  while (row >= p.parts[part].rows) row -= p.parts[part++].rows;
  return p.parts[part];
}
SW_DEVICE const u8* row_values(const PackParams& p, int row) {
  const PackPart& from = part_of(p, row);
  return from.values + row * from.row_stride;
}
struct PackRow {
  const u8* scales;
  const u8* zeros;
};
SW_DEVICE PackRow row_scales(const PackParams& p, int row) {
  const PackPart& from = part_of(p, row);
  const int block = from.rows_per_scale == 1 ? row : row / from.rows_per_scale;
  return {from.scales + block * from.scale_row_stride,
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
      // The code's bits as those of a float are 2^120 too small.
      const float size = __uint_as_float((code & 0x7f) << 20) * __uint_as_float((127 + 120) << 23);
      return code & 0x80 ? -size : size;
    }
  }
}
SW_DEVICE float read_scale(const PackLayout& l, const u8* from, i64 index) {
  return number_value(l.scale, number_code(from, index, number_bytes(l.scale)));
}
SW_DEVICE bool is_finite(float x) { return (__float_as_uint(x) & 0x7f800000) != 0x7f800000; }

// 16 bytes at any address.
SW_DEVICE void load_group(const u8* from, u32 (&words)[4]) {
  if (reinterpret_cast<u64>(from) % 16 == 0) {
    load_words<4>(from, words);
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) words[i] = number_code(from, i, 4);
}

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
  const float scaled = ldexpf(value, exponent);
  trouble |= ldexpf(scaled, -exponent) != value;
  if (type == PackNumber::kBF16) {
    trouble |= (__float_as_uint(scaled) & 0xffff) != 0;
    return __float_as_uint(scaled) >> 16;
  }
  const u32 code = float_to_f16(scaled);
  trouble |= f16_to_float(code) != scaled;
  return code;
}

// Powers of two that a row's factor takes over from its stored scales.
SW_DEVICE int lowered_of_all(float largest) {
  if (largest == 0) return 0;
  return max(0, exponent_of(largest) + kScaleBias - 127);
}
SW_DEVICE int lowered_of_row(const PackLayout& l, float scale, float zero) {
  if (l.encoding == PackEncoding::kE2M1Folded) return scale == 0 ? -1 : exponent_of(scale) + kE8M0Bias;
  if (scale == 0 && zero == 0) return 0;
  const bool bf16 = l.stored_scale == PackNumber::kBF16;
  const int largest = bf16 ? 127 : 15;
  int lowered = bf16 ? 0 : -1000;
  if (scale > 0)
    lowered = max(lowered, max(exponent_of(scale) + l.rebias - largest,
                               exponent_of(scale) + l.top_exponent + 1 - (largest - 1)));
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

// Folded weights. Whether all weights of the group at `from` are zeros.
SW_DEVICE bool is_zero_group(const u8* from) {
  u32 words[4];
  load_group(from, words);
  return ((words[0] | words[1] | words[2] | words[3]) & 0x77777777) == 0;
}
// Binades between the largest scale of a row and the smallest, whose reciprocal is `inverse`.
SW_DEVICE int folded_spread(float scale, float inverse) {
  return scale == 0 ? 0 : exponent_of(scale) + exponent_of(inverse);
}
SW_DEVICE u32 doubled_magnitude(u32 code) {
  return (code & 4 ? 0x0c080604u : 0x03020100u) >> (8 * (code & 3)) & 0xff;
}
// A code `beyond` binades below those that are exact: its magnitude over 2^beyond, to nearest even.
SW_DEVICE u32 rounded_code(u32 code, int beyond) {
  if (beyond <= 0) return code;
  const u32 table = beyond == 1   ? 0x54322100
                    : beyond == 2 ? 0x32211000
                    : beyond == 3 ? 0x21100000
                    : beyond == 4 ? 0x10000000
                                  : 0;
  return (code & 8) | (table >> (4 * (code & 7)) & 7);
}
// Lane `lane` of `lanes` over a row whose largest exponent is `largest`: sums of the squares of what rounding
// changes and of the weights.
SW_DEVICE void folded_error(const PackParams& p, const PackLayout& l, int row, int largest, int lane,
                            int lanes, double& error, double& norm) {
  const u8* values = row_values(p, row);
  const u8* scales = row_scales(p, row).scales;
  for (int i = lane; i < p.columns; i += lanes) {
    const int distance = largest - static_cast<int>(scales[i]);
    const int beyond = distance - kFoldedDistance;
    u32 words[4];
    load_group(values + i * (l.group / 2), words);
    u32 changed = 0, all = 0;
#pragma unroll
    for (int w = 0; w < 4; ++w)
#pragma unroll 1
      for (int c = 0; c < 8; ++c) {
        const u32 code = words[w] >> (4 * c) & 7;
        const u32 size = doubled_magnitude(code);
        const u32 kept = beyond <= 0  ? size
                         : beyond > 4 ? 0
                                      : doubled_magnitude(rounded_code(code, beyond)) << beyond;
        all += size * size;
        changed += (kept - size) * (kept - size);
      }
    error += ldexp(static_cast<double>(changed), -2 * distance);
    norm += ldexp(static_cast<double>(all), -2 * distance);
  }
}

// Byte `byte` of a row's codes in a tile; `from` is the row's first. Codes beyond the matrix are such that
// they are stored as zeros.
SW_DEVICE u8 tile_byte(const PackParams& p, const PackLayout& l, const u8* from, bool present, int tile,
                       int byte) {
  const i64 left =
      static_cast<i64>(p.k) * l.bits - (static_cast<i64>(tile) * kPackTileColumns * l.bits + byte * 8);
  const int valid = present ? static_cast<int>(min(max(left, i64{0}), i64{8})) : 0;
  if (valid == 8) return from[byte];
  u32 padding = 0;
  for (int bit = 0; bit < 8; ++bit)
    padding |= (static_cast<u32>(l.code_mask) >> ((byte * 8 + bit) % l.bits) & 1) << bit;
  const u32 mask = (1u << valid) - 1;
  return static_cast<u8>((valid > 0 ? from[byte] & mask : 0) | (padding & ~mask));
}

// Copies the codes of a tile into shared memory.
SW_DEVICE void stage_codes(const PackParams& p, const PackLayout& l, int row_block, int tile, int thread,
                           u32* codes) {
  constexpr int kMostVectors = kPackBlock * kPackTileColumns / 16 / kPackThreads;
  const int vectors = kPackTileColumns / 128 * l.bits;  // of 16 bytes in a row
  const i64 row_bits = static_cast<i64>(p.k) * l.bits;
  const i64 first = static_cast<i64>(tile) * (kPackTileColumns / 8) * l.bits;
  u32 loaded[kMostVectors][4] = {};
  bool slow = false;
#pragma unroll
  for (int i = 0; i < kMostVectors; ++i) {
    const int at = i * kPackThreads + thread, row = row_block * kPackBlock + at / vectors;
    if (at >= kPackBlock * vectors) continue;
    const i64 byte = first + at % vectors * 16;
    const u8* from = row < p.n ? row_values(p, row) + byte : nullptr;
    const bool whole = row < p.n && (byte + 16) * 8 <= row_bits && reinterpret_cast<u64>(from) % 16 == 0;
    if (whole) load_words<4>(from, loaded[i]);
    slow |= !whole;
  }
#pragma unroll
  for (int i = 0; i < kMostVectors; ++i) {
    const int at = i * kPackThreads + thread;
    if (at >= kPackBlock * vectors) continue;
#pragma unroll
    for (int w = 0; w < 4; ++w)
      codes[at / vectors * tile_pitch(l.bits) + at % vectors * 4 + w] = loaded[i][w];
  }
  if (!slow) return;
  for (int at = thread; at < kPackBlock * vectors; at += kPackThreads) {
    const int row = row_block * kPackBlock + at / vectors;
    const u8* from = row < p.n ? row_values(p, row) + first : nullptr;
    u8* to = reinterpret_cast<u8*>(codes + at / vectors * tile_pitch(l.bits));
#pragma unroll 4
    for (int byte = at % vectors * 16; byte < at % vectors * 16 + 16; ++byte)
      to[byte] = tile_byte(p, l, from, row < p.n, tile, byte);
  }
}

// `count` codes of a row of a tile from `column` on, a multiple of `count`; with others above them.
SW_DEVICE u32 tile_codes(const PackLayout& l, const u32* row, int column, int count) {
  const int bit = column * l.bits;
  u64 word = row[bit / 32];
  if (32 % (count * l.bits) != 0) word |= static_cast<u64>(row[bit / 32 + 1]) << 32;
  return static_cast<u32>(word >> (bit % 32));
}

// Puts code q of a register's into a lane's words: register `reg` of the MMA of 16 (or 32) columns number
// `step`.
SW_DEVICE void place_code(const PackLayout& l, int step, int reg, int q, u32 code, u32 (&out)[8]) {
  if (l.encoding == PackEncoding::kE2M1Folded) {
    const int high = reg / 2;
    out[step * 2 + reg % 2] |= (code & 7) << (16 * high + 4 * q) | (code >> 3) << (8 * q + (high ? 3 : 7));
    return;
  }
  if (l.encoding != PackEncoding::kPlanes) {
    out[l.words == 4 ? step : step * 2 + reg / 2] |= fragment_bits(l.encoding, reg, q, code);
    return;
  }
  int before = 0;
#pragma unroll
  for (int i = 3; i >= 0; --i) {
    const int plane = 1 << i;
    if (!(l.bits & plane)) continue;
    const int fields = l.lane_bits / plane, index = step * 4 + reg;
    out[before + index / fields] |= (code >> before & ((1u << plane) - 1))
                                    << (q * l.lane_bits + index % fields * plane);
    before += plane;
  }
}

// A code as kPlanes stores it.
SW_DEVICE u32 stored_code(const PackLayout& l, u32 code) {
  code ^= static_cast<u32>(l.code_mask);
  if (!l.sign_low) return code;
  const u32 all = (1u << l.bits) - 1;
  return (code << 1 & all) ^ (code >> (l.bits - 1)) * all;
}

// Of a folded weight: how far its group is below those that are exact.
SW_DEVICE int binades_beyond(const PackParams& p, const PackLayout& l, int row, int column) {
  if (row >= p.n || column >= p.k) return 0;
  return p.row_lowered[row] - static_cast<int>(row_scales(p, row).scales[column / l.group]) - kFoldedDistance;
}

// A lane's words of 16 rows (strip) by 64 columns (box) of a tile.
SW_DEVICE void lane_words(const PackParams& p, const PackLayout& l, int row_block, int tile, const u32* codes,
                          int strip, int box, int lane, u32 (&out)[8], bool& trouble) {
  const int lanes = 32 / l.lane_bits, half = 4 * lanes;
  const u32 code_mask = (1u << l.bits) - 1;
  u32 infinite = 0;
#pragma unroll
  for (int i = 0; i < 8; ++i) out[i] = 0;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    const u32* row = codes + (strip * 16 + 8 * r + lane / 4) * tile_pitch(l.bits);
#pragma unroll
    for (int g = 0; g < kPackBlock / 8; ++g) {
      if (g >= kPackBlock / half) continue;
      const u32 group = tile_codes(l, row, box * kPackBlock + g * half + lane % 4 * lanes, lanes);
      const int beyond = l.encoding == PackEncoding::kE2M1Folded
                             ? binades_beyond(p, l, row_block * kPackBlock + strip * 16 + 8 * r + lane / 4,
                                              tile * kPackTileColumns + box * kPackBlock + g * half)
                             : 0;
      if (l.infinite < 128)
        infinite |= ((group & 0x7f7f7f7fu) + static_cast<u32>(128 - l.infinite) * 0x01010101u) &
                    (lanes == 2 ? 0x8080u : 0x80808080u);
#pragma unroll
      for (int q = 0; q < 4; ++q)
        if (q < lanes) {
          const u32 code = group >> (q * l.bits) & code_mask;
          place_code(
              l, g / 2, g % 2 * 2 + r, q,
              l.encoding == PackEncoding::kE2M1Folded ? rounded_code(code, beyond) : stored_code(l, code),
              out);
        }
    }
  }
  trouble |= infinite != 0;
}

// The words of a plane lie by lane, at most four of a lane's together.
SW_DEVICE void store_lane(const PackLayout& l, int lane, const u32 (&words)[8], u32* to) {
  int before = 0;
#pragma unroll
  for (int i = 3; i >= 0; --i) {
    const int plane = 1 << i;
    if (!(l.words & plane)) continue;
    if (plane == 8) {
      store_words<4>(to + lane * 4, words);
      store_words<4>(to + 128 + lane * 4, words + 4);
    } else if (plane == 4) {
      store_words<4>(to + before * 32 + lane * 4, words + before);
    } else if (plane == 2) {
      store_words<2>(to + before * 32 + lane * 2, words + before);
    } else {
      store_words<1>(to + before * 32 + lane, words + before);
    }
    before += plane;
  }
}

// Words of 16 rows (strip) by 64 columns (box of the slab) that are the operand; word 4 * step + i of a lane
// is register i of a fragment.
SW_DEVICE void store_swizzled(int strip, int box, int lane, const u32 (&words)[8], u32* slab) {
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int row = strip * 16 + lane / 4 + 8 * (i & 1), part = box * 4 + i / 2;
    slab[row * 32 + (part ^ (row & 7)) * 4 + lane % 4] = words[i];
  }
}

SW_DEVICE int slab_weight_words(const PackLayout& l) { return l.slab_k / kPackBlock * 128 * l.words; }
SW_DEVICE u32* slab_words(const PackParams& p, const PackLayout& l, int row_block, int slab) {
  return reinterpret_cast<u32*>(p.out) +
         (static_cast<i64>(row_block) * p.slabs + slab) * (slab_weight_words(l) + 32 * l.scale_words);
}

// The weights of a tile from its codes; a warp takes 16 rows by 64 columns at a time.
SW_DEVICE void pack_codes(const PackParams& p, const PackLayout& l, int row_block, int tile, int thread,
                          const u32* codes, bool& trouble) {
  constexpr int kBoxes = kPackTileColumns / kPackBlock;
  for (int i = thread / 32; i < kBoxes * 4; i += kPackThreads / 32) {
    const int strip = i % 4, box = i / 4, column = tile * kPackTileColumns + box * kPackBlock;
    const int slab = column / l.slab_k, in_slab = column % l.slab_k / kPackBlock;
    if (slab >= p.slabs) return;
    u32 words[8];
    lane_words(p, l, row_block, tile, codes, strip, box, thread % 32, words, trouble);
    u32* const to = slab_words(p, l, row_block, slab);
    if (l.swizzled)
      store_swizzled(strip, in_slab, thread % 32, words, to);
    else
      store_lane(l, thread % 32, words, to + (in_slab * 4 + strip) * 32 * l.words);
  }
}

// Word `index` of the scales and zero points of slab (row_block, slab).
SW_DEVICE u32 scale_word(const PackParams& p, const PackLayout& l, int row_block, int slab, int index,
                         int lowered_of_matrix, bool& trouble) {
  const int pair = index / l.scale_words;
  int at = index % l.scale_words * 4;  // byte in the pair's entries
  const bool planes = l.encoding == PackEncoding::kPlanes;
  const int segment = planes ? l.segment : min(l.group, l.slab_k), segments = l.slab_k / segment;
  const bool is_zero = planes && at >= l.zero_word * 4;
  if (is_zero) at -= l.zero_word * 4;
  int bytes = l.encoding == PackEncoding::kE2M1E8M0 || l.encoding == PackEncoding::kE2M1Folded ? 1 : 2;
  // The halves of a pair of the fragment layouts are padded apart, so that each has two bytes.
  const int half_bytes = planes ? 0 : l.scale_words * 2;
  if (planes) bytes = is_zero ? (l.zeros == PackZeros::kInteger ? 1 : 2) : number_bytes(l.stored_scale);
  u32 out = 0;
  for (int b = 0; b < 4; b += bytes) {
    const int in_pair = at + b;
    const int entry =
        planes ? in_pair / bytes : in_pair / half_bytes * segments + in_pair % half_bytes / bytes;
    if (planes ? entry >= 2 * segments : in_pair % half_bytes / bytes >= segments) continue;
    const int row = row_block * kPackBlock + pair / 8 * 16 + pair % 8 + 8 * (entry / segments);
    const int column = slab * l.slab_k + entry % segments * segment;
    if (row >= p.n || column >= p.k) continue;
    const PackRow from = row_scales(p, row);
    const int source = l.group == 0 ? 0 : column / l.group;
    u32 code;
    if (l.encoding == PackEncoding::kE2M1E8M0) {
      code = static_cast<u32>(max(static_cast<int>(from.scales[source]) + kScaleBias - lowered_of_matrix, 0));
    } else if (l.encoding == PackEncoding::kE2M1Folded) {
      const int distance = p.row_lowered[row] - static_cast<int>(from.scales[source]);
      code = static_cast<u32>(8 * min(max(distance, 0), kFoldedDistance));
    } else if (l.encoding == PackEncoding::kInt4) {
      const float value = ldexpf(read_scale(l, from.scales, source), kScaleBias - lowered_of_matrix);
      const u32 bits = __float_as_uint(value);
      code = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    } else if (is_zero && l.zeros == PackZeros::kInteger) {
      code = stream_code(from.zeros, source, l.bits);
    } else if (l.scales == PackScales::kBefore) {
      const int lowered = p.row_lowered[row];
      code = exact_code(l.stored_scale, read_scale(l, is_zero ? from.zeros : from.scales, source),
                        is_zero ? -lowered : l.rebias - lowered, trouble);
    } else if (is_zero) {  // a BF16 number, whatever its type in the checkpoint
      code = __float_as_uint(read_scale(l, from.zeros, source)) >> 16;
    } else {
      code = number_code(from.scales, source, bytes);
    }
    out |= code << (8 * b);
  }
  return out;
}

// The scales and zero points of a tile.
SW_DEVICE void pack_scales(const PackParams& p, const PackLayout& l, int row_block, int tile, int thread,
                           bool& trouble) {
  const int slabs = kPackTileColumns / l.slab_k, words = 32 * l.scale_words;
  if (words == 0) return;
  const int lowered = l.encoding == PackEncoding::kPlanes ? 0 : lowered_of_all(__uint_as_float(p.status[0]));
  for (int i = thread; i < slabs * words; i += kPackThreads) {
    const int slab = tile * slabs + i / words;
    if (slab >= p.slabs) return;
    slab_words(p, l, row_block, slab)[slab_weight_words(l) + i % words] =
        scale_word(p, l, row_block, slab, i % words, lowered, trouble);
  }
}

// Lane `lane` of `lanes` over the scales of a row: the largest scale and zero point; of folded weights the
// largest scale and the smallest one's reciprocal, both of groups that are not zeros. The result is trouble
// when one is not finite.
SW_DEVICE bool scan_row(const PackParams& p, const PackLayout& l, int row, int lane, int lanes, float& scale,
                        float& zero) {
  const PackRow from = row_scales(p, row);
  const u8* values = row_values(p, row);
  bool trouble = false;
  // Without groups these layouts only refuse NaN, which the factor shows.
  if (l.encoding != PackEncoding::kPlanes && l.group == 0) return false;
#pragma unroll 8
  for (int i = lane; i < p.columns; i += lanes) {
    const float value = read_scale(l, from.scales, i);
    trouble |= !is_finite(value);
    if (l.encoding == PackEncoding::kE2M1Folded) {
      if (is_zero_group(values + i * (l.group / 2))) continue;
      zero = fmaxf(zero, number_value(PackNumber::kE8M0, 254u - from.scales[i]));
    }
    scale = fmaxf(scale, fabsf(value));
    if (l.zeros == PackZeros::kFloat) {
      const float point = read_scale(l, from.zeros, i);
      trouble |= !is_finite(point);
      zero = fmaxf(zero, fabsf(point));
    }
  }
  return trouble;
}

SW_DEVICE float row_factor(const PackParams& p, const PackLayout& l, int row, bool& trouble) {
  if (row >= p.n) return 1;
  if (l.encoding == PackEncoding::kE2M1Folded) {
    const int largest = p.row_lowered[row];
    return largest < 0 ? 1.0f : ldexpf(1, largest - kE8M0Bias - kFoldedShift);
  }
  const PackRow from = row_scales(p, row);
  if (l.encoding != PackEncoding::kPlanes) {
    float factor = 1;
    if (l.group == 0) factor = read_scale(l, from.scales, 0);
    trouble |= factor != factor;
    const int lowered = l.group == 0 ? 0 : lowered_of_all(__uint_as_float(p.status[0]));
    return factor * ldexpf(1, lowered + (l.encoding == PackEncoding::kInt4 ? kInt4Shift : 0));
  }
  double factor = ldexp(static_cast<double>(p.second_scale), l.ledger);
  if (l.scales == PackScales::kFactor) factor *= static_cast<double>(read_scale(l, from.scales, 0));
  if (l.scales == PackScales::kBefore) factor = ldexp(factor, p.row_lowered[row]);
  trouble |= !is_finite(static_cast<float>(factor));
  return static_cast<float>(factor);
}

SW_DEVICE void pack_factor(const PackParams& p, const PackLayout& l, int row_block, int thread,
                           bool& trouble) {
  if (thread >= kPackBlock) return;
  const int row = row_block * kPackBlock + thread;
  reinterpret_cast<float*>(p.out + p.factor_offset)[row] = row_factor(p, l, row, trouble);
}

}  // namespace sabrewing::device
