#pragma once

#include <cstddef>
#include <cstdint>

namespace sabrewing::kernels::cpu {

/// Some consecutive queries of one sequence and all query heads that share one kv head. Row r of the tile is
/// query r / group, head r % group. Keys are taken in tiles of kAttentionKeys by absolute position, so that
/// the arithmetic of a query does not depend on how a prompt is cut or on the block size of the cache.
struct AttentionTile {
  const float* q = nullptr;  ///< first head of the first query; heads are head_dim apart
  std::int64_t q_stride = 0;
  float* o = nullptr;
  std::int64_t o_stride = 0;
  const std::int32_t* positions = nullptr;  ///< (queries)
  std::int64_t queries = 0;
  std::int64_t group = 1;
  std::int64_t head_dim = 0;
  const void* keys = nullptr;  ///< the cache at this kv head
  const void* values = nullptr;
  bool bf16 = false;                     ///< the cache is bfloat16, else float
  std::int64_t block_size = 0;           ///< tokens
  std::int64_t token_stride = 0;         ///< elements from one token of a block to the next
  const std::int32_t* blocks = nullptr;  ///< the sequence's row of the block table
  float scale = 1;
  std::int64_t window = 0;       ///< 0: none
  const float* sinks = nullptr;  ///< (group), or null
  float* scratch = nullptr;      ///< attention_scratch_floats(queries * group, head_dim), 64-byte aligned
};

constexpr std::int64_t kAttentionKeys = 64;

/// Every tier pads heads to this.
constexpr std::int64_t kAttentionHeadPad = 16;

// Static: every tier compiles its own copy.
static constexpr std::int64_t attention_pad(std::int64_t value, std::int64_t to) {
  return (value + to - 1) / to * to;
}

static constexpr std::int64_t attention_scratch_floats(std::int64_t rows, std::int64_t head_dim) {
  const std::int64_t padded = attention_pad(head_dim, kAttentionHeadPad);
  // Keys as loaded (later values), keys transposed; per row: query, output, scores; maximum, sum, correction.
  return 2 * kAttentionKeys * padded + rows * (2 * padded + kAttentionKeys) + 3 * rows;
}

}  // namespace sabrewing::kernels::cpu
