#pragma once
// Packed weights to the A fragments of an MMA. One decoder per (weight, activation) pair.
//
// A slab is 64 rows (output features) by kSlabK columns. Its bytes are kSlabK/64 blocks
// [warp 4][kWords/4][lane 32][4 words], then the scales [warp 4][row g 8][kScaleWords words]. Lane 4g+t of
// warp w holds rows 16w+g and 16w+g+8. The fragment of a 16-bit MMA's k16 step j has four registers of two
// values each: register i, half h is row 16w + g + 8*(i&1), column 16j + 8*(i>>1) + 2t + h. That of an 8-bit
// MMA's k32 step j has four values in a register: byte q is column 32j + 16*(i>>1) + 4t + q.

#include "arith.cuh"

namespace sabrewing::device {

// E2M1 with an E8M0 scale per 32, to BF16. The bits of a value land in BF16's sign, low exponent and top
// mantissa places, which makes the number times 2^-126; the stored scale byte carries 2^126, so that one
// exact multiplication finishes it.
struct E2M1E8M0ToBf16 {
  static constexpr int kBytes = 2;  // of an operand element
  static constexpr int kSegment = 0;
  static constexpr int kSlabK = 64;
  static constexpr int kWords = 4;       // per lane and 64 columns
  static constexpr int kScaleWords = 1;  // per row pair and slab: row g {0..31, 32..63}, row g+8 {..}
  static constexpr bool kScaleAfter = false, kZeroAfter = false, kBlockScale = false;

  SW_DEVICE static u32 scale(u32 word, int byte) {
    return __byte_perm(word, 0, 0x0404 | byte << 12 | byte << 4) >> 1;
  }
  SW_DEVICE static void decode(const u32* words, const u32* scales, int j, u32 (&a)[4]) {
    const u32 w = words[j];
    const u32 low = scale(scales[0], j / 2);
    const u32 high = scale(scales[0], 2 + j / 2);
    constexpr u32 kSign = 0x80008000, kRest = 0x01c001c0;
    a[0] = multiply_bf16x2(w & (kSign | kRest), low);
    a[1] = multiply_bf16x2((w << 3) & (kSign | kRest), high);
    a[2] = multiply_bf16x2(((w << 1) & kSign) | ((w << 6) & kRest), low);
    a[3] = multiply_bf16x2(((w << 2) & kSign) | ((w >> 3) & kRest), high);
  }
};

// 4-bit integers stored as value + 8, one BF16 scale per kGroup columns (a multiple of 64; 0: none), to BF16.
// A code in bits 6..3 is the subnormal code * 2^-130. The stored scale is 2^126 times the true one, so that
// one fused multiplication and addition of -8 scales gives the scaled value times 2^-4, rounded once. With
// kAfter the weights stay exact integers and the scale is applied to FP32 sums of a slab.
template <int kGroup, bool kAfter>
struct Int4ToBf16 {
  static constexpr int kSlabK = kGroup > 0 && kGroup % 128 == 0 ? 128 : 64;
  static constexpr int kBytes = 2, kSegment = kSlabK;
  static constexpr int kWords = 4;
  static constexpr int kScaleWords = kGroup > 0;  // row g in the low half, row g+8 in the high half
  static constexpr bool kScaleAfter = kAfter, kZeroAfter = false, kBlockScale = false;

  SW_DEVICE static void decode(const u32* words, const u32* scales, int j, u32 (&a)[4]) {
    constexpr u32 kCode = 0x00780078;
    const u32 w = words[j];
    // Multiplier and addend of rows g and g+8. Without a scale in the loop: 2^126, and -8 * 2^-4.
    u32 low = 0x7e807e80, high = 0x7e807e80, low_zero = 0xbf00bf00, high_zero = 0xbf00bf00;
    if constexpr (kGroup > 0 && !kAfter) {
      low = __byte_perm(scales[0], 0, 0x1010);
      high = __byte_perm(scales[0], 0, 0x3232);
      low_zero = multiply_bf16x2(low, 0x80408040);  // -2^-127
      high_zero = multiply_bf16x2(high, 0x80408040);
    }
    a[0] = fma_bf16x2(w & kCode, low, low_zero);
    a[1] = fma_bf16x2((w >> 4) & kCode, high, high_zero);
    a[2] = fma_bf16x2((w >> 8) & kCode, low, low_zero);
    a[3] = fma_bf16x2(__funnelshift_l(w, w, 4) & kCode, high, high_zero);
  }
  // True scales: the weights are 2^-4 of the integers, as with the scale inside.
  SW_DEVICE static float scale_low(const u32* scales) { return __uint_as_float(scales[0] << 16) * 0x1p-126f; }
  SW_DEVICE static float scale_high(const u32* scales) {
    return __uint_as_float(scales[0] & 0xffff0000u) * 0x1p-126f;
  }
  SW_DEVICE static float scale(const u32* scales, int half, int) {
    return half == 0 ? scale_low(scales) : scale_high(scales);
  }
};

// E4M3 without a scale in the loop (per channel or tensor, in the epilogue), to BF16: the number times 2^-120
// by bit placement, and an exact multiplication by 2^120. Words 2j and 2j+1 belong to step j; the bytes of a
// word are register 2i half 0, register 2i+1 half 0, register 2i half 1, register 2i+1 half 1.
struct E4M3ToBf16 {
  static constexpr int kBytes = 2, kSegment = 0;
  static constexpr int kSlabK = 64;
  static constexpr int kWords = 8;
  static constexpr int kScaleWords = 0;
  static constexpr bool kScaleAfter = false, kZeroAfter = false, kBlockScale = false;

  SW_DEVICE static u32 place(u32 w) { return (w & 0x80008000) | ((w >> 4) & 0x07f007f0); }
  SW_DEVICE static void decode(const u32* words, const u32*, int j, u32 (&a)[4]) {
    constexpr u32 kRebias = (120 + 127) << 7 | (120 + 127) << 23;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const u32 w = words[2 * j + i];
      a[2 * i] = multiply_bf16x2(place(w << 8), kRebias);
      a[2 * i + 1] = multiply_bf16x2(place(w), kRebias);
    }
  }
};

// E2M1 with an E8M0 scale per 32, to E4M3, with the scales in the exponents: a group d binades below its
// row's largest scale has the byte 8d, which a subtraction takes from the E4M3 codes of the eight magnitudes
// times 2^6; the weights' magnitudes select among them. Exact up to d = 11. Word 2j + h belongs to step j and
// row g + 8h. The magnitude of register h, byte q is in nibble q, that of register h + 2 in nibble q + 4;
// their signs are the top bits of nibbles 2q + 1 and 2q.
struct E2M1FoldedToE4M3 {
  static constexpr int kBytes = 1, kSegment = 0;
  static constexpr int kSlabK = 128;
  static constexpr int kWords = 4;
  static constexpr int kScaleWords = 2;  // row g, row g+8: a byte for each step
  static constexpr bool kScaleAfter = false, kZeroAfter = false, kBlockScale = false;

  SW_DEVICE static void decode(const u32* words, const u32* scales, int j, u32 (&a)[4]) {
    constexpr u32 kSigns = 0x80808080, kMagnitudes = 0x77777777;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const u32 byte = __byte_perm(scales[h], 0, 0x4440 | j);
      const u32 low = 0x6c686000 - byte * 0x01010100;  // of 1.5, 1, 0.5, 0
      const u32 high = 0x7c787470 - byte * 0x01010101;
      const u32 w = words[2 * j + h];
      const u32 select = w & kMagnitudes;
      a[h] = __byte_perm(low, high, select) | (w & kSigns);
      a[h + 2] = __byte_perm(low, high, select >> 16) | ((w << 4) & kSigns);
    }
  }
};

// Bytes of one warp's rows in a block of 64 columns.
template <typename Decoder>
inline constexpr int kWarpBytes = 32 * 4 * Decoder::kWords;
template <typename Decoder>
inline constexpr int kSlabWeightBytes = Decoder::kSlabK / 64 * 4 * kWarpBytes<Decoder>;
template <typename Decoder>
inline constexpr int kSlabBytes = kSlabWeightBytes<Decoder> + 32 * 4 * Decoder::kScaleWords;

}  // namespace sabrewing::device
