#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "kernels/cpu/gemm_operand.h"
#include "kernels/cpu/ops.h"

namespace sabrewing::kernels::cpu {
namespace {

/// Rows of a tile: enough to make loading its keys cheap, few enough to stay in the first-level cache.
constexpr std::int64_t kTileRows = 32;

struct Span {
  std::int32_t sequence;
  std::int32_t first;  // row of the batch
  std::int32_t queries;
};

std::int64_t tile_queries(std::int64_t group) { return std::max<std::int64_t>(1, kTileRows / group); }

std::size_t span_count(const Batch& batch, std::int64_t queries) {
  return static_cast<std::size_t>(batch.tokens / queries + std::min(batch.sequences, batch.tokens));
}

/// Floats of one worker's scratch, whole cache lines.
std::size_t worker_floats(std::int64_t rows, std::int64_t head_dim) {
  return static_cast<std::size_t>(attention_pad(attention_scratch_floats(rows, head_dim), 16));
}

void check_rows(const char* operand, const Matrix& matrix, std::int64_t rows, std::int64_t cols) {
  SABREWING_CHECK(matrix.dtype == DType::kF32, kUnsupported, "[attention] {} is {}: F32 expected", operand,
                  to_string(matrix.dtype));
  SABREWING_CHECK(matrix.rows == rows && matrix.cols == cols, kInvalidArgument,
                  "[attention] {} is {} by {}: {} by {} expected", operand, matrix.rows, matrix.cols, rows,
                  cols);
}

void check(const AttentionArgs& args, const Batch& batch) {
  const KvCacheDesc& cache = args.cache.desc;
  SABREWING_CHECK(cache.dtype == DType::kF32 || cache.dtype == DType::kBF16, kUnsupported,
                  "[attention] the cache is {}: F32 or BF16 expected", to_string(cache.dtype));
  SABREWING_CHECK(cache.kv_heads > 0 && cache.head_dim > 0 && cache.block_size > 0 && args.q_heads > 0 &&
                      args.q_heads % cache.kv_heads == 0,
                  kInvalidArgument, "[attention] {} query heads over {} kv heads of {}, blocks of {}",
                  args.q_heads, cache.kv_heads, cache.head_dim, cache.block_size);
  check_rows("q", args.q, batch.tokens, args.q_heads * cache.head_dim);
  check_rows("o", args.o, batch.tokens, args.q_heads * cache.head_dim);
  check_rows("k", args.k, batch.tokens, cache.kv_heads * cache.head_dim);
  check_rows("v", args.v, batch.tokens, cache.kv_heads * cache.head_dim);
  SABREWING_CHECK(batch.tokens == 0 || args.workspace != nullptr, kInvalidArgument,
                  "[attention] no workspace");
  std::int64_t covered = 0;
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    SABREWING_CHECK(batch.query_start[s] == covered && batch.query_start[s + 1] >= covered &&
                        batch.query_start[s + 1] <= batch.tokens,
                    kInvalidArgument, "[attention] query_start[{}] is {} after {}, of {} tokens", s + 1,
                    batch.query_start[s + 1], batch.query_start[s], batch.tokens);
    covered = batch.query_start[s + 1];
    std::int64_t first_key = INT64_MAX;
    std::int64_t last_key = -1;
    for (std::int64_t row = batch.query_start[s]; row < covered; ++row) {
      const std::int64_t position = batch.positions[row];
      SABREWING_CHECK(position >= 0 && position / cache.block_size < batch.max_blocks, kInvalidArgument,
                      "[attention] position {} of sequence {} is outside {} blocks of {}", position, s,
                      batch.max_blocks, cache.block_size);
      first_key =
          std::min(first_key, args.window > 0 ? std::max<std::int64_t>(0, position - args.window + 1) : 0);
      last_key = std::max(last_key, position);
    }
    for (std::int64_t block = first_key / cache.block_size;
         block <= last_key / cache.block_size && last_key >= 0; ++block)
      SABREWING_CHECK(batch.block_table[s * batch.max_blocks + block] >= 0, kInvalidArgument,
                      "[attention] block {} of sequence {} has no memory", block, s);
  }
  SABREWING_CHECK(covered == batch.tokens, kInvalidArgument,
                  "[attention] query_start ends at {} of {} tokens", covered, batch.tokens);
}

}  // namespace

std::size_t Ops::attention_workspace_bytes(const AttentionArgs& args, const Batch& batch) const {
  const KvCacheDesc& cache = args.cache.desc;
  const std::int64_t group = args.q_heads / cache.kv_heads;
  const std::int64_t queries = tile_queries(group);
  WorkspaceCursor cursor(nullptr);
  cursor.take<Span>(span_count(batch, queries));
  cursor.take<float>(static_cast<std::size_t>(pool_.threads()) *
                     worker_floats(queries * group, cache.head_dim));
  return cursor.used();
}

void Ops::write_cache(const AttentionArgs& args, const Batch& batch) {
  const KvCacheDesc& cache = args.cache.desc;
  const std::int64_t width = cache.kv_heads * cache.head_dim;
  const auto write = [&](const float* from, void* to, std::int64_t slot) {
    if (cache.dtype == DType::kF32)
      std::memcpy(static_cast<float*>(to) + slot * width, from,
                  static_cast<std::size_t>(width) * sizeof(float));
    else
      kernels_.to_bf16(from, width, static_cast<std::uint16_t*>(to) + slot * width);
  };
  for (std::int64_t s = 0; s < batch.sequences; ++s) {
    const std::int32_t* blocks = batch.block_table + s * batch.max_blocks;
    const std::int64_t first = batch.query_start[s];
    for_rows(batch.query_start[s + 1] - first, 2 * width, [&](std::int64_t i, int) {
      const std::int64_t position = batch.positions[first + i];
      const std::int64_t slot =
          blocks[position / cache.block_size] * cache.block_size + position % cache.block_size;
      write(args.k.row<float>(first + i), args.cache.keys, slot);
      write(args.v.row<float>(first + i), args.cache.values, slot);
    });
  }
}

void Ops::attention(const AttentionArgs& args, const Batch& batch) {
  check(args, batch);
  if (batch.tokens == 0) return;
  write_cache(args, batch);

  const KvCacheDesc& cache = args.cache.desc;
  const std::int64_t group = args.q_heads / cache.kv_heads;
  const std::int64_t queries = tile_queries(group);
  const std::size_t scratch_floats = worker_floats(queries * group, cache.head_dim);
  WorkspaceCursor cursor(args.workspace);
  Span* spans = cursor.take<Span>(span_count(batch, queries));
  float* scratch_begin = cursor.take<float>(static_cast<std::size_t>(pool_.threads()) * scratch_floats);

  std::int64_t count = 0;
  for (std::int64_t s = 0; s < batch.sequences; ++s)
    for (std::int64_t first = batch.query_start[s]; first < batch.query_start[s + 1]; first += queries)
      spans[count++] = {static_cast<std::int32_t>(s), static_cast<std::int32_t>(first),
                        static_cast<std::int32_t>(std::min(queries, batch.query_start[s + 1] - first))};

  // The last queries of a prompt see the most keys: they go first, so that the workers end together.
  pool_.parallel_for(count * cache.kv_heads, [&](std::int64_t task, int worker) {
    const Span& span = spans[count - 1 - task / cache.kv_heads];
    const std::int64_t head = task % cache.kv_heads;
    AttentionTile tile;
    tile.q = args.q.row<float>(span.first) + head * group * cache.head_dim;
    tile.q_stride = args.q.row_stride;
    tile.o = args.o.row<float>(span.first) + head * group * cache.head_dim;
    tile.o_stride = args.o.row_stride;
    tile.positions = batch.positions + span.first;
    tile.queries = span.queries;
    tile.group = group;
    tile.head_dim = cache.head_dim;
    const std::size_t offset = static_cast<std::size_t>(head * cache.head_dim) * size_of(cache.dtype);
    tile.keys = static_cast<const std::byte*>(args.cache.keys) + offset;
    tile.values = static_cast<const std::byte*>(args.cache.values) + offset;
    tile.bf16 = cache.dtype == DType::kBF16;
    tile.block_size = cache.block_size;
    tile.token_stride = cache.kv_heads * cache.head_dim;
    tile.blocks = batch.block_table + span.sequence * batch.max_blocks;
    tile.scale = args.scale;
    tile.window = args.window;
    tile.sinks = args.sinks == nullptr ? nullptr : args.sinks + head * group;
    tile.scratch = scratch_begin + static_cast<std::size_t>(worker) * scratch_floats;
    kernels_.attend(tile);
  });
}

}  // namespace sabrewing::kernels::cpu
