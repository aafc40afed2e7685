#pragma once

#include <cstdint>
#include <vector>

#include "engine/block_pool.h"
#include "models/decoder.h"

namespace sabrewing::engine {

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
