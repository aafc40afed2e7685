#pragma once
// Parameters of the kernels in this folder, included by the launchers and by the device code: only built-in
// types, and sizes and strides in elements unless a name says bytes.

namespace sabrewing::device {

inline constexpr int kWarp = 32;

/// A block of `linear` computes kLinearTokens rows by kLinearWarps warps' features.
inline constexpr int kLinearTokens = 8;
inline constexpr int kLinearFeatures = 4;  // of one warp; halved where gate and up make one
inline constexpr int kLinearWarps = 4;
/// Elements along K that one lane takes at a time; K is a multiple of it.
inline constexpr int kLinearVector = 8;

/// Rows [first, first + rows) of the sorted order belong to one expert.
struct Segment {
  int expert;
  int first;
  int rows;
};

/// y[M, N] = x[M, K] * weight[N, K]^T + bias[N], or its gated form over the rows [gate; up].
struct LinearParams {
  const unsigned char* weight;
  const unsigned char* scales;  // of the first matrix
  const float* bias;            // (experts, N), or null
  const void* x;
  void* y;
  long long x_stride;
  long long y_stride;
  long long row_bytes;
  long long scale_row_bytes;
  long long expert_bytes;  // from one matrix to the next, values and scales
  // Experts: null without.
  const int* order;  // rows of y, sorted by expert
  const Segment* segments;
  const int* segment_count;
  int m;
  int n;
  int k;
  int x_divisor;  // row r of y reads row r / x_divisor of x
  // Gated form.
  int clamped;  // kClampedSwiGlu, else kSilu
  float limit;
};

inline constexpr int kRouteWarps = 4;          // a token each
inline constexpr int kRouteMaxExperts = 2048;  // 64 per lane
inline constexpr int kRouteMaxTopK = kWarp;
inline constexpr int kGroupThreads = 1024;

inline constexpr int kAttentionThreads = 128;
inline constexpr int kAttentionKeys = 32;  // of a tile
inline constexpr int kAttentionHeads = 8;  // query heads of a block
inline constexpr int kMaxHeadDim = 256;

struct AttentionParams {
  const void* q;
  const void* k;
  const void* v;
  void* o;
  void* keys;
  void* values;
  long long q_stride;
  long long k_stride;
  long long v_stride;
  long long o_stride;
  const int* positions;
  const int* query_start;
  const int* block_table;
  const float* sinks;
  int tokens;
  int sequences;
  int max_blocks;
  int block_size;
  int q_heads;
  int kv_heads;
  int head_dim;
  int window;
  float scale;
};

}  // namespace sabrewing::device
