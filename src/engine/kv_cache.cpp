#include "engine/kv_cache.h"

#include "core/error.h"

namespace sabrewing::engine {

std::size_t KvCache::bytes(const models::Decoder& model, std::int64_t block_size, std::int64_t blocks) {
  return model.spec().layers.size() * model.cache_desc(block_size).bytes_per_block() * static_cast<std::size_t>(blocks);
}

KvCache::KvCache(models::Decoder& model, std::int64_t block_size, std::int64_t blocks)
    : block_size_(block_size), blocks_(blocks) {
  SABREWING_CHECK(block_size >= 1 && block_size <= 1024, kInvalidArgument,
                  "[kv cache] block size {} is outside 1 to 1024", block_size);
  SABREWING_CHECK(blocks >= 1 && blocks <= INT32_MAX, kInvalidArgument, "[kv cache] {} blocks are outside 1 to 2^31",
                  blocks);
  const kernels::KvCacheDesc desc = model.cache_desc(block_size);
  const std::size_t half = desc.bytes_per_block() / 2 * static_cast<std::size_t>(blocks);
  for (std::size_t i = 0; i < model.spec().layers.size(); ++i) {
    models::KvLayer layer;
    layer.keys = model.backend().allocate(half);
    layer.values = model.backend().allocate(half);
    layer.view = {desc, layer.keys.data, layer.values.data};
    layers_.push_back(std::move(layer));
  }
  for (std::int64_t block = blocks; block-- > 0;) free_.push_back(static_cast<std::int32_t>(block));
}

bool KvCache::extend(std::vector<std::int32_t>& table, std::int64_t tokens) {
  const auto needed = static_cast<std::size_t>((tokens + block_size_ - 1) / block_size_);
  if (needed <= table.size()) return true;
  if (needed - table.size() > free_.size()) return false;
  while (table.size() < needed) {
    table.push_back(free_.back());
    free_.pop_back();
  }
  return true;
}

void KvCache::release(std::vector<std::int32_t>& table) {
  free_.insert(free_.end(), table.rbegin(), table.rend());
  table.clear();
}

}  // namespace sabrewing::engine
