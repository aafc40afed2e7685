#include "engine/kv_cache.h"

namespace sabrewing::engine {

std::size_t KvCache::bytes(const models::Decoder& model, std::int64_t block_size, std::int64_t blocks) {
  return model.spec().layers.size() * model.cache_desc(block_size).bytes_per_block() *
         static_cast<std::size_t>(blocks);
}

KvCache::KvCache(models::Decoder& model, std::int64_t block_size, std::int64_t blocks)
    : pool_(block_size, blocks) {
  const kernels::KvCacheDesc desc = model.cache_desc(block_size);
  const std::size_t half = desc.bytes_per_block() / 2 * static_cast<std::size_t>(blocks);
  for (std::size_t i = 0; i < model.spec().layers.size(); ++i) {
    models::KvLayer layer;
    layer.keys = model.backend().allocate(half);
    layer.values = model.backend().allocate(half);
    layer.view = {desc, layer.keys.data, layer.values.data};
    layers_.push_back(std::move(layer));
  }
}

}  // namespace sabrewing::engine
