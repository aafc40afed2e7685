#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "engine/block_pool.h"

namespace sabrewing::engine {

/// Finds full blocks of a BlockPool by the tokens in them and before them. A block is identified by its
/// parent, its tokens and, for the first one, the salt; the comparison is of the values, so that no two
/// prompts are ever taken for one another. Free blocks stay known until the pool gives them away, the least
/// recently used first and the end of a prompt before its beginning. Not thread-safe.
class PrefixCache {
 public:
  explicit PrefixCache(BlockPool& pool);

  /// The longest run of known blocks that `tokens` begins with, in order; no reference is taken.
  std::vector<std::int32_t> find(std::span<const std::int32_t> tokens, std::string_view salt) const;

  /// Makes the full blocks [first, end) of `table`, which hold `tokens`, known; those before are known. A
  /// block whose contents another block holds already is replaced by that one in `table`.
  void store(std::span<const std::int32_t> tokens, std::string_view salt, std::vector<std::int32_t>& table,
             std::int64_t first, std::int64_t end);

  /// Drops the blocks of `table` and empties it; known ones keep their contents.
  void release(std::vector<std::int32_t>& table);

  /// Makes the blocks of `table` unknown.
  void forget(std::span<const std::int32_t> table);

  bool knows(std::int32_t block) const;

 private:
  struct Entry {
    std::uint64_t generation = 0;  ///< of the block when it was stored; 0: never
    std::uint64_t serial = 0;      ///< names this entry as a parent; never used twice
    std::uint64_t parent = 0;      ///< 0: the first block
    std::uint64_t hash = 0;
    std::vector<std::int32_t> tokens;
    std::string salt;
  };

  static std::uint64_t hash(std::uint64_t parent, std::span<const std::int32_t> tokens,
                            std::string_view salt);
  /// The known block with these contents, or -1.
  std::int32_t lookup(std::uint64_t hash, std::uint64_t parent, std::span<const std::int32_t> tokens,
                      std::string_view salt) const;

  BlockPool& pool_;
  std::vector<Entry> entries_;  ///< by block
  std::unordered_map<std::uint64_t, std::int32_t> by_hash_;
  std::uint64_t next_serial_ = 1;
};

}  // namespace sabrewing::engine
