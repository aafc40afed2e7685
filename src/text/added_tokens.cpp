#include "text/added_tokens.h"

#include <algorithm>
#include <utility>

#include "text/utf8.h"

namespace sabrewing::text {
namespace {

/// Alphabetic, marks, decimal digits, connectors and joiners. Symbols that are alphabetic are the circled
/// and squared letters.
constexpr std::string_view kWordCharacter =
    R"([\p{L}\p{M}\p{Nd}\p{Nl}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}])";

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

/// Start of the character that ends at `end`, which is not 0.
std::size_t char_before(std::string_view text, std::size_t end) {
  do --end;
  while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

}  // namespace

AddedTokenMatcher::AddedTokenMatcher(std::vector<Entry> entries) : entries_(std::move(entries)), nodes_(1) {
  for (std::size_t i = 0; i < entries_.size(); ++i) {
    std::uint32_t node = 0;
    for (const char c : entries_[i].text) {
      const auto byte = static_cast<unsigned char>(c);
      const auto& children = nodes_[node].children;
      const auto child = std::find_if(children.begin(), children.end(),
                                      [&](const auto& edge) { return edge.first == byte; });
      if (child != children.end()) {
        node = child->second;
        continue;
      }
      const auto added = static_cast<std::uint32_t>(nodes_.size());
      nodes_[node].children.emplace_back(byte, added);
      nodes_.emplace_back();
      node = added;
    }
    nodes_[node].entry = static_cast<std::int32_t>(i);
    longest_ = std::max(longest_, entries_[i].text.size());
    starts_[static_cast<unsigned char>(entries_[i].text.front())] = true;
    if (entries_[i].token.single_word && !word_) {
      word_.emplace(kWordCharacter, "added_tokens single_word");
    }
  }
}

const AddedTokenMatcher::Entry* AddedTokenMatcher::longest_at(std::string_view text,
                                                              std::size_t position) const {
  const Entry* longest = nullptr;
  std::uint32_t node = 0;
  for (; position < text.size(); ++position) {
    const auto byte = static_cast<unsigned char>(text[position]);
    const auto& children = nodes_[node].children;
    const auto child =
        std::find_if(children.begin(), children.end(), [&](const auto& edge) { return edge.first == byte; });
    if (child == children.end()) break;
    node = child->second;
    if (nodes_[node].entry >= 0) longest = &entries_[static_cast<std::size_t>(nodes_[node].entry)];
  }
  return longest;
}

std::size_t AddedTokenMatcher::unfinished(std::string_view text) const {
  for (std::size_t at = text.size() - std::min(text.size(), longest_); at < text.size(); ++at) {
    std::uint32_t node = 0;
    std::size_t end = at;
    for (; end < text.size(); ++end) {
      const auto& children = nodes_[node].children;
      const auto child = std::find_if(children.begin(), children.end(), [&](const auto& edge) {
        return edge.first == static_cast<unsigned char>(text[end]);
      });
      if (child == children.end()) break;
      node = child->second;
    }
    if (end == text.size() && !nodes_[node].children.empty()) return at;
  }
  return text.size();
}

bool AddedTokenMatcher::is_word(std::string_view text, std::size_t begin) const {
  const std::string_view character = text.substr(begin, next_char(text, begin).size);
  SearchBudget budget(character.size());
  RegexMatches match(*word_, character, budget);
  return match.next();
}

std::vector<AddedTokenMatcher::Part> AddedTokenMatcher::cut(std::string_view text, bool parse_special) const {
  std::vector<Part> parts;
  std::size_t done = 0;
  std::size_t space_begin = 1;  // the white space that the last rstrip token took, so as to look once
  std::size_t space_end = 0;
  for (std::size_t at = 0; at < text.size();) {
    const Entry* entry = starts_[static_cast<unsigned char>(text[at])] ? longest_at(text, at) : nullptr;
    if (entry == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + entry->text.size();
    at = end;  // a token that is then rejected still hides shorter ones within it
    const AddedToken& token = entry->token;
    if (token.special && !parse_special) continue;
    if (token.single_word && ((begin > 0 && is_word(text, char_before(text, begin))) ||
                              (end < text.size() && is_word(text, end)))) {
      continue;
    }
    if (token.lstrip) {
      while (begin > done) {
        const std::size_t before = char_before(text, begin);
        if (!is_white_space(next_char(text, before).code_point)) break;
        begin = before;
      }
      begin = std::max(begin, done);
    }
    if (token.rstrip) {
      if (end < space_begin || end > space_end) {
        space_begin = space_end = end;
        while (space_end < text.size()) {
          const Utf8Char c = next_char(text, space_end);
          if (!is_white_space(c.code_point)) break;
          space_end += c.size;
        }
      }
      end = space_end;
    }
    if (done < begin) parts.push_back({std::nullopt, done, begin});
    parts.push_back({token.id, begin, end});
    done = end;
  }
  if (done != text.size()) parts.push_back({std::nullopt, done, text.size()});
  return parts;
}

}  // namespace sabrewing::text
