#pragma once
// Parameters of the packing kernels, included by the launcher and by the device code: only built-in types.

namespace sabrewing::device {

inline constexpr int kMaxPackParts = 4;

/// A block of threads packs 64 rows by so many columns.
inline constexpr int kPackThreads = 256;
inline constexpr int kPackTileColumns = 256;

/// Of E2M1 weights folded into E4M3 numbers: the distance in binades from a row's largest scale that stays
/// exact, the power of two by which a weight beside that scale is stored larger, and how much of a row's norm
/// the rounding of more distant weights may take.
inline constexpr int kFoldedDistance = 11;
inline constexpr int kFoldedShift = 6;
inline constexpr double kFoldedError = 2e-3;

/// As kernels::WeightRows.
struct PackPart {
  const unsigned char* values;
  const unsigned char* scales;
  const unsigned char* zeros;
  long long row_stride;
  long long scale_row_stride;
  long long zero_row_stride;
  int rows;
  int rows_per_scale;
};

enum class PackEncoding { kE2M1E8M0, kInt4, kE4M3, kPlanes, kE2M1Folded };
enum class PackScales { kFactor, kBefore, kAfter };
enum class PackNumber { kNone, kFP32, kFP16, kBF16, kE4M3, kE8M0 };
enum class PackZeros { kNone, kInteger, kFloat };

/// What the kernels are compiled for.
struct PackLayout {
  PackEncoding encoding;
  PackScales scales;
  int slab_k;
  int words;
  int scale_words;
  int zero_word;  // of a row pair, where its zero points begin
  int group;
  int segment;
  int lane_bits;  // 16 or 8: of the operand
  int ledger;
  PackNumber stored_scale;
  // Of the format.
  int bits;
  int code_mask;  // stored codes are XORed with it
  int sign_low;   // 1: stored codes have the sign below the other bits, which are inverted where it is 1
  int infinite;   // smallest code without its sign that is NaN or infinite
  PackNumber scale;
  PackZeros zeros;
  int top_exponent;  // of the largest element
  int rebias;
  int swizzled;  // 1: kPlanes' codes are operands, in rows of 128 bytes with the 128-byte swizzle
};

struct PackParams {
  PackPart parts[kMaxPackParts];
  unsigned char* out;
  // Scratch: powers of two that the factor of each row takes over from its stored scales (of folded weights:
  // the row's largest exponent, or -1 without one), and as bits {the largest scale of all, trouble}.
  int* row_lowered;
  unsigned int* status;
  long long factor_offset;
  int n;
  int k;
  int slabs;
  int row_blocks;
  int columns;  // scales of a row
  float second_scale;
};

}  // namespace sabrewing::device
