#pragma once

#include <cstdint>
#include <vector>

#include "kernels/matrix.h"

namespace sabrewing::kernels {

/// One step's tokens of S sequences, concatenated: sequence s owns rows [query_start[s], query_start[s + 1]).
/// Arrays are in the backend's memory; the counts are host values.
struct Batch {
  std::int64_t tokens = 0;
  std::int64_t sequences = 0;
  const std::int32_t* token_ids = nullptr;    ///< (tokens)
  const std::int32_t* positions = nullptr;    ///< (tokens), position in the own sequence
  const std::int32_t* query_start = nullptr;  ///< (sequences + 1)
  const std::int32_t* block_table = nullptr;  ///< (sequences, max_blocks)
  std::int64_t max_blocks = 0;
  std::int64_t max_context = 0;  ///< largest position + 1
};

/// Shape of one layer's paged cache: keys and values are each (blocks, block_size, kv_heads, head_dim).
struct KvCacheDesc {
  std::int64_t block_size = 16;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  DType dtype = DType::kF32;

  std::size_t bytes_per_block() const {  ///< keys and values
    return 2 * static_cast<std::size_t>(block_size * kv_heads * head_dim) * size_of(dtype);
  }
};

struct KvCacheView {
  KvCacheDesc desc;
  void* keys = nullptr;
  void* values = nullptr;
};

/// Rotates pairs (i, i + head_dim/2) of q and k by position * inverse_frequency[i]; cos and sin are
/// multiplied by `attention_factor`. In place.
struct RopeArgs {
  Matrix q;  ///< (M, q_heads * head_dim)
  Matrix k;  ///< (M, kv_heads * head_dim)
  std::int64_t head_dim = 0;
  const float* inverse_frequency = nullptr;  ///< (head_dim / 2)
  float attention_factor = 1;
};

/// Writes this step's k and v into the cache, then attends. Query head h reads kv head
/// h / (q_heads / kv_heads). Key j is visible to position p when j <= p and, with a window,
/// j > p - window. `sinks` adds exp(sink) to the softmax denominator of its head.
struct AttentionArgs {
  Matrix q;  ///< (M, q_heads * head_dim)
  Matrix k;  ///< (M, kv_heads * head_dim)
  Matrix v;  ///< (M, kv_heads * head_dim)
  Matrix o;  ///< (M, q_heads * head_dim)
  KvCacheView cache;
  std::int64_t q_heads = 0;
  float scale = 1;
  std::int64_t window = 0;       ///< 0: none
  const float* sinks = nullptr;  ///< (q_heads), or null
  void* workspace = nullptr;
};

}  // namespace sabrewing::kernels
