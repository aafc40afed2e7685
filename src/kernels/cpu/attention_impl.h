#pragma once

// Attention over one tile of queries: flash-style online softmax (Dao et al., arXiv 2205.14135) over tiles of
// kAttentionKeys keys. A key tile is loaded as FP32 and transposed, so that the lanes of the score loop are
// keys; the lanes of the value loop are head dimensions. Every row sees the same operations in the same
// order, whichever rows are beside it: a tile that hides all its keys from a row leaves the row as it is.

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/ops_vector.h"

namespace sabrewing::kernels::cpu {
namespace {

constexpr int kVectorBlock = kLanes == 16 ? 4 : 2;
static_assert(kAttentionHeadPad % kLanes == 0 && kAttentionKeys % (kVectorBlock * kLanes) == 0);

/// Rows [first, end) of the key tile at `base` as FP32 into `rows` (kAttentionKeys, padded head); others 0.
inline void load_cache_rows(const AttentionTile& t, const void* cache, std::int64_t base, std::int64_t first,
                            std::int64_t end, std::int64_t padded, float* rows) {
  __builtin_memset(rows, 0, static_cast<std::size_t>(first * padded) * sizeof(float));
  __builtin_memset(rows + end * padded, 0,
                   static_cast<std::size_t>((kAttentionKeys - end) * padded) * sizeof(float));
  std::int64_t block = (base + first) / t.block_size;
  std::int64_t slot = (base + first) % t.block_size;
  for (std::int64_t j = first; j < end; ++j) {
    const std::int64_t element = (t.blocks[block] * t.block_size + slot) * t.token_stride;
    if (++slot == t.block_size) {
      slot = 0;
      ++block;
    }
    float* row = rows + j * padded;
    std::int64_t d = 0;
    if (t.bf16) {
      const std::uint16_t* from = static_cast<const std::uint16_t*>(cache) + element;
      for (; d + kLanes <= t.head_dim; d += kLanes) store(row + d, load_bf16(from + d));
      if (d < t.head_dim) {
        std::uint16_t rest[kLanes] = {};
        __builtin_memcpy(rest, from + d, static_cast<std::size_t>(t.head_dim - d) * sizeof(std::uint16_t));
        store(row + d, load_bf16(rest));
        d += kLanes;
      }
    } else {
      const float* from = static_cast<const float*>(cache) + element;
      for (; d + kLanes <= t.head_dim; d += kLanes) store(row + d, load(from + d));
      if (d < t.head_dim) {
        store(row + d, load_part(from + d, t.head_dim - d));
        d += kLanes;
      }
    }
    for (; d < padded; d += kLanes) store(row + d, Floats{});
  }
}

/// (kAttentionKeys, padded head) to (padded head, kAttentionKeys)
inline void transpose_keys(const float* rows, std::int64_t padded, float* columns) {
  for (std::int64_t j = 0; j < kAttentionKeys; j += kLanes) {
    for (std::int64_t d = 0; d < padded; d += kLanes) {
      Floats square[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) square[i] = load(rows + (j + i) * padded + d);
      transpose(square);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) store(columns + (d + i) * kAttentionKeys + j, square[i]);
    }
  }
}

/// scores(kRows, kAttentionKeys) = q(kRows, head) * columns(head, kAttentionKeys)
template <int kRows>
inline void score_rows(const float* q, std::int64_t padded, std::int64_t head_dim, const float* columns,
                       float* scores) {
  for (std::int64_t j = 0; j < kAttentionKeys; j += kVectorBlock * kLanes) {
    Floats sums[kRows][kVectorBlock] = {};
    for (std::int64_t d = 0; d < head_dim; ++d) {
      Floats key[kVectorBlock];
#pragma GCC unroll 4
      for (int v = 0; v < kVectorBlock; ++v) key[v] = load(columns + d * kAttentionKeys + j + v * kLanes);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const Floats query = splat(q[r * padded + d]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectorBlock; ++v) sums[r][v] = multiply_add(query, key[v], sums[r][v]);
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectorBlock; ++v) store(scores + r * kAttentionKeys + j + v * kLanes, sums[r][v]);
  }
}

/// out(kRows, kVectors lanes) = out * correction + weights(kRows, keys) * values(keys, head) over keys
/// [first, end)
template <int kRows, int kVectors>
inline void accumulate_values(const float* weights, const float* values, std::int64_t padded,
                              std::int64_t first, std::int64_t end, const float* correction, float* out) {
  Floats sums[kRows][kVectors];
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[r][v] = load(out + r * padded + v * kLanes) * correction[r];
  for (std::int64_t j = first; j < end; ++j) {
    Floats value[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) value[v] = load(values + j * padded + v * kLanes);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      const Floats weight = splat(weights[r * kAttentionKeys + j]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sums[r][v] = multiply_add(weight, value[v], sums[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) store(out + r * padded + v * kLanes, sums[r][v]);
}

/// Turns a row's scores into weights exp(score * scale - maximum), 0 for hidden keys, and updates the row's
/// running maximum and sum. Keys [first, end) are visible.
inline void weigh_row(float* scores, float scale, std::int64_t first, std::int64_t end, float& maximum_value,
                      float& sum, float& correction) {
  constexpr int kVectors = static_cast<int>(kAttentionKeys) / kLanes;
  correction = 1;
  if (first >= end) {
    for (int v = 0; v < kVectors; ++v) store(scores + v * kLanes, Floats{});
    return;
  }
  Floats kept[kVectors];
  Floats highest = splat(-kInfinity);
  for (int v = 0; v < kVectors; ++v) {
    const Ints key = iota() + v * kLanes;
    const Ints visible = (key >= static_cast<std::int32_t>(first)) & (key < static_cast<std::int32_t>(end));
    kept[v] = visible ? load(scores + v * kLanes) * scale : splat(-kInfinity);
    highest = maximum(highest, kept[v]);
  }
  const float tile_maximum = lane_maximum(highest);
  if (tile_maximum > maximum_value) {
    correction = exp_lanes(splat(maximum_value - tile_maximum))[0];
    maximum_value = tile_maximum;
  }
  Floats total = {};
  for (int v = 0; v < kVectors; ++v) {
    const Floats weight = exp_lanes(kept[v] - maximum_value);
    store(scores + v * kLanes, weight);
    total += weight;
  }
  sum = sum * correction + lane_sum(total);
}

/// The whole padded head of accumulate_values.
template <int kRows>
inline void accumulate_rows(const float* weights, const float* values, std::int64_t padded,
                            std::int64_t first, std::int64_t end, const float* correction, float* out) {
  std::int64_t d = 0;
  for (; d + kVectorBlock * kLanes <= padded; d += kVectorBlock * kLanes)
    accumulate_values<kRows, kVectorBlock>(weights, values + d, padded, first, end, correction, out + d);
  for (; d < padded; d += kLanes)
    accumulate_values<kRows, 1>(weights, values + d, padded, first, end, correction, out + d);
}

/// Calls body<4>(row), then body<2> and body<1> for what is left over.
template <typename Body>
inline void for_row_blocks(std::int64_t rows, Body body) {
  std::int64_t row = 0;
  for (; row + 4 <= rows; row += 4) body.template operator()<4>(row);
  if (row + 2 <= rows) {
    body.template operator()<2>(row);
    row += 2;
  }
  if (row < rows) body.template operator()<1>(row);
}

void attend(const AttentionTile& t) {
  const std::int64_t rows = t.queries * t.group;
  const std::int64_t padded = attention_pad(t.head_dim, kAttentionHeadPad);
  float* loaded = t.scratch;
  float* columns = loaded + kAttentionKeys * padded;
  float* q = columns + kAttentionKeys * padded;
  float* out = q + rows * padded;
  float* scores = out + rows * padded;
  float* maxima = scores + rows * kAttentionKeys;
  float* sums = maxima + rows;
  float* corrections = sums + rows;

  const std::size_t head_bytes = static_cast<std::size_t>(t.head_dim) * sizeof(float);
  __builtin_memset(q, 0, static_cast<std::size_t>(2 * rows * padded) * sizeof(float));  // and out
  std::int64_t first_key = INT64_MAX;
  std::int64_t last_key = 0;
  for (std::int64_t i = 0; i < t.queries; ++i) {
    const std::int64_t position = t.positions[i];
    const std::int64_t first = t.window > 0 && position >= t.window ? position - t.window + 1 : 0;
    first_key = first < first_key ? first : first_key;
    last_key = position > last_key ? position : last_key;
    for (std::int64_t h = 0; h < t.group; ++h) {
      const std::int64_t r = i * t.group + h;
      __builtin_memcpy(q + r * padded, t.q + i * t.q_stride + h * t.head_dim, head_bytes);
      maxima[r] = t.sinks != nullptr ? t.sinks[h] : -kInfinity;
      sums[r] = t.sinks != nullptr ? 1.0f : 0.0f;
    }
  }

  for (std::int64_t base = first_key / kAttentionKeys * kAttentionKeys; base <= last_key;
       base += kAttentionKeys) {
    const std::int64_t first = first_key > base ? first_key - base : 0;
    const std::int64_t end = last_key + 1 - base < kAttentionKeys ? last_key + 1 - base : kAttentionKeys;
    load_cache_rows(t, t.keys, base, first, end, padded, loaded);
    transpose_keys(loaded, padded, columns);
    for_row_blocks(rows, [&]<int kRows>(std::int64_t row) {
      score_rows<kRows>(q + row * padded, padded, t.head_dim, columns, scores + row * kAttentionKeys);
    });
    for (std::int64_t i = 0; i < t.queries; ++i) {
      const std::int64_t position = t.positions[i];
      const std::int64_t low = t.window > 0 && position >= t.window ? position - t.window + 1 - base : -base;
      const std::int64_t high = position + 1 - base;
      for (std::int64_t r = i * t.group; r < (i + 1) * t.group; ++r)
        weigh_row(scores + r * kAttentionKeys, t.scale, low > 0 ? low : 0,
                  high < kAttentionKeys ? high : kAttentionKeys, maxima[r], sums[r], corrections[r]);
    }
    load_cache_rows(t, t.values, base, first, end, padded, loaded);
    for_row_blocks(rows, [&]<int kRows>(std::int64_t row) {
      accumulate_rows<kRows>(scores + row * kAttentionKeys, loaded, padded, first, end, corrections + row,
                             out + row * padded);
    });
  }

  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t d = 0; d < padded; d += kLanes)
      store(out + r * padded + d, load(out + r * padded + d) / sums[r]);
    __builtin_memcpy(t.o + r / t.group * t.o_stride + r % t.group * t.head_dim, out + r * padded, head_bytes);
  }
}

}  // namespace
}  // namespace sabrewing::kernels::cpu
