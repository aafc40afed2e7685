#pragma once
// What the GEMM kernels share: parameters and output.

#include "decode.cuh"
#include "decode_planes.cuh"
#include "ptx.cuh"

namespace sabrewing::device {

// y[M, N] = x[M, K] * weight[N, K]^T * channel_scale[N] + bias[N]. Mirrored by the launcher.
struct GemmParams {
  const u8* weight;            // slabs [N/64][K/kSlabK]
  const float* channel_scale;  // [N rounded up to 64], or null
  const float* bias;           // [N], or null
  const void* x;
  void* y;
  i64 x_stride;  // elements
  i64 y_stride;
  int m;
  int n;
  int k;
  int slabs;       // along K
  int row_blocks;  // of 64 output features
  int token_tiles;
  int feature_tiles;
  int token_group;      // token tiles that share the features of consecutive tiles
  int aligned;          // y rows take 16-byte stores
  int stream_weights;   // no other tile reads the same weights
  int x_scale_stride;   // between groups
  const void* x_scale;  // [M], or [K/group][x_scale_stride], of quantized activations
  int box_bytes;        // of the tokens' boxes in a stage
};

// Scales of quantized activations.
struct NoTokenScale {
  static constexpr int kColumns = 0;
  static constexpr bool kPerToken = false;
};
struct PerTokenScale {
  static constexpr int kColumns = 0;
  static constexpr bool kPerToken = true;
};
// One for `kGroup` columns, FP32 or E8M0 bytes.
template <int kGroup, bool kExponents>
struct PerGroupScale {
  static constexpr int kColumns = kGroup;
  static constexpr bool kPerToken = false;
  // The stored bits; zero beyond M or K.
  SW_DEVICE static u32 code(const GemmParams& p, int token, int column) {
    if (token >= p.m || column >= p.k) return 0;
    const i64 at = static_cast<i64>(column / kGroup) * p.x_scale_stride + token;
    if constexpr (kExponents)
      return static_cast<const u8*>(p.x_scale)[at];
    else
      return static_cast<const u32*>(p.x_scale)[at];
  }
  SW_DEVICE static float value(u32 code) {
    return kExponents ? E8M0Scale::value(code) : __uint_as_float(code);
  }
  SW_DEVICE static float load(const GemmParams& p, int token, int column) {
    return value(code(p, token, column));
  }
};
SW_DEVICE float token_scale(const GemmParams& p, int token) {
  return token < p.m ? static_cast<const float*>(p.x_scale)[token] : 0.0f;
}

// Columns of K whose sums are added to FP32 ones at once: those that share all scales of the sums, and at
// most kPromote where the instruction's own sums are not exact enough. 0: all.
template <typename Config>
SW_DEVICE constexpr int run_columns() {
  const int limits[3] = {Config::Decoder::kScaleAfter ? Config::Decoder::kSegment : 0,
                         Config::TokenScale::kColumns, Config::kPromote};
  int columns = 0;
  for (const int limit : limits)
    if (limit > 0 && (columns == 0 || limit < columns)) columns = limit;
  return columns;
}

struct Bf16Output {
  using Type = u16;
  SW_DEVICE static u32 pack(float low, float high) { return pack_bf16(low, high); }
};
struct F16Output {
  using Type = u16;
  SW_DEVICE static u32 pack(float low, float high) { return pack_f16(low, high); }
};
struct F32Output {
  using Type = float;
};

template <typename Output>
inline constexpr bool kIs16Bit = sizeof(typename Output::Type) == 2;

// Eight consecutive features of one token.
template <typename Output>
SW_DEVICE void store_features(const GemmParams& p, int token, int feature, const float (&v)[8]) {
  typename Output::Type* to = static_cast<typename Output::Type*>(p.y) + token * p.y_stride + feature;
  if constexpr (kIs16Bit<Output>) {
    uint4 packed = {Output::pack(v[0], v[1]), Output::pack(v[2], v[3]), Output::pack(v[4], v[5]),
                    Output::pack(v[6], v[7])};
    if (p.aligned && feature + 8 <= p.n) {
      *reinterpret_cast<uint4*>(to) = packed;
    } else {
      const u32 words[4] = {packed.x, packed.y, packed.z, packed.w};
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if (feature + i < p.n) to[i] = static_cast<u16>(words[i / 2] >> (16 * (i & 1)));
    }
  } else {
    if (p.aligned && feature + 8 <= p.n) {
      reinterpret_cast<float4*>(to)[0] = make_float4(v[0], v[1], v[2], v[3]);
      reinterpret_cast<float4*>(to)[1] = make_float4(v[4], v[5], v[6], v[7]);
    } else {
#pragma unroll
      for (int i = 0; i < 8; ++i)
        if (feature + i < p.n) to[i] = v[i];
    }
  }
}

// Scale and bias of a feature; rows beyond N read nothing.
SW_DEVICE float2 feature_factor(const GemmParams& p, int feature) {
  float2 f = {1.0f, 0.0f};
  if (feature < p.n) {
    if (p.channel_scale != nullptr) f.x = p.channel_scale[feature];
    if (p.bias != nullptr) f.y = p.bias[feature];
  }
  return f;
}

#if __CUDA_ARCH__ >= 900

// Adds the partial sums [token][kRows + 4] (FP32, at `partial` in each block's shared memory) of all blocks
// of the cluster in rank order, and stores this block's share of the tile.
template <typename Output, int kTokens, int kRows, int kSplit, int kThreads>
SW_DEVICE void reduce_cluster(const GemmParams& p, u32 partial, int token0, int feature0, int thread) {
  constexpr int kStride = kRows + 4;
  constexpr int kVectors = kTokens * (kRows / 8);
  constexpr int kShare = (kVectors + kSplit - 1) / kSplit;
  const int begin = static_cast<int>(cluster_rank()) * kShare;
  const int end = begin + kShare < kVectors ? begin + kShare : kVectors;
  for (int i = begin + thread; i < end; i += kThreads) {
    const int token = token0 + i / (kRows / 8);
    const int row = i % (kRows / 8) * 8;
    if (token >= p.m || feature0 + row >= p.n) continue;
    const u32 address = partial + (i / (kRows / 8) * kStride + row) * 4;
    float sum[8] = {};
    float4 part[kSplit][2];
#pragma unroll
    for (int r = 0; r < kSplit; ++r) {
      const u32 remote = cluster_address(address, r);
      part[r][0] = load_cluster(remote);
      part[r][1] = load_cluster(remote + 16);
    }
#pragma unroll
    for (int r = 0; r < kSplit; ++r) {
      sum[0] += part[r][0].x, sum[1] += part[r][0].y, sum[2] += part[r][0].z, sum[3] += part[r][0].w;
      sum[4] += part[r][1].x, sum[5] += part[r][1].y, sum[6] += part[r][1].z, sum[7] += part[r][1].w;
    }
#pragma unroll
    for (int e = 0; e < 8; ++e) {
      const float2 f = feature_factor(p, feature0 + row + e);
      sum[e] = sum[e] * f.x + f.y;
    }
    store_features<Output>(p, token, feature0 + row, sum);
  }
}

#endif

}  // namespace sabrewing::device
