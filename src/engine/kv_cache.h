#pragma once

#include <cstdint>
#include <vector>

#include "engine/block_pool.h"
#include "models/decoder.h"

namespace sabrewing::engine {

/// The part of a device's memory that weights, scratch and cache take together, as vLLM's
/// gpu-memory-utilization means it.
class MemoryShare {
 public:
  /// `share` in (0, 1], `before`: ahead of the weights. Throws `kInvalidArgument` when less is free than
  /// asked for.
  MemoryShare(double share, const kernels::DeviceMemory& before);

  std::size_t bytes() const { return bytes_; }
  /// What is left for the cache once the weights are loaded. Throws `kInvalidArgument` when nothing is.
  std::size_t cache_bytes(const kernels::DeviceMemory& after, std::size_t workspace_bytes) const;

 private:
  double share_;
  kernels::DeviceMemory before_;
  std::size_t bytes_ = 0;
};

/// The paged key/value cache of a model: every layer has `blocks` blocks of `block_size` tokens, and a
/// block id means the same tokens in each. Not thread-safe.
class KvCache {
 public:
  /// Throws as `BlockPool` does.
  KvCache(models::Decoder& model, std::int64_t block_size, std::int64_t blocks);

  /// Bytes that such a cache takes.
  static std::size_t bytes(const models::Decoder& model, std::int64_t block_size, std::int64_t blocks);

  std::int64_t block_size() const { return pool_.block_size(); }
  std::int64_t blocks() const { return pool_.blocks(); }
  const std::vector<models::KvLayer>& layers() const { return layers_; }
  BlockPool& pool() { return pool_; }
  const BlockPool& pool() const { return pool_; }

  bool extend(std::vector<std::int32_t>& table, std::int64_t tokens) { return pool_.extend(table, tokens); }
  void release(std::vector<std::int32_t>& table) { pool_.release(table); }

 private:
  BlockPool pool_;
  std::vector<models::KvLayer> layers_;
};

}  // namespace sabrewing::engine
