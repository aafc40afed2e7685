#include "engine/kv_cache.h"

#include <algorithm>

#include "core/error.h"

namespace sabrewing::engine {

MemoryShare::MemoryShare(double share, const kernels::DeviceMemory& before) : share_(share), before_(before) {
  SABREWING_CHECK(share > 0 && share <= 1, kInvalidArgument, "[engine] a share of {} of the memory", share);
  bytes_ = static_cast<std::size_t>(share * static_cast<double>(before.total));
  SABREWING_CHECK(bytes_ <= before.free, kInvalidArgument,
                  "[engine] {} of the device's memory are {} of {} bytes, but only {} are free", share,
                  bytes_, before.total, before.free);
}

std::size_t MemoryShare::cache_bytes(const kernels::DeviceMemory& after, std::size_t workspace_bytes) const {
  const std::size_t weights = before_.free - std::min(before_.free, after.free);
  SABREWING_CHECK(
      weights + workspace_bytes < bytes_, kInvalidArgument,
      "[engine] {} of the device's memory are {} bytes, of which weights take {} and scratch {}: no "
      "room for the cache",
      share_, bytes_, weights, workspace_bytes);
  return bytes_ - weights - workspace_bytes;
}

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
