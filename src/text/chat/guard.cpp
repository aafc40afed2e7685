#include "text/chat/guard.h"

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "core/error.h"
#include "text/chat/message.h"
#include "text/utf8.h"

namespace sabrewing::text::chat {
namespace {

/// Who wrote a text: the model, or the operator, or somebody else.
enum class Writer { kOwn, kOther };
/// A token as somebody spells it.
using Spelling = std::pair<Writer, std::int32_t>;

/// Different tokens that are rendered one by one to find out which of them the template looks for.
constexpr std::size_t kMostTried = 32;

bool is_ascii_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

/// Characters that stand for the first ones of tokens in texts of the request. They share the first three
/// bytes, which occur nowhere else.
class Marks {
 public:
  /// `texts`: everything that must not contain a mark.
  explicit Marks(const std::vector<std::string_view>& texts) {
    for (int block = 0; block < kBlocks; ++block) {
      lead_ = {'\xF4', static_cast<char>(0x80 + block / 64), static_cast<char>(0x80 + block % 64)};
      const bool used = std::any_of(texts.begin(), texts.end(), [&](std::string_view text) {
        return text.find(lead_) != std::string_view::npos;
      });
      if (!used) return;
    }
    fail(ErrorCode::kInvalidArgument, "[chat] the messages use every private use character");
  }

  bool in(std::string_view text) const { return text.find(lead_) != std::string_view::npos; }

  /// What stands for the character.
  std::string of(std::string_view character) {
    auto found = std::find(originals_.begin(), originals_.end(), character);
    if (found == originals_.end()) {
      SABREWING_CHECK(originals_.size() < kMarks, kInvalidArgument,
                      "[chat] the messages spell tokens with more than {} different first characters",
                      kMarks);
      found = originals_.emplace(found, character);
    }
    return lead_ + static_cast<char>(0x80 + (found - originals_.begin()));
  }

  std::string without(std::string_view text) const {
    std::string out;
    for (;;) {
      const std::size_t at = text.find(lead_);
      out += text.substr(0, at);
      if (at == std::string_view::npos) return out;
      const auto mark = static_cast<std::size_t>(static_cast<unsigned char>(text[at + lead_.size()]) - 0x80);
      if (mark < originals_.size()) out += originals_[mark];
      text.remove_prefix(at + lead_.size() + 1);
    }
  }

 private:
  static constexpr int kBlocks = 1023;
  static constexpr std::size_t kMarks = 64;

  std::string lead_;
  std::vector<std::string> originals_;
};

/// Copies a request with marks in its texts.
class Marker {
 public:
  /// Tells which of the tokens that are spelled are marked.
  using Filter = std::function<bool(const Spelling&)>;

  Marker(const Tokenizer& tokenizer, Marks& marks, Filter filter, bool guard_ends)
      : tokenizer_(tokenizer), marks_(marks), filter_(std::move(filter)), guard_ends_(guard_ends) {}

  ChatRequest request(const ChatRequest& from) {
    ChatRequest to = from;
    for (OrderedJson& message : to.messages) {
      const std::string* role = string_member(message, "role");
      const bool own = role != nullptr && (*role == "assistant" || *role == "system" || *role == "developer");
      message = value(message, own ? Writer::kOwn : Writer::kOther);
    }
    for (OrderedJson* json : {&to.tools, &to.documents, &to.kwargs}) *json = value(*json, Writer::kOther);
    return to;
  }

  std::size_t marked() const { return marked_; }
  /// Those that were marked.
  const std::set<Spelling>& spelled() const { return spelled_; }

 private:
  OrderedJson value(const OrderedJson& from, Writer writer) {
    if (from.is_string()) return text(from.get_ref<const std::string&>(), writer);
    if (!from.is_structured()) return from;
    OrderedJson to = from.is_object() ? OrderedJson::object() : OrderedJson::array();
    if (from.is_array())
      for (const OrderedJson& item : from) to.push_back(value(item, writer));
    else
      for (const auto& [key, item] : from.items()) to[text(key, writer)] = value(item, writer);
    return to;
  }

  std::string text(std::string from, Writer writer) {
    // A token that is broken up may leave another one.
    for (bool again = true; std::exchange(again, false);) {
      std::string to;
      std::size_t done = 0;
      for (const Tokenizer::AddedSpan& span : tokenizer_.added_tokens(from)) {
        // Reasoning and calls are markup where the model wrote them.
        if (writer == Writer::kOwn && !tokenizer_.is_special(span.id)) continue;
        if (!filter_({writer, span.id})) continue;
        spelled_.insert({writer, span.id});
        std::size_t at = span.begin;
        while (at + 1 < span.end && is_ascii_space(from[at])) ++at;
        to.append(from, done, at - done);
        to += mark(from, at);
        done = at + next_char(from, at).size;
        again = true;
      }
      if (again) from = to.append(from, done);
    }
    if (!guard_ends_) return from;
    // What the template puts behind the text, with or without its last spaces, must not complete a token.
    guard_end(from, from.size());
    std::size_t end = from.size();
    while (end > 0 && is_ascii_space(from[end - 1])) --end;
    guard_end(from, end);
    return from;
  }

  void guard_end(std::string& text, std::size_t end) {
    for (;;) {
      const std::size_t at = tokenizer_.unfinished_token(std::string_view(text).substr(0, end));
      if (at >= end) return;
      const std::string instead = mark(text, at);
      const std::size_t size = next_char(text, at).size;
      text.replace(at, size, instead);
      end += instead.size() - size;
    }
  }

  std::string mark(std::string_view text, std::size_t at) {
    ++marked_;
    return marks_.of(text.substr(at, next_char(text, at).size));
  }

  const Tokenizer& tokenizer_;
  Marks& marks_;
  const Filter filter_;
  const bool guard_ends_;
  std::size_t marked_ = 0;
  std::set<Spelling> spelled_;
};

std::vector<PromptPart> parts_of(const Tokenizer& tokenizer, const Marks& marks, const std::string& marked) {
  std::vector<PromptPart> parts;
  const auto add = [&](std::string_view text, bool is_markup) {
    if (!parts.empty() && parts.back().is_markup && is_markup)
      parts.back().text += text;
    else if (!text.empty())
      parts.push_back({marks.without(text), is_markup});
  };
  std::size_t done = 0;
  const auto between = [&](std::size_t end) {
    const std::string_view text = std::string_view(marked).substr(done, end - done);
    add(text, !marks.in(text));
  };
  for (const Tokenizer::AddedSpan& span : tokenizer.added_tokens(marked)) {
    between(span.begin);
    add(std::string_view(marked).substr(span.begin, span.end - span.begin), true);
    done = span.end;
  }
  between(marked.size());
  return parts;
}

}  // namespace

std::vector<PromptPart> render_guarded(const Tokenizer& tokenizer, const ChatRequest& request,
                                       const std::function<std::string(const ChatRequest&)>& render) {
  const std::string plain = render(request);
  std::vector<std::string> texts = {plain};
  for (const OrderedJson* json : {&request.messages, &request.tools, &request.documents, &request.kwargs})
    texts.push_back(json->dump(-1, ' ', false, OrderedJson::error_handler_t::replace));
  Marks marks(std::vector<std::string_view>(texts.begin(), texts.end()));
  // What the template makes of the request with marks; nothing where it is not the same text, as the template
  // misses what it looks for.
  const auto marked = [&](Marker& marker) -> std::optional<std::string> {
    const ChatRequest changed = marker.request(request);
    try {
      std::string result = render(changed);
      if (marks.without(result) == plain) return result;
      return std::nullopt;
    } catch (const Error&) {
      return std::nullopt;
    }
  };
  Marker all(tokenizer, marks, [](const Spelling&) { return true; }, true);
  std::optional<std::string> result = marked(all);
  if (all.marked() == 0) return {{plain, true}};
  if (!result) {
    SABREWING_CHECK(
        all.spelled().size() <= kMostTried, kInvalidArgument,
        "[chat] the messages spell {} different tokens, some of which the chat template looks for",
        all.spelled().size());
    std::set<Spelling> wanted;
    for (const Spelling& one : all.spelled()) {
      Marker marker(tokenizer, marks, [&](const Spelling& found) { return found == one; }, false);
      if (!marked(marker)) wanted.insert(one);
    }
    Marker others(tokenizer, marks, [&](const Spelling& found) { return wanted.count(found) == 0; }, true);
    result = marked(others);
  }
  SABREWING_CHECK(
      result.has_value(), kInvalidArgument,
      "[chat] the messages spell out tokens in a way that the chat template cannot be made to show as text");
  return parts_of(tokenizer, marks, *result);
}

}  // namespace sabrewing::text::chat
