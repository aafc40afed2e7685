#pragma once
// Decoders of the plane layout: any width of 1 to 8 bits for 16-bit and 8-bit operands. Codes of 8 bits
// beside 8-bit operands are operands themselves and lie as Hopper's instructions read them from shared
// memory: 64 rows of 128 bytes, with part i of 16 bytes of row r in place i ^ (r % 8).
//
// A slab's bytes are blocks of 64 columns, then the scales and zero points. In a block a lane owns 32 codes;
// their bits are split into planes of 8, 4, 2 or 1 bits (7 = 4 + 2 + 1, the lowest bits in the widest plane),
// and a plane of p bits is p words per lane, in pieces of at most 4: [warp 4][piece][lane 32][words]. So a
// lane reads each piece at once.
//
// The operand's fragment has four registers a step, of lanes (halves or bytes) that hold one number each:
// 16-bit, step of 16 columns: register i, half h is row 16w + g + 8*(i&1), column 2t + h + 8*(i>>1);
// 8-bit, step of 32 columns: register i, byte q is row 16w + g + 8*(i&1), column 4t + q + 16*(i>>1).
// Codes stay in the lane of a word in which they are used: register r = 4 * step + i of the block takes field
// r % f of word r / f of a plane, f = (bits of a lane) / p fields from the lane's lowest bit.
//
// The scales of a row pair: row g's segments, then row g+8's, each padded to words; zero points likewise.

#include "arith.cuh"

namespace sabrewing::device {

SW_DEVICE constexpr u32 replicate(u32 lane, int lane_bits) {
  return lane_bits == 16 ? lane * 0x00010001u : lane * 0x01010101u;
}

// Calls f(words, first) for each piece of a lane's `all_words` words in a block, which lies `first` * 128
// bytes from the warp's, `words` * 4 from one lane to the next.
template <typename F>
SW_DEVICE void for_each_piece(int all_words, const F& f) {
  int first = 0;
#pragma unroll
  for (int plane = 8; plane > 0; plane /= 2) {
    if (!(all_words & plane)) continue;
    const int words = plane < 4 ? plane : 4;
#pragma unroll
    for (int i = 0; i < plane; i += words) f(words, first + i);
    first += plane;
  }
}

// The codes of fragment register `index` of a block, in the low bits of their lanes.
template <int kBits, int kLaneBits>
SW_DEVICE u32 plane_codes(const u32* words, int index) {
  u32 code = 0;
  int bit = 0;
#pragma unroll
  for (int plane = 8; plane > 0; plane /= 2) {
    if (!(kBits & plane)) continue;
    const int fields = kLaneBits / plane;
    const u32 word = words[index / fields];
    const int from = index % fields * plane;
    const u32 mask = replicate(((1u << plane) - 1) << bit, kLaneBits);
    code |= (from >= bit ? word >> (from - bit) : word << (bit - from)) & mask;
    words += plane;
    bit += plane;
  }
  return code;
}

struct Bf16Operand {
  static constexpr int kBytes = 2, kMantissa = 7, kBias = 127;
  static constexpr u32 kOne = 0x3f803f80;
  static constexpr u32 kUnit = 0x43004300;  // 128: its last place is 1
  SW_DEVICE static u32 multiply(u32 a, u32 b) { return multiply_bf16x2(a, b); }
  SW_DEVICE static u32 fma(u32 a, u32 b, u32 c) { return fma_bf16x2(a, b, c); }
  SW_DEVICE static float value(u32 code) { return __uint_as_float(code << 16); }
};
struct F16Operand {
  static constexpr int kBytes = 2, kMantissa = 10, kBias = 15;
  static constexpr u32 kOne = 0x3c003c00;
  static constexpr u32 kUnit = 0x64006400;  // 1024
  SW_DEVICE static u32 multiply(u32 a, u32 b) { return multiply_f16x2(a, b); }
  SW_DEVICE static u32 fma(u32 a, u32 b, u32 c) { return fma_f16x2(a, b, c); }
  SW_DEVICE static float value(u32 code) { return f16_to_float(code); }
};
struct E4M3Operand {
  static constexpr int kBytes = 1, kMantissa = 3, kBias = 7;
};
struct E5M2Operand {
  static constexpr int kBytes = 1, kMantissa = 2, kBias = 15;
};
struct Int8Operand {
  static constexpr int kBytes = 1;
};

// An integer code minus its zero point; `kConstantZero` where the format has none of its own.
template <int kWidth, int kConstantZero>
struct IntElement {
  static constexpr int kBits = kWidth;
  static constexpr int kZero = kConstantZero;

  template <typename Operand>
  SW_DEVICE static u32 convert(u32 code, u32 zero) {
    if constexpr (Operand::kBytes == 2) {
      constexpr u32 kMinusUnit = Operand::kUnit | 0x80008000;
      if constexpr (kBits <= Operand::kMantissa) {
        return Operand::fma(code | Operand::kUnit, Operand::kOne, kMinusUnit | zero);
      } else {
        // Eight bits beside seven of mantissa: the top one apart, as 2^14 + 128 * bit.
        constexpr u32 kTop = 0x46804680, kLow = 0x007f007f;
        const u32 low =
            Operand::fma((code & kLow) | Operand::kUnit, Operand::kOne, kMinusUnit | (zero & kLow));
        const u32 top = Operand::fma(((code >> 7) & 0x00010001) | kTop, Operand::kOne,
                                     ((zero >> 7) & 0x00010001) | kTop | 0x80008000);
        return Operand::fma(top, Operand::kOne, low);
      }
    } else {
      // Each byte is 128 + value, so that no subtraction borrows from the next.
      const u32 shifted = (code | 0x80808080) - zero;
      return finish(shifted, Operand{});
    }
  }

  SW_DEVICE static u32 finish(u32 shifted, Int8Operand) { return shifted ^ 0x80808080; }
  // Sign and magnitude: up to 16, bits are E4M3 numbers of value * 2^-9.
  SW_DEVICE static u32 finish(u32 shifted, E4M3Operand) {
    const u32 negative = ~byte_signs(shifted);
    return ((shifted ^ negative) & 0x7f7f7f7f) + (negative & 0x81818181);
  }
};

// A signed integer of 4 bits without a zero point, for 8-bit operands, which are a power of two larger.
struct SignedInt4Element {
  static constexpr int kBits = 4;

  template <typename Operand>
  SW_DEVICE static u32 convert(u32 code) {
    return of(code, Operand{});
  }
  // Two's complement in the byte's upper half: 16 times the integer.
  SW_DEVICE static u32 of(u32 code, Int8Operand) { return code << 4; }
  // The lowest bit is the sign, those above are the magnitude, of a negative integer less 1. Up to 16, bits
  // are E4M3 numbers of value * 2^-9: 2^-8 times the integer.
  SW_DEVICE static u32 of(u32 code, E4M3Operand) {
    constexpr u32 kNegative = 0x80 + 2;  // the sign, and 1 of magnitude
    return (code & 0x01010101) * kNegative + (code & 0x0e0e0e0e);
  }
};

// A minifloat's bits in the places of a wider one's: the number times 2^(bias - Operand::kBias), subnormals
// too. 16-bit operands multiply by the power of two, 8-bit ones leave it to the epilogue.
template <int kExponent, int kMantissa>
struct FloatElement {
  static constexpr int kBits = 1 + kExponent + kMantissa;
  static constexpr int kBias = (1 << (kExponent - 1)) - 1;

  template <typename Operand>
  SW_DEVICE static u32 convert(u32 code) {
    constexpr int kLaneBits = 8 * Operand::kBytes;
    constexpr int kShift = Operand::kMantissa - kMantissa;
    constexpr u32 kSign = replicate(1u << (kLaneBits - 1), kLaneBits);
    constexpr u32 kMagnitude = replicate(((1u << (kBits - 1)) - 1) << kShift, kLaneBits);
    return ((code << (kLaneBits - kBits)) & kSign) | ((code << kShift) & kMagnitude);
  }
  template <typename Operand>
  SW_DEVICE static constexpr u32 rebias() {
    return replicate(static_cast<u32>(2 * Operand::kBias - kBias) << Operand::kMantissa, 16);
  }
};

// A code that is the operand.
struct OperandElement {
  static constexpr int kBits = 8;

  template <typename Operand>
  SW_DEVICE static u32 convert(u32 code) {
    return code;
  }
};

// E2M1 times 2, for integer arithmetic.
struct DoubledE2M1Element {
  static constexpr int kBits = 4;

  template <typename Operand>
  SW_DEVICE static u32 convert(u32 code) {
    const u32 pairs = code | (code >> 4);
    const u32 magnitude = __byte_perm(0x03020100, 0x0c080604, __byte_perm(pairs, 0, 0x4420) & 0x7777);
    const u32 negative = byte_signs(code << 4);
    const u32 shifted = (negative & (0x80808080 - magnitude)) | (~negative & (0x80808080 + magnitude));
    return shifted ^ 0x80808080;
  }
};

template <typename Element>
inline constexpr bool kIsInt = false;
template <int kWidth, int kZero>
inline constexpr bool kIsInt<IntElement<kWidth, kZero>> = true;

// Where scales are: in the epilogue, in the operand's 16-bit type multiplied into the weights, or stored as
// the checkpoint has them for FP32 sums of a segment.
struct NoScale {
  static constexpr int kBits = 0;
  static constexpr bool kBefore = false, kOfBlocks = false;
};
struct ScaleBefore {
  static constexpr int kBits = 16;
  static constexpr bool kBefore = true, kOfBlocks = false;
};
struct Bf16Scale {
  static constexpr int kBits = 16;
  static constexpr bool kBefore = false, kOfBlocks = false;
  SW_DEVICE static float value(u32 code) { return __uint_as_float(code << 16); }
};
struct F16Scale {
  static constexpr int kBits = 16;
  static constexpr bool kBefore = false, kOfBlocks = false;
  SW_DEVICE static float value(u32 code) { return f16_to_float(code); }
};
struct F32Scale {
  static constexpr int kBits = 32;
  static constexpr bool kBefore = false, kOfBlocks = false;
  SW_DEVICE static float value(u32 code) { return __uint_as_float(code); }
};
struct E8M0Scale {
  static constexpr int kBits = 8;
  static constexpr bool kBefore = false, kOfBlocks = false;
  SW_DEVICE static float value(u32 code) { return __uint_as_float(code == 0 ? 0x00400000 : code << 23); }
};
struct E4M3Scale {
  static constexpr int kBits = 8;
  static constexpr bool kBefore = false, kOfBlocks = false;
  SW_DEVICE static float value(u32 code) {
    return __uint_as_float((code & 0x80) << 24 | (code & 0x7f) << 20) * 0x1p120f;
  }
};

// The same of all rows of a block of 64.
template <typename Scale>
struct BlockScale : Scale {
  static constexpr bool kOfBlocks = true;
};

enum class Zeros { kNone, kInteger, kFloat };

// `kColumns` share a scale (a segment; 0: nothing in the slab). Steps of `decode` are those of a slab or, for
// slabs with one segment, of a block in it.
template <typename OperandType, typename Element, typename Scale, int kColumns, Zeros kZeros, int kSlab>
struct PlaneDecoder {
  using Operand = OperandType;
  static constexpr int kBytes = Operand::kBytes;
  static constexpr int kSlabK = kSlab;
  static constexpr int kWords = Element::kBits;  // per lane and 64 columns
  static constexpr int kSegment = kColumns;
  static constexpr int kSegments = kColumns == 0 ? 0 : kSlab / kColumns;  // of a slab
  static constexpr int kZeroBits = kZeros == Zeros::kInteger ? 8 : kZeros == Zeros::kFloat ? 16 : 0;
  static constexpr int kZeroWord = (2 * kSegments * Scale::kBits + 31) / 32;
  static constexpr int kScaleWords = kZeroWord + (2 * kSegments * kZeroBits + 31) / 32;
  static constexpr bool kScaleAfter = Scale::kBits > 0 && !Scale::kBefore;
  static constexpr bool kBlockScale = kScaleAfter && Scale::kOfBlocks;
  // A float zero point times the sum of the activations goes onto FP32 sums too.
  static constexpr bool kZeroAfter = kZeros == Zeros::kFloat && kScaleAfter;

  // Entry `index` of a section of `bits` wide ones, in every lane of `lane_bits`.
  SW_DEVICE static u32 lanes(const u32* section, int index, int bits, int lane_bits) {
    const int per = 32 / bits;
    const int at = index % per;
    const int selector = bits == 16        ? (at == 0 ? 0x1010 : 0x3232)
                         : lane_bits == 16 ? 0x4040 | at << 8 | at
                                           : at * 0x1111;
    return __byte_perm(section[index / per], 0, selector);
  }

  SW_DEVICE static void decode(const u32* words, const u32* scales, int j, u32 (&a)[4]) {
    constexpr int kStep = 32 / kBytes;
    constexpr int kBlockSteps = 64 / kStep;
    const u32* block = words + j / kBlockSteps * kWords;
    const int segment = kSegments > 1 ? j * kStep / kColumns : 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const u32 code = plane_codes<kWords, 8 * kBytes>(block, j % kBlockSteps * 4 + i);
      const int entry = (i & 1) * kSegments + segment;
      if constexpr (kIsInt<Element>) {
        u32 zero = replicate(Element::kZero, 8 * kBytes);
        if constexpr (kZeros == Zeros::kInteger) zero = lanes(scales + kZeroWord, entry, 8, 8 * kBytes);
        a[i] = Element::template convert<Operand>(code, zero);
        if constexpr (kZeros == Zeros::kFloat && Scale::kBefore)
          a[i] = Operand::fma(a[i], lanes(scales, entry, 16, 16), lanes(scales + kZeroWord, entry, 16, 16));
        else if constexpr (Scale::kBefore)
          a[i] = Operand::multiply(a[i], lanes(scales, entry, 16, 16));
      } else {
        a[i] = Element::template convert<Operand>(code);
        if constexpr (Scale::kBefore)
          a[i] = Operand::multiply(a[i], lanes(scales, entry, 16, 16));
        else if constexpr (kBytes == 2)
          if constexpr (Element::kBias != Operand::kBias)
            a[i] = Operand::multiply(a[i], Element::template rebias<Operand>());
      }
    }
  }

  // The scale of row g (`half` 0) or g+8 for FP32 sums.
  SW_DEVICE static float scale(const u32* scales, int half, int segment) {
    constexpr int kPer = 32 / Scale::kBits;
    const int entry = half * kSegments + segment;
    const u32 word = scales[entry / kPer] >> (entry % kPer * Scale::kBits);
    return Scale::value(Scale::kBits == 32 ? word : word & ((1u << (Scale::kBits % 32)) - 1));
  }
  SW_DEVICE static float zero(const u32* scales, int half, int segment) {
    static_assert(kZeroBits == 16);
    const int entry = half * kSegments + segment;
    return Operand::value(scales[kZeroWord + entry / 2] >> (entry % 2 * 16) & 0xffff);
  }
};

// Whether an instruction can read the weight from shared memory as it is.
template <typename Decoder>
inline constexpr bool kIsOperand = false;
template <typename Operand, typename Scale, int kColumns, Zeros kZeros, int kSlab>
inline constexpr bool kIsOperand<PlaneDecoder<Operand, OperandElement, Scale, kColumns, kZeros, kSlab>> =
    true;

}  // namespace sabrewing::device
