#pragma once
// Activation quantizers: a block for some rows, or for a tile of groups.

#include "ptx.cuh"
#include "quantize_params.h"
#include "quantize_values.cuh"

namespace sabrewing::device {

SW_DEVICE void load_vector(const QuantizeParams& params, int row, int vector, u32 (&out)[4]) {
  const uint4 v =
      reinterpret_cast<const uint4*>(static_cast<const u16*>(params.x) + row * params.x_stride)[vector];
  out[0] = v.x, out[1] = v.y, out[2] = v.z, out[3] = v.w;
}
SW_DEVICE void store_codes(const QuantizeParams& params, int row, int vector, const u32 (&codes)[2]) {
  reinterpret_cast<uint2*>(static_cast<u8*>(params.codes) + row * params.codes_stride)[vector] =
      make_uint2(codes[0], codes[1]);
}
SW_DEVICE u32 larger_half(u32 pair) { return max(pair & 0xffff, pair >> 16); }

// Threads (x, row): whole warps share a row, and without kRows all of a block. Each thread keeps kVectors
// vectors of 8 in registers; what is longer is read twice.
template <typename Quantizer, int kVectors, bool kRows>
SW_DEVICE void quantize_tokens(const QuantizeParams& params) {
  __shared__ u32 of_warp[32];
  grid_dependency_wait();
  const int block = static_cast<int>(blockIdx.x), in_block = kRows ? static_cast<int>(threadIdx.y) : 0;
  const int row = kRows ? block * params.block_rows + min(block, params.longer_blocks) + in_block : block;
  const bool present = !kRows || in_block < params.block_rows + (block < params.longer_blocks);
  const int thread = static_cast<int>(threadIdx.x), step = static_cast<int>(blockDim.x), warps = step / 32;
  const int vectors = present ? params.k / 8 : 0;
  u32 kept[kVectors][4];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    kept[i][0] = kept[i][1] = kept[i][2] = kept[i][3] = 0;
    if (thread + i * step < vectors) load_vector(params, row, thread + i * step, kept[i]);
  }
  u32 largest = 0;
#pragma unroll
  for (int i = 0; i < kVectors; ++i) largest = Quantizer::largest(largest, kept[i]);
  for (int v = thread + kVectors * step; v < vectors; v += step) {
    u32 x[4];
    load_vector(params, row, v, x);
    largest = Quantizer::largest(largest, x);
  }
  largest = __reduce_max_sync(~0u, larger_half(largest));
  if (lane_id() == 0) of_warp[in_block * warps + thread / 32] = largest;
  __syncthreads();
  // Blocks of the next launch that come earlier crowd where some of this one end first.
  grid_launch_dependents();
  largest = lane_id() < warps ? of_warp[in_block * warps + lane_id()] : 0;
  largest = __reduce_max_sync(~0u, largest);
  const GroupScale scale = Quantizer::scale(largest);
  if (present && thread == 0) static_cast<float*>(params.scales)[row] = Quantizer::stored_float(scale);
#pragma unroll
  for (int i = 0; i < kVectors; ++i)
    if (thread + i * step < vectors) {
      u32 codes[2];
      Quantizer::codes(kept[i], scale, codes);
      store_codes(params, row, thread + i * step, codes);
    }
  for (int v = thread + kVectors * step; v < vectors; v += step) {
    u32 x[4], codes[2];
    load_vector(params, row, v, x);
    Quantizer::codes(x, scale, codes);
    store_codes(params, row, v, codes);
  }
}

// The scales of a group of each vector, whose lanes compute them apart: each lane the scales of a few
// vectors.
template <typename Quantizer, int kVectors, int kLanes>
struct SharedScales {
  static constexpr int kOwned = kVectors > kLanes ? kVectors / kLanes : 1;
  static constexpr int kSame = kLanes > kVectors ? kLanes / kVectors : 1;  // neighbouring lanes with the same
  GroupScale owned[kOwned];
  int first = 0;  // of the vectors that are the lane's own

  SW_DEVICE explicit SharedScales(const u32 (&x)[kVectors][4]) {
    u32 largest[kVectors];
#pragma unroll
    for (int i = 0; i < kVectors; ++i) largest[i] = larger_half(Quantizer::largest(0, x[i]));
    int count = kVectors;
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      if (count == 1) {
        largest[0] = max(largest[0], __shfl_xor_sync(~0u, largest[0], offset));
        continue;
      }
      // Half of the vectors go to the other lane.
      count /= 2;
      const bool upper = (lane_id() & offset) != 0;
      first += upper ? count : 0;
#pragma unroll
      for (int j = 0; j < kVectors / 2; ++j) {
        if (j >= count) continue;
        const u32 kept = upper ? largest[j + count] : largest[j],
                  sent = upper ? largest[j] : largest[j + count];
        largest[j] = max(kept, __shfl_xor_sync(~0u, sent, offset));
      }
    }
#pragma unroll
    for (int j = 0; j < kOwned; ++j) owned[j] = Quantizer::scale(largest[j]);
  }

  // What the codes of vector i need.
  SW_DEVICE GroupScale of(int i) const {
    if constexpr (kVectors == 1) return owned[0];
    int lane = 0, count = kVectors;
#pragma unroll
    for (int offset = kLanes / 2; offset > 0; offset /= 2) {
      if (count == 1) continue;
      count /= 2;
      if (i & count) lane |= offset;
    }
    const GroupScale& from = owned[i % kOwned];
    GroupScale out{1, 1, 1, 127, true};
    if constexpr (Quantizer::kE8M0) {
      out.inverse = __shfl_sync(~0u, from.finite ? from.inverse : __uint_as_float(0x7fc00000), lane, kLanes);
      out.finite = out.inverse == out.inverse;
    } else {
      out.value = __shfl_sync(~0u, from.finite ? from.value : __uint_as_float(0x7fc00000), lane, kLanes);
      out.inverse = __shfl_sync(~0u, from.inverse, lane, kLanes);
      out.lift = Quantizer::lift_of(out.value);
      out.finite = out.value == out.value;
    }
    return out;
  }
};

// Block (columns, rows): its scales are collected, so that those of neighbouring tokens, which lie side by
// side, are written together.
template <typename Quantizer, int kGroup, int kVectors>
SW_DEVICE void quantize_groups(const QuantizeParams& params) {
  constexpr int kLanes = kGroup / 8;  // of a warp, with one group
  constexpr int kTileVectors = kGroupTileColumns / 8, kGroups = kGroupTileColumns / kGroup;
  constexpr int kRows = kGroupTileRows * kVectors;
  using Stored = Select<Quantizer::kE8M0, u8, float>;
  using Scales = SharedScales<Quantizer, kVectors, kLanes>;
  __shared__ Stored scales[kGroups * kRows];
  grid_dependency_wait();
  const int thread = static_cast<int>(threadIdx.x);
  const int first_row = static_cast<int>(blockIdx.y) * kRows;
  const int in_tile = thread % kTileVectors, vectors = params.k / 8;
  const int vector = static_cast<int>(blockIdx.x) * kTileVectors + in_tile;
  u32 x[kVectors][4];
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const int row = first_row + i * kGroupTileRows + thread / kTileVectors;
    x[i][0] = x[i][1] = x[i][2] = x[i][3] = 0;
    if (row < params.m && vector < vectors) load_vector(params, row, vector, x[i]);
  }
  const Scales shared(x);
  // Blocks of the next launch that come earlier crowd where some of this one end first.
  grid_launch_dependents();
  if (in_tile % Scales::kSame == 0) {
#pragma unroll
    for (int j = 0; j < Scales::kOwned; ++j) {
      const int in_rows = (shared.first + j) * kGroupTileRows + thread / kTileVectors;
      Stored& to = scales[in_tile / kLanes * kRows + in_rows];
      if constexpr (Quantizer::kE8M0)
        to = Quantizer::stored_exponent(shared.owned[j]);
      else
        to = Quantizer::stored_float(shared.owned[j]);
    }
  }
#pragma unroll
  for (int i = 0; i < kVectors; ++i) {
    const GroupScale scale = shared.of(i);
    const int row = first_row + i * kGroupTileRows + thread / kTileVectors;
    if (row < params.m && vector < vectors) {
      u32 codes[2];
      Quantizer::codes(x[i], scale, codes);
      store_codes(params, row, vector, codes);
    }
  }
  __syncthreads();
  const int first_group = static_cast<int>(blockIdx.x) * kGroups, groups = (params.k + kGroup - 1) / kGroup;
  for (int i = thread; i < kGroups * kRows; i += kGroupTileThreads) {
    const int group = first_group + i / kRows, row = first_row + i % kRows;
    if (group < groups && row < params.m)
      static_cast<Stored*>(params.scales)[static_cast<i64>(group) * params.m + row] = scales[i];
  }
}

}  // namespace sabrewing::device
