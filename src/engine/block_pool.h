#pragma once

#include <cstdint>
#include <vector>

namespace sabrewing::engine {

/// Who holds which block of a paged cache. A block that nobody holds is free but keeps its contents until
/// it is taken again. Not thread-safe.
class BlockPool {
 public:
  /// Throws `kInvalidArgument` unless 1 <= block_size <= 1024 and 1 <= blocks < 2^31.
  BlockPool(std::int64_t block_size, std::int64_t blocks);

  std::int64_t block_size() const { return block_size_; }
  std::int64_t blocks() const { return static_cast<std::int64_t>(blocks_.size()) - 1; }
  std::int64_t free_blocks() const { return free_; }
  std::int64_t used_blocks() const { return blocks() - free_; }
  /// Of the free blocks, those given back with contents worth keeping.
  std::int64_t kept_blocks() const { return kept_; }
  std::int64_t blocks_for(std::int64_t tokens) const { return (tokens + block_size_ - 1) / block_size_; }

  std::int64_t references(std::int32_t block) const { return at(block).references; }
  /// Changes whenever the block is taken: its old contents are lost.
  std::uint64_t generation(std::int32_t block) const { return at(block).generation; }

  /// The next free block, with one reference: those not worth keeping first, then the least recently used.
  /// One must be free.
  std::int32_t take();
  void add_reference(std::int32_t block);
  /// Gives one reference back. With the last one the block is free: last in the queue when its contents are
  /// worth keeping, else first.
  void drop(std::int32_t block, bool keep);

  /// Appends blocks to `table` until it covers `tokens` tokens; false, and nothing taken, when too few are
  /// free.
  bool extend(std::vector<std::int32_t>& table, std::int64_t tokens);
  /// Drops every block of `table`, contents and all, and empties it.
  void release(std::vector<std::int32_t>& table);

 private:
  struct Block {
    std::int32_t references = 0;
    std::int32_t next = 0;  ///< in the ring of free blocks
    std::int32_t previous = 0;
    bool kept = false;
    std::uint64_t generation = 0;
  };

  const Block& at(std::int32_t block) const { return blocks_[static_cast<std::size_t>(block)]; }
  Block& at(std::int32_t block) { return blocks_[static_cast<std::size_t>(block)]; }
  std::int32_t head() const { return static_cast<std::int32_t>(blocks()); }
  void link_before(std::int32_t next, std::int32_t block);
  void unlink(std::int32_t block);

  std::int64_t block_size_;
  std::vector<Block> blocks_;  ///< and the head of the ring
  std::int64_t free_ = 0;
  std::int64_t kept_ = 0;
};

}  // namespace sabrewing::engine
