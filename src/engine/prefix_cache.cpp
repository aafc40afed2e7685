#include "engine/prefix_cache.h"

#include <algorithm>
#include <ranges>

namespace sabrewing::engine {
namespace {

std::uint64_t mix(std::uint64_t state, std::uint64_t value) {
  state = (state ^ value) * 0x9E3779B97F4A7C15;
  return state ^ (state >> 29);
}

}  // namespace

PrefixCache::PrefixCache(BlockPool& pool) : pool_(pool), entries_(static_cast<std::size_t>(pool.blocks())) {}

std::uint64_t PrefixCache::hash(std::uint64_t parent, std::span<const std::int32_t> tokens,
                                std::string_view salt) {
  std::uint64_t state = mix(0x243F6A8885A308D3, parent);
  for (const std::int32_t token : tokens) state = mix(state, static_cast<std::uint32_t>(token));
  for (const char byte : salt) state = mix(state, static_cast<unsigned char>(byte));
  return state;
}

bool PrefixCache::knows(std::int32_t block) const {
  const Entry& entry = entries_[static_cast<std::size_t>(block)];
  return entry.generation != 0 && entry.generation == pool_.generation(block);
}

std::int32_t PrefixCache::lookup(std::uint64_t hash, std::uint64_t parent,
                                 std::span<const std::int32_t> tokens, std::string_view salt) const {
  const auto found = by_hash_.find(hash);
  if (found == by_hash_.end() || !knows(found->second)) return -1;
  const Entry& entry = entries_[static_cast<std::size_t>(found->second)];
  const bool same = entry.parent == parent && entry.salt == salt &&
                    std::equal(entry.tokens.begin(), entry.tokens.end(), tokens.begin(), tokens.end());
  return same ? found->second : -1;
}

std::vector<std::int32_t> PrefixCache::find(std::span<const std::int32_t> tokens,
                                            std::string_view salt) const {
  const auto size = static_cast<std::size_t>(pool_.block_size());
  std::vector<std::int32_t> blocks;
  std::uint64_t parent = 0;
  for (std::size_t at = 0; at + size <= tokens.size(); at += size) {
    const auto here = tokens.subspan(at, size);
    const std::string_view own_salt = at == 0 ? salt : std::string_view();
    const std::int32_t block = lookup(hash(parent, here, own_salt), parent, here, own_salt);
    if (block < 0) break;
    blocks.push_back(block);
    parent = entries_[static_cast<std::size_t>(block)].serial;
  }
  return blocks;
}

void PrefixCache::store(std::span<const std::int32_t> tokens, std::string_view salt,
                        std::vector<std::int32_t>& table, std::int64_t first, std::int64_t end) {
  for (std::int64_t i = first; i < end; ++i) {
    std::uint64_t parent = 0;
    if (i > 0) {
      const std::int32_t before = table[static_cast<std::size_t>(i) - 1];
      // Forgotten meanwhile: what follows cannot be found either.
      if (!knows(before)) return;
      parent = entries_[static_cast<std::size_t>(before)].serial;
    }
    const auto here = tokens.subspan(static_cast<std::size_t>(i * pool_.block_size()),
                                     static_cast<std::size_t>(pool_.block_size()));
    const std::string_view own_salt = i == 0 ? salt : std::string_view();
    const std::uint64_t key = hash(parent, here, own_salt);
    std::int32_t& block = table[static_cast<std::size_t>(i)];
    if (knows(block)) continue;
    if (const std::int32_t twin = lookup(key, parent, here, own_salt); twin >= 0) {
      pool_.add_reference(twin);
      pool_.drop(block, false);
      block = twin;
      continue;
    }
    Entry& entry = entries_[static_cast<std::size_t>(block)];
    if (const auto old = by_hash_.find(entry.hash); old != by_hash_.end() && old->second == block)
      by_hash_.erase(old);
    if (const auto other = by_hash_.find(key); other != by_hash_.end())
      entries_[static_cast<std::size_t>(other->second)].generation = 0;
    by_hash_[key] = block;
    entry = {pool_.generation(block),    next_serial_++,       parent, key,
             {here.begin(), here.end()}, std::string(own_salt)};
  }
}

void PrefixCache::release(std::vector<std::int32_t>& table) {
  for (const std::int32_t block : std::views::reverse(table)) pool_.drop(block, knows(block));
  table.clear();
}

void PrefixCache::forget(std::span<const std::int32_t> table) {
  for (const std::int32_t block : table) entries_[static_cast<std::size_t>(block)].generation = 0;
}

}  // namespace sabrewing::engine
