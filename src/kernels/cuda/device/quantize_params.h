#pragma once
// Parameters of the activation quantizers, included by the launcher and by the device code: only built-in
// types; strides in elements.

namespace sabrewing::device {

struct QuantizeParams {
  const void* x;
  void* codes;
  void* scales;
  long long x_stride;
  long long codes_stride;
  int m;
  int k;  // a multiple of 8
  // A block of `quantize_tokens` takes so many rows, one for each y of its threads; the first blocks one
  // more.
  int block_rows;
  int longer_blocks;
};

/// A block of `quantize_groups` takes so many columns, and two rows at a time.
inline constexpr int kGroupTileColumns = 1024;
inline constexpr int kGroupTileThreads = 256;
inline constexpr int kGroupTileRows = kGroupTileThreads * 8 / kGroupTileColumns;

}  // namespace sabrewing::device
