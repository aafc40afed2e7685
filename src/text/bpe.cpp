#include "text/bpe.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <limits>
#include <queue>

#include "core/error.h"

namespace sabrewing::text {
namespace {

constexpr std::size_t kShortPiece = 48;
constexpr std::uint32_t kNoMerge = std::numeric_limits<std::uint32_t>::max();

constexpr std::uint64_t kEmptySlot = std::numeric_limits<std::uint64_t>::max();  // no pair of ids

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 |
         static_cast<std::uint32_t>(right);
}

}  // namespace

Bpe::Bpe(StringMap<std::int32_t> ids, bool ignore_merges, std::size_t merge_count)
    : ids_(std::move(ids)),
      merges_(std::bit_ceil(2 * merge_count + 1), Slot{kEmptySlot, {}}),
      ignore_merges_(ignore_merges) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    const char text = static_cast<char>(byte);
    byte_ids_[byte] = find({&text, 1}).value_or(-1);
  }
}

void Bpe::add_merge(std::int32_t left, std::int32_t right, std::int32_t merged) {
  const std::uint64_t pair = pair_key(left, right);
  merges_[static_cast<std::size_t>(&slot_of(pair) - merges_.data())] = {pair, {next_rank_++, merged}};
}

const Bpe::Slot& Bpe::slot_of(std::uint64_t pair) const {
  const std::size_t mask = merges_.size() - 1;
  auto at = static_cast<std::size_t>((pair ^ pair >> 29) * 0x9E3779B97F4A7C15ULL >> 20) & mask;
  while (merges_[at].pair != pair && merges_[at].pair != kEmptySlot) at = (at + 1) & mask;
  return merges_[at];
}

std::optional<std::int32_t> Bpe::find(std::string_view bytes) const {
  const auto found = ids_.find(bytes);
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const Bpe::Merge* Bpe::find_merge(std::int32_t left, std::int32_t right) const {
  const Slot& slot = slot_of(pair_key(left, right));
  return slot.pair == kEmptySlot ? nullptr : &slot.merge;
}

void Bpe::encode(std::string_view piece, std::vector<std::int32_t>& out) const {
  if (ignore_merges_) {
    if (const auto id = find(piece)) {
      out.push_back(*id);
      return;
    }
  }
  const std::size_t first = out.size();
  for (const char byte : piece) out.push_back(byte_ids_[static_cast<unsigned char>(byte)]);
  if (piece.size() <= kShortPiece) {
    merge_short(out, first);
  } else {
    merge_long(out, first);
  }
}

void Bpe::merge_short(std::vector<std::int32_t>& symbols, std::size_t first) const {
  std::int32_t* ids = symbols.data() + first;
  std::size_t count = symbols.size() - first;
  std::array<Merge, kShortPiece> merges;  // merges[i] joins ids[i] and ids[i + 1]
  const auto look_up = [&](std::size_t i) {
    const Merge* merge = find_merge(ids[i], ids[i + 1]);
    merges[i] = merge == nullptr ? Merge{kNoMerge, -1} : *merge;
  };
  for (std::size_t i = 0; i + 1 < count; ++i) look_up(i);
  while (count > 1) {
    const auto best =
        std::min_element(merges.begin(), merges.begin() + static_cast<std::ptrdiff_t>(count - 1),
                         [](const Merge& a, const Merge& b) { return a.rank < b.rank; });
    if (best->rank == kNoMerge) break;
    const auto at = static_cast<std::size_t>(best - merges.begin());
    ids[at] = best->merged;
    std::copy(ids + at + 2, ids + count, ids + at + 1);
    std::copy(merges.begin() + static_cast<std::ptrdiff_t>(at) + 1,
              merges.begin() + static_cast<std::ptrdiff_t>(count - 1),
              merges.begin() + static_cast<std::ptrdiff_t>(at));
    --count;
    if (at > 0) look_up(at - 1);
    if (at + 1 < count) look_up(at);
  }
  symbols.resize(first + count);
}

/// A heap of (rank, position). Symbols only ever grow to the right, so an entry is stale exactly when
/// the pair that now starts at its position has another rank.
void Bpe::merge_long(std::vector<std::int32_t>& symbols, std::size_t first) const {
  const std::size_t count = symbols.size() - first;
  SABREWING_CHECK(count < std::numeric_limits<std::uint32_t>::max(), kInvalidArgument,
                  "[tokenizer] a word of {} bytes is too long", count);
  std::int32_t* ids = symbols.data() + first;
  constexpr std::uint32_t kNone = std::numeric_limits<std::uint32_t>::max();
  std::vector<std::uint32_t> next(count);
  std::vector<std::uint32_t> previous(count);
  std::vector<std::uint64_t> keys;
  keys.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    next[i] = i + 1 < count ? static_cast<std::uint32_t>(i + 1) : kNone;
    previous[i] = i > 0 ? static_cast<std::uint32_t>(i - 1) : kNone;
    if (i + 1 == count) break;
    if (const Merge* merge = find_merge(ids[i], ids[i + 1])) {
      keys.push_back(static_cast<std::uint64_t>(merge->rank) << 32 | i);
    }
  }
  std::priority_queue<std::uint64_t, std::vector<std::uint64_t>, std::greater<>> queue({}, std::move(keys));
  constexpr std::int32_t kGone = -2;
  const auto push = [&](std::uint32_t left, std::uint32_t right) {
    if (const Merge* merge = find_merge(ids[left], ids[right])) {
      queue.push(static_cast<std::uint64_t>(merge->rank) << 32 | left);
    }
  };
  while (!queue.empty()) {
    const std::uint64_t top = queue.top();
    queue.pop();
    const auto at = static_cast<std::uint32_t>(top);
    const std::uint32_t right = next[at];
    if (ids[at] == kGone || right == kNone) continue;
    const Merge* merge = find_merge(ids[at], ids[right]);
    if (merge == nullptr || merge->rank != top >> 32) continue;
    ids[at] = merge->merged;
    ids[right] = kGone;
    next[at] = next[right];
    if (next[at] != kNone) {
      previous[next[at]] = at;
      push(at, next[at]);
    }
    if (previous[at] != kNone) push(previous[at], at);
  }
  const auto end = std::remove(symbols.begin() + static_cast<std::ptrdiff_t>(first), symbols.end(), kGone);
  symbols.erase(end, symbols.end());
}

}  // namespace sabrewing::text
