#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/chat/parser.h"

namespace sabrewing::text::chat {

/// Where the stages of a parser put what they understood.
class Answer {
 public:
  /// `trim`: white space between content and calls, and newlines around reasoning, are markup.
  explicit Answer(bool trim) : trim_(trim) {}

  void begin_push(std::vector<ChatDelta>& out) {
    out_ = &out;
    first_ = out.size();
  }

  void reasoning(std::string_view text);
  void end_reasoning();
  void content(std::string_view text);
  void begin_call(std::string_view name, std::string_view id);
  /// Argument text of the call begun last.
  void arguments(std::string_view text);
  /// The call begun last has all its arguments.
  void end_call() {
    closed_.back() = true;
    after_call_ = true;
  }
  void finish();

  bool call_closed(std::int32_t call) const {
    return call >= 0 && static_cast<std::size_t>(call) < closed_.size() &&
           closed_[static_cast<std::size_t>(call)];
  }

 private:
  void emit(ChatDelta::Kind kind, std::string_view text);

  bool trim_;
  std::vector<ChatDelta>* out_ = nullptr;
  std::size_t first_ = 0;  ///< of the deltas of this push
  std::vector<bool> closed_;
  std::string space_;             ///< held back: the end of reasoning or of content
  bool in_reasoning_ = false;     ///< some was given out
  bool after_reasoning_ = false;  ///< no content since
  bool after_call_ = false;       ///< no content since
  bool has_content_ = false;
};

}  // namespace sabrewing::text::chat
