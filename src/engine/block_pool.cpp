#include "engine/block_pool.h"

#include <ranges>

#include "core/error.h"

namespace sabrewing::engine {

BlockPool::BlockPool(std::int64_t block_size, std::int64_t blocks) : block_size_(block_size) {
  SABREWING_CHECK(block_size >= 1 && block_size <= 1024, kInvalidArgument,
                  "[kv cache] block size {} is outside 1 to 1024", block_size);
  SABREWING_CHECK(blocks >= 1 && blocks < INT32_MAX, kInvalidArgument,
                  "[kv cache] {} blocks are outside 1 to 2^31 - 1", blocks);
  blocks_.resize(static_cast<std::size_t>(blocks) + 1);
  at(head()).next = at(head()).previous = head();
  for (std::int32_t block = 0; block < head(); ++block) link_before(head(), block);
}

void BlockPool::link_before(std::int32_t next, std::int32_t block) {
  const std::int32_t previous = at(next).previous;
  at(block).next = next;
  at(block).previous = previous;
  at(previous).next = block;
  at(next).previous = block;
  ++free_;
}

void BlockPool::unlink(std::int32_t block) {
  Block& b = at(block);
  at(b.previous).next = b.next;
  at(b.next).previous = b.previous;
  --free_;
  if (b.kept) --kept_;
  b.kept = false;
}

std::int32_t BlockPool::take() {
  SABREWING_CHECK(free_ > 0, kInternal, "[kv cache] no block of {} is free", blocks());
  const std::int32_t block = at(head()).next;
  unlink(block);
  at(block).references = 1;
  ++at(block).generation;
  return block;
}

void BlockPool::add_reference(std::int32_t block) {
  if (at(block).references == 0) unlink(block);
  ++at(block).references;
}

void BlockPool::drop(std::int32_t block, bool keep) {
  SABREWING_CHECK(at(block).references > 0, kInternal, "[kv cache] block {} is dropped but nobody holds it",
                  block);
  if (--at(block).references > 0) return;
  link_before(keep ? head() : at(head()).next, block);
  at(block).kept = keep;
  if (keep) ++kept_;
}

bool BlockPool::extend(std::vector<std::int32_t>& table, std::int64_t tokens) {
  const auto held = static_cast<std::int64_t>(table.size());
  const std::int64_t missing = blocks_for(tokens) - held;
  if (missing > free_) return false;
  for (std::int64_t i = 0; i < missing; ++i) table.push_back(take());
  return true;
}

void BlockPool::release(std::vector<std::int32_t>& table) {
  for (const std::int32_t block : std::views::reverse(table)) drop(block, false);
  table.clear();
}

}  // namespace sabrewing::engine
