#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace sabrewing::text {

struct StringHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
};
template <typename Value>
using StringMap = std::unordered_map<std::string, Value, StringHash, std::equal_to<>>;

/// Byte-pair encoding over raw bytes with ranked merges: always the pair of lowest rank next, the
/// leftmost first. Immutable once built, so threads may share it.
class Bpe {
 public:
  /// `ids`: byte sequence -> id, with an entry for each single byte that occurs in UTF-8.
  /// At most `merge_count` different merges will be added.
  Bpe(StringMap<std::int32_t> ids, bool ignore_merges, std::size_t merge_count);

  /// Merges rank in the order of these calls; a pair given again takes its later rank.
  void add_merge(std::int32_t left, std::int32_t right, std::int32_t merged);

  /// Appends the ids of one pre-token. O(n log n) in its length.
  void encode(std::string_view piece, std::vector<std::int32_t>& out) const;

  std::optional<std::int32_t> find(std::string_view bytes) const;

 private:
  struct Merge {
    std::uint32_t rank;
    std::int32_t merged;
  };
  struct Slot {
    std::uint64_t pair;
    Merge merge;
  };

  /// The slot of a pair, or the empty one where it would be.
  const Slot& slot_of(std::uint64_t pair) const;
  const Merge* find_merge(std::int32_t left, std::int32_t right) const;
  void merge_short(std::vector<std::int32_t>& symbols, std::size_t first) const;
  void merge_long(std::vector<std::int32_t>& symbols, std::size_t first) const;

  StringMap<std::int32_t> ids_;
  std::int32_t byte_ids_[256];
  std::vector<Slot> merges_;  ///< open addressing, at most half full, a power of two long
  std::uint32_t next_rank_ = 0;
  bool ignore_merges_;
};

}  // namespace sabrewing::text
