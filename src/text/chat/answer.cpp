#include "text/chat/answer.h"

#include "text/chat/tape.h"

namespace sabrewing::text::chat {

void Answer::emit(ChatDelta::Kind kind, std::string_view text) {
  if (text.empty()) return;
  const auto call = static_cast<std::int32_t>(closed_.empty() ? 0 : closed_.size() - 1);
  const bool of_call = kind == ChatDelta::Kind::kToolArguments;
  if (out_->size() > first_ && out_->back().kind == kind && (!of_call || out_->back().call == call)) {
    out_->back().text += text;
  } else {
    out_->push_back({kind, std::string(text), of_call ? call : 0, {}});
  }
}

void Answer::reasoning(std::string_view text) {
  if (!trim_) return emit(ChatDelta::Kind::kReasoning, text);
  if (!in_reasoning_) {
    while (!text.empty() && (text.front() == '\n' || text.front() == '\r')) text.remove_prefix(1);
    if (text.empty()) return;
    in_reasoning_ = true;
  }
  std::size_t end = text.size();
  while (end > 0 && is_space(text[end - 1])) --end;
  if (end > 0) {
    emit(ChatDelta::Kind::kReasoning, space_);
    space_.clear();
    emit(ChatDelta::Kind::kReasoning, text.substr(0, end));
  }
  space_ += text.substr(end);
}

void Answer::end_reasoning() {
  space_.clear();
  in_reasoning_ = false;
  after_reasoning_ = true;
}

void Answer::content(std::string_view text) {
  if (!trim_) return emit(ChatDelta::Kind::kContent, text);
  if (after_reasoning_) {
    while (!text.empty() && (text.front() == '\n' || text.front() == '\r')) text.remove_prefix(1);
  }
  if (after_call_) text.remove_prefix(leading_space(text));
  if (text.empty()) return;
  after_reasoning_ = after_call_ = false;
  std::size_t end = text.size();
  while (end > 0 && is_space(text[end - 1])) --end;
  if (end > 0) {
    emit(ChatDelta::Kind::kContent, space_);
    space_.clear();
    emit(ChatDelta::Kind::kContent, text.substr(0, end));
    has_content_ = true;
  }
  space_ += text.substr(end);
}

void Answer::begin_call(std::string_view name, std::string_view id) {
  if (!has_content_) space_.clear();
  after_call_ = true;
  closed_.push_back(false);
  out_->push_back({ChatDelta::Kind::kToolCall, std::string(name),
                   static_cast<std::int32_t>(closed_.size() - 1), std::string(id)});
}

void Answer::arguments(std::string_view text) { emit(ChatDelta::Kind::kToolArguments, text); }

void Answer::finish() {
  if (!after_call_) emit(in_reasoning_ ? ChatDelta::Kind::kReasoning : ChatDelta::Kind::kContent, space_);
  space_.clear();
}

}  // namespace sabrewing::text::chat
