#pragma once
// Weight-only quantized GEMM with mma.sync: the portable kernel (SM80 and up), and on Hopper the one for few
// tokens. Each lane copies its own packed weights to shared memory, kAhead units ahead, and starts before the
// kernel waits for the one that it depends on; activations follow in chunks of K. A warp owns 16 features and
// every kWarpsK-th unit of 128 columns; sums are added in FP32 over the warps, then over the blocks of a
// cluster (kSplit, Hopper), in a fixed order.
//
// Config: kTokenTiles (of 8 tokens), kWarpsN, kWarpsK, kAhead, kSplit, Decoder, Output.

#include "gemm.cuh"

namespace sabrewing::device {

template <typename Config>
struct MmaLayout {
  using Decoder = typename Config::Decoder;
  static constexpr int kThreads = 32 * Config::kWarpsN * Config::kWarpsK;
  static constexpr int kRows = 16 * Config::kWarpsN;
  static constexpr int kTokens = 8 * Config::kTokenTiles;
  static constexpr int kUnit = 128 / Decoder::kSlabK;  // slabs
  static constexpr int kChunkUnits = Config::kWarpsK * Config::kAhead;
  static constexpr int kChunkK = kChunkUnits * 128;
  // The launcher gives as many chunk buffers (1 or 2) as the K range of a block needs; rows beyond M have
  // none.
  static constexpr int kTokenStride = kChunkK * 2 + 16;
  static constexpr int kSlotBytes = 2 * kWarpBytes<Decoder> + kUnit * 128 * Decoder::kScaleWords;
  static constexpr int kRingBytes = Config::kWarpsN * Config::kWarpsK * Config::kAhead * kSlotBytes;
  static constexpr int kPartialStride = kRows + 4;
  static constexpr int kPartialBytes = Config::kWarpsK * kTokens * kPartialStride * 4;
};

template <typename Config>
SW_DEVICE void gemm_mma(const GemmParams& p) {
  using Layout = MmaLayout<Config>;
  using Decoder = typename Config::Decoder;
  using Output = typename Config::Output;
  constexpr int kTiles = Config::kTokenTiles;
  constexpr int kWarpsN = Config::kWarpsN;
  constexpr int kWarpsK = Config::kWarpsK;
  constexpr int kAhead = Config::kAhead;
  constexpr int kSplit = Config::kSplit;
  constexpr int kUnit = Layout::kUnit;
  constexpr int kWords = Decoder::kSlabK / 64 * Decoder::kWords;  // of a slab
  constexpr int kScaleWords = Decoder::kScaleWords > 0 ? Decoder::kScaleWords : 1;
  extern __shared__ __align__(1024) u8 shared[];

  const int warp = warp_id();
  const int lane = lane_id();
  const int warp_n = warp % kWarpsN;
  const int warp_k = warp / kWarpsN;
  int rank = 0;
#if __CUDA_ARCH__ >= 900
  if constexpr (kSplit > 1) rank = static_cast<int>(cluster_rank());
#endif
  const int feature0 = static_cast<int>(blockIdx.x) / kSplit * Layout::kRows;
  const int token0 = static_cast<int>(blockIdx.y) * Layout::kTokens;
  const int units = p.slabs / kUnit;
  const int first_unit = units * rank / kSplit;
  const int end_unit = units * (rank + 1) / kSplit;
  const int strip = feature0 / 16 + warp_n;
  const bool active = strip < p.row_blocks * 4;
  int unit = first_unit + warp_k;

  // Slot of this warp's ring: the weights in the packed order, then a copy of the scales for each lane.
  const u32 base = shared_address(shared);
  const u32 ring = base + warp * kAhead * Layout::kSlotBytes + lane * 16;
  const u32 ring_scales = base + warp * kAhead * Layout::kSlotBytes + 2 * kWarpBytes<Decoder> + lane * 4;
  const u8* from = p.weight + (static_cast<i64>(strip / 4) * p.slabs + unit * kUnit) * kSlabBytes<Decoder>;
  const u8* from_words = from + strip % 4 * kWarpBytes<Decoder> + lane * 16;
  const u8* from_scales =
      from + kSlabWeightBytes<Decoder> + (strip % 4 * 8 + lane / 4) * 4 * Decoder::kScaleWords;
  int copied = unit;
  // The next unit into a slot of the ring; one group of copies whether or not there is one.
  const auto copy_unit = [&](int slot) {
    if (active && copied < end_unit) {
#pragma unroll
      for (int s = 0; s < kUnit; ++s) {
#pragma unroll
        for (int i = 0; i < kWords / 4; ++i)
          copy_async_16(ring + slot * Layout::kSlotBytes + (s * (kWords / 4) + i) * 512,
                        from_words + s * kSlabBytes<Decoder> +
                            i / (Decoder::kWords / 4) * 4 * kWarpBytes<Decoder> +
                            i % (Decoder::kWords / 4) * 512,
                        true);
#pragma unroll
        for (int i = 0; i < Decoder::kScaleWords; ++i)
          copy_async_4(ring_scales + slot * Layout::kSlotBytes + (s * Decoder::kScaleWords + i) * 128,
                       from_scales + s * kSlabBytes<Decoder> + i * 4);
      }
    }
    copy_async_commit();
    copied += kWarpsK;
    from_words += kWarpsK * kUnit * kSlabBytes<Decoder>;
    from_scales += kWarpsK * kUnit * kSlabBytes<Decoder>;
  };

#pragma unroll
  for (int a = 0; a < kAhead; ++a) copy_unit(a);

  grid_launch_dependents();
  grid_dependency_wait();

  const int rows = p.m - token0 < Layout::kTokens ? p.m - token0 : Layout::kTokens;
  const u32 tokens_base = base + Layout::kRingBytes;
  const int buffer_bytes = rows * Layout::kTokenStride;
  constexpr int kVectors = Layout::kChunkK / 8;
  constexpr int kColumnSteps = kVectors > Layout::kThreads ? kVectors / Layout::kThreads : 1;
  constexpr int kRowStep = Layout::kThreads > kVectors ? Layout::kThreads / kVectors : 1;
  const int my_row = static_cast<int>(threadIdx.x) / kVectors;
  const int my_column = static_cast<int>(threadIdx.x) % kVectors * 8;
  const u16* my_tokens = static_cast<const u16*>(p.x) + (token0 + my_row) * p.x_stride + my_column;
  const auto load_tokens = [&](int chunk, int buffer) {
    const int columns = (end_unit - chunk) * 128;
    const u16* row_from = my_tokens + chunk * 128;
    u32 to = tokens_base + buffer * buffer_bytes + my_row * Layout::kTokenStride + my_column * 2;
#pragma unroll 1
    for (int row = my_row; row < rows; row += kRowStep) {
#pragma unroll
      for (int c = 0; c < kColumnSteps; ++c) {
        const int column = my_column + c * Layout::kThreads * 8;
        const bool valid = chunk * 128 + column < p.k;
        if (column < columns)
          copy_async_16(to + c * Layout::kThreads * 16,
                        valid ? row_from + c * Layout::kThreads * 8 : my_tokens, valid);
      }
      row_from += kRowStep * p.x_stride;
      to += kRowStep * Layout::kTokenStride;
    }
    copy_async_commit();
  };

  float acc[kTiles][4] = {};
  u32 tokens[kTiles];
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    const int row = t * 8 + lane % 8;
    tokens[t] =
        tokens_base + (row < rows ? row : rows - 1) * Layout::kTokenStride + lane / 8 * 16 + warp_k * 256;
  }
  int buffer = 0;
  load_tokens(first_unit, 0);
  for (int chunk = first_unit; chunk < end_unit; chunk += Layout::kChunkUnits) {
    // Behind the activations of a later chunk, one group per unit was committed.
    if (chunk == first_unit)
      copy_async_wait<0>();
    else
      copy_async_wait<kAhead>();
    __syncthreads();
    if (chunk + Layout::kChunkUnits < end_unit)
      load_tokens(chunk + Layout::kChunkUnits, buffer ^ 1);
    else
      copy_async_commit();
#pragma unroll
    for (int a = 0; a < kAhead; ++a) {
      copy_async_wait<kAhead - 1>();
      if (active && unit < end_unit) {
#pragma unroll
        for (int s = 0; s < kUnit; ++s) {
          u32 words[kWords];
          u32 scales[kScaleWords];
#pragma unroll
          for (int i = 0; i < kWords / 4; ++i)
            load_shared(ring + a * Layout::kSlotBytes + (s * (kWords / 4) + i) * 512, words + 4 * i);
#pragma unroll
          for (int i = 0; i < Decoder::kScaleWords; ++i)
            scales[i] =
                load_shared(ring_scales + a * Layout::kSlotBytes + (s * Decoder::kScaleWords + i) * 128);
          float part[kTiles][4] = {};
#pragma unroll
          for (int j = 0; j < Decoder::kSlabK / 16; j += 2) {
            u32 fragment[2][4];
            Decoder::decode(words, scales, j, fragment[0]);
            Decoder::decode(words, scales, j + 1, fragment[1]);
#pragma unroll
            for (int t = 0; t < kTiles; ++t) {
              u32 b[4];
              load_matrix_x4(
                  tokens[t] + buffer * buffer_bytes + (a * kWarpsK * 128 + s * Decoder::kSlabK + j * 16) * 2,
                  b);
              float(&d)[4] = Decoder::kScaleAfter ? part[t] : acc[t];
              mma_bf16(d, fragment[0], b[0], b[1]);
              mma_bf16(d, fragment[1], b[2], b[3]);
            }
          }
          if constexpr (Decoder::kScaleAfter) {
            const float low = Decoder::scale_low(scales);
            const float high = Decoder::scale_high(scales);
#pragma unroll
            for (int t = 0; t < kTiles; ++t) {
              acc[t][0] += part[t][0] * low;
              acc[t][1] += part[t][1] * low;
              acc[t][2] += part[t][2] * high;
              acc[t][3] += part[t][3] * high;
            }
          }
        }
      }
      copy_unit(a);
      unit += kWarpsK;
    }
    buffer ^= 1;
  }

  // Sums of the warps: [warp_k][token][row].
  copy_async_wait<0>();
  __syncthreads();
  float* partial = reinterpret_cast<float*>(shared);
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    float* to = partial + (warp_k * Layout::kTokens + t * 8 + lane % 4 * 2) * Layout::kPartialStride +
                warp_n * 16 + lane / 4;
    to[0] = acc[t][0];
    to[Layout::kPartialStride] = acc[t][1];
    to[8] = acc[t][2];
    to[Layout::kPartialStride + 8] = acc[t][3];
  }
  __syncthreads();
  const auto sum_warps = [&](int token, int row) {
    float4 v = *reinterpret_cast<float4*>(partial + token * Layout::kPartialStride + row);
#pragma unroll
    for (int w = 1; w < kWarpsK; ++w) {
      const float4 other =
          *reinterpret_cast<float4*>(partial + (w * Layout::kTokens + token) * Layout::kPartialStride + row);
      v.x += other.x, v.y += other.y, v.z += other.z, v.w += other.w;
    }
    return v;
  };
  if constexpr (kSplit > 1) {
#if __CUDA_ARCH__ >= 900
    if constexpr (kWarpsK > 1) {
      for (int i = static_cast<int>(threadIdx.x); i < rows * (Layout::kRows / 4); i += Layout::kThreads) {
        const int token = i / (Layout::kRows / 4);
        const int row = i % (Layout::kRows / 4) * 4;
        *reinterpret_cast<float4*>(partial + token * Layout::kPartialStride + row) = sum_warps(token, row);
      }
    }
    cluster_arrive();
    cluster_wait();
    reduce_cluster<Output, Layout::kTokens, Layout::kRows, kSplit, Layout::kThreads>(
        p, base, token0, feature0, static_cast<int>(threadIdx.x));
    cluster_arrive();
    cluster_wait();
#endif
  } else {
    for (int i = static_cast<int>(threadIdx.x); i < rows * (Layout::kRows / 8); i += Layout::kThreads) {
      const int token = i / (Layout::kRows / 8);
      const int row = i % (Layout::kRows / 8) * 8;
      if (feature0 + row >= p.n) continue;
      const float4 a = sum_warps(token, row);
      const float4 b = sum_warps(token, row + 4);
      float v[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
#pragma unroll
      for (int e = 0; e < 8; ++e) {
        const float2 f = feature_factor(p, feature0 + row + e);
        v[e] = v[e] * f.x + f.y;
      }
      store_features<Output>(p, token0 + token, feature0 + row, v);
    }
  }
}

}  // namespace sabrewing::device
