#pragma once

#include <cstdint>
#include <vector>

#include "models/decoder.h"

namespace sabrewing::engine {

/// The paged key/value cache of a model: every layer has `blocks` blocks of `block_size` tokens, and a
/// block id means the same tokens in each. Not thread-safe.
class KvCache {
 public:
  /// Throws `kInvalidArgument` unless 1 <= block_size <= 1024 and blocks >= 1.
  KvCache(models::Decoder& model, std::int64_t block_size, std::int64_t blocks);

  /// Bytes that such a cache takes.
  static std::size_t bytes(const models::Decoder& model, std::int64_t block_size, std::int64_t blocks);

  std::int64_t block_size() const { return block_size_; }
  std::int64_t blocks() const { return blocks_; }
  std::int64_t free_blocks() const { return static_cast<std::int64_t>(free_.size()); }
  const std::vector<models::KvLayer>& layers() const { return layers_; }

  /// Appends blocks to `table` until it covers `tokens` tokens; false, and nothing taken, when too few are free.
  bool extend(std::vector<std::int32_t>& table, std::int64_t tokens);
  /// Gives every block of `table` back and empties it.
  void release(std::vector<std::int32_t>& table);

 private:
  std::int64_t block_size_;
  std::int64_t blocks_;
  std::vector<std::int32_t> free_;
  std::vector<models::KvLayer> layers_;
};

}  // namespace sabrewing::engine
