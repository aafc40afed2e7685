#pragma once
// Quantized GEMM with mma.sync: the portable kernel (SM80 and up), and on Hopper the one for few
// tokens. Each lane copies its own packed weights to shared memory, kAhead units ahead, and starts before the
// kernel waits for the one that it depends on; activations follow in chunks of K. A warp owns 16 features and
// every kWarpsK-th unit of 128 columns; sums are added in FP32 over the warps, then over the blocks of a
// cluster (kSplit, Hopper), in a fixed order.
//
// Config: kTokenTiles (of 8 tokens), kWarpsN, kWarpsK, kAhead, kSplit, kPromote, Decoder, TokenScale, Mma,
// Output.

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
  static constexpr int kTokenStride = kChunkK * Decoder::kBytes + 16;
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
  constexpr int kBytes = Decoder::kBytes;
  constexpr int kStep = 32 / kBytes;  // columns of an instruction
  using Mma = typename Config::Mma;
  using TokenScale = typename Config::TokenScale;
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
  // A warp's 16 rows of operands lie together.
  constexpr bool kFromShared = kIsOperand<Decoder>;
  const u8* from_words = from + strip % 4 * kWarpBytes<Decoder> * (kFromShared ? 2 : 1) + lane * 16;
  const u8* from_scales =
      from + kSlabWeightBytes<Decoder> + (strip % 4 * 8 + lane / 4) * 4 * Decoder::kScaleWords;
  int copied = unit;
  // The next unit into a slot of the ring; one group of copies whether or not there is one.
  const auto copy_unit = [&](int slot) {
    if (active && copied < end_unit) {
#pragma unroll
      for (int s = 0; s < kUnit; ++s) {
        if constexpr (Decoder::kWords % 4 == 0) {
#pragma unroll
          for (int i = 0; i < kWords / 4; ++i)
            copy_async_16(ring + slot * Layout::kSlotBytes + (s * (kWords / 4) + i) * 512,
                          from_words + s * kSlabBytes<Decoder> +
                              (kFromShared ? i * 512
                                           : i / (Decoder::kWords / 4) * 4 * kWarpBytes<Decoder> +
                                                 i % (Decoder::kWords / 4) * 512),
                          true);
        } else {
#pragma unroll
          for (int block = 0; block < Decoder::kSlabK / 64; ++block)
            for_each_piece(Decoder::kWords, [&](int count, int first) {
              const u32 to = ring + slot * Layout::kSlotBytes +
                             (s * kWords + block * Decoder::kWords + first) * 128 - lane * (16 - count * 4);
              const u8* piece = from_words + s * kSlabBytes<Decoder> + block * 4 * kWarpBytes<Decoder> +
                                first * 128 - lane * (16 - count * 4);
              if (count == 4)
                copy_async_16(to, piece, true);
              else if (count == 2)
                copy_async_8(to, piece);
              else
                copy_async_4(to, piece);
            });
        }
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
  constexpr int kVectors = Layout::kChunkK * kBytes / 16;
  constexpr int kColumnSteps = kVectors > Layout::kThreads ? kVectors / Layout::kThreads : 1;
  constexpr int kRowStep = Layout::kThreads > kVectors ? Layout::kThreads / kVectors : 1;
  const int my_row = static_cast<int>(threadIdx.x) / kVectors;
  constexpr int kVector = 16 / kBytes;  // columns of a copy
  const int my_column = static_cast<int>(threadIdx.x) % kVectors * kVector;
  const u8* my_tokens = static_cast<const u8*>(p.x) + ((token0 + my_row) * p.x_stride + my_column) * kBytes;
  const auto load_tokens = [&](int chunk, int buffer) {
    const int columns = (end_unit - chunk) * 128;
    const u8* row_from = my_tokens + chunk * (128 * kBytes);
    u32 to = tokens_base + buffer * buffer_bytes + my_row * Layout::kTokenStride + my_column * kBytes;
#pragma unroll 1
    for (int row = my_row; row < rows; row += kRowStep) {
#pragma unroll
      for (int c = 0; c < kColumnSteps; ++c) {
        const int column = my_column + c * Layout::kThreads * kVector;
        const bool valid = chunk * 128 + column < p.k;
        if (column < columns)
          copy_async_16(to + c * Layout::kThreads * 16,
                        valid ? row_from + c * Layout::kThreads * 16 : my_tokens, valid);
      }
      row_from += kRowStep * p.x_stride * kBytes;
      to += kRowStep * Layout::kTokenStride;
    }
    copy_async_commit();
  };

  // Sums of equally scaled columns, and what they are scaled into.
  constexpr int kRunColumns = run_columns<Config>();
  constexpr bool kScaled = kRunColumns > 0;
  using Sum = typename Mma::Acc;
  using Acc = Select<kScaled, float, Sum>;
  Acc acc[kTiles][4] = {};
  u32 tokens[kTiles];
#pragma unroll
  for (int t = 0; t < kTiles; ++t) {
    const int row = t * 8 + lane % 8;
    tokens[t] = tokens_base + (row < rows ? row : rows - 1) * Layout::kTokenStride + lane / 8 * 16 +
                warp_k * (128 * kBytes);
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
      if constexpr (kFromShared) __syncwarp();  // lanes read what others have copied
      if (active && unit < end_unit) {
#pragma unroll
        for (int s = 0; s < kUnit; ++s) {
          u32 words[kWords];
          u32 scales[kScaleWords];
          if constexpr (kFromShared) {
            // Matrices of a step: rows 0 and 8, then those 16 columns further.
            const u32 row = ring - lane * 16 + a * Layout::kSlotBytes + lane % 16 * 128;
#pragma unroll
            for (int i = 0; i < kWords / 4; ++i) {
              u32 step[4];
              load_matrix_x4(row + (((2 * i + lane / 16) ^ lane % 8) * 16), step);
#pragma unroll
              for (int w = 0; w < 4; ++w) words[4 * i + w] = step[w];
            }
          } else if constexpr (Decoder::kWords % 4 == 0) {
#pragma unroll
            for (int i = 0; i < kWords / 4; ++i)
              load_shared(ring + a * Layout::kSlotBytes + (s * (kWords / 4) + i) * 512, words + 4 * i);
          } else {
#pragma unroll
            for (int block = 0; block < Decoder::kSlabK / 64; ++block)
              for_each_piece(Decoder::kWords, [&](int count, int first) {
                const int word = block * Decoder::kWords + first;
                const u32 piece =
                    ring + a * Layout::kSlotBytes + (s * kWords + word) * 128 - lane * (16 - count * 4);
                if (count == 4)
                  load_shared(piece, words + word);
                else if (count == 2)
                  load_shared_pair(piece, words + word);
                else
                  words[word] = load_shared(piece);
              });
          }
#pragma unroll
          for (int i = 0; i < Decoder::kScaleWords; ++i)
            scales[i] =
                load_shared(ring_scales + a * Layout::kSlotBytes + (s * Decoder::kScaleWords + i) * 128);
          Sum part[kTiles][4] = {};
          Sum token_part[Decoder::kZeroAfter ? kTiles : 1][4] = {};  // of the activations alone
          const auto run_part = [&](int t, const u32(&a)[4], u32 b0, u32 b1) {
            Mma::run(part[t], a, b0, b1);
            if constexpr (Decoder::kZeroAfter) {
              constexpr u32 kOne = Decoder::Operand::kOne;
              const u32 ones[4] = {kOne, kOne, kOne, kOne};
              Mma::run(token_part[t], ones, b0, b1);
            }
          };
          // Adds the sums of the run that begins with step `first`.
          const auto promote = [&](int first) {
            const int column = first * kStep;
            float low = 1.0f, high = 1.0f;
            if constexpr (Decoder::kScaleAfter) {
              low = Decoder::scale(scales, 0, column / Decoder::kSegment);
              high = Decoder::scale(scales, 1, column / Decoder::kSegment);
            }
#pragma unroll
            for (int t = 0; t < kTiles; ++t) {
              float even = 1.0f, odd = 1.0f;
              if constexpr (TokenScale::kColumns > 0) {
                const int token = token0 + t * 8 + lane % 4 * 2;
                const int at = unit * 128 + s * Decoder::kSlabK + column;
                even = TokenScale::load(p, token, at);
                odd = TokenScale::load(p, token + 1, at);
              }
              acc[t][0] += part[t][0] * (low * even);
              acc[t][1] += part[t][1] * (low * odd);
              acc[t][2] += part[t][2] * (high * even);
              acc[t][3] += part[t][3] * (high * odd);
              if constexpr (Decoder::kZeroAfter) {
                const float zero_low = Decoder::zero(scales, 0, column / Decoder::kSegment);
                const float zero_high = Decoder::zero(scales, 1, column / Decoder::kSegment);
                acc[t][0] += token_part[t][0] * zero_low;
                acc[t][1] += token_part[t][1] * zero_low;
                acc[t][2] += token_part[t][2] * zero_high;
                acc[t][3] += token_part[t][3] * zero_high;
              }
#pragma unroll
              for (int e = 0; e < 4; ++e) {
                part[t][e] = 0;
                if constexpr (Decoder::kZeroAfter) token_part[t][e] = 0;
              }
            }
          };
          constexpr int kRunSteps =
              (kRunColumns > 0 && kRunColumns < Decoder::kSlabK ? kRunColumns : Decoder::kSlabK) / kStep;
#pragma unroll
          for (int j = 0; j < Decoder::kSlabK / kStep; j += 2) {
            u32 fragment[2][4];
            Decoder::decode(words, scales, j, fragment[0]);
            Decoder::decode(words, scales, j + 1, fragment[1]);
            u32 second[kTiles][2];
#pragma unroll
            for (int t = 0; t < kTiles; ++t) {
              u32 b[4];
              load_matrix_x4(tokens[t] + buffer * buffer_bytes +
                                 (a * kWarpsK * 128 + s * Decoder::kSlabK + j * kStep) * kBytes,
                             b);
              if constexpr (kScaled) {
                run_part(t, fragment[0], b[0], b[1]);
                if constexpr (kRunSteps > 1)
                  run_part(t, fragment[1], b[2], b[3]);
                else
                  second[t][0] = b[2], second[t][1] = b[3];
              } else {
                Mma::run(acc[t], fragment[0], b[0], b[1]);
                Mma::run(acc[t], fragment[1], b[2], b[3]);
              }
            }
            if constexpr (kScaled && kRunSteps == 1) {
              promote(j);
#pragma unroll
              for (int t = 0; t < kTiles; ++t) run_part(t, fragment[1], second[t][0], second[t][1]);
            }
            if constexpr (kScaled)
              if ((j + 2) % kRunSteps == 0) promote(j + 2 - kRunSteps);
          }
        }
      }
      if constexpr (kFromShared) __syncwarp();
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
    float sums[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      sums[e] = static_cast<float>(acc[t][e]);
      if constexpr (TokenScale::kPerToken) sums[e] *= token_scale(p, token0 + t * 8 + lane % 4 * 2 + (e & 1));
    }
    to[0] = sums[0];
    to[Layout::kPartialStride] = sums[1];
    to[8] = sums[2];
    to[Layout::kPartialStride + 8] = sums[3];
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
