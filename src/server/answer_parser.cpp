#include "server/answer_parser.h"

#include <utility>

namespace sabrewing::server {

using text::ChatDelta;

bool has_parser(const Service& service) {
  return !service.options().tool_parser.empty() || !service.options().reasoning_parser.empty();
}

AnswerParser::AnswerParser(const Service& service, const ToolChoice& tools, const std::string& prompt)
    : parallel_calls_(tools.parallel_calls) {
  if (!has_parser(service)) return;
  text::ChatParserOptions options;
  options.tool_parser = service.options().tool_parser;
  options.reasoning_parser = service.options().reasoning_parser;
  options.tools = tools.tools;
  options.parse_tools = tools.kind != ToolChoice::Kind::kNone;
  options.prompt = prompt;
  options.tokenizer = service.model().tokenizer.get();
  parser_ = text::make_chat_parser(options);
}

std::vector<ChatDelta> AnswerParser::take(const engine::RequestUpdate& update, bool stop_in_output) {
  std::vector<ChatDelta> deltas;
  const auto push = [&](std::int32_t id, const std::string& text) {
    if (parser_ != nullptr)
      parser_->push(id, text, deltas);
    else if (!text.empty())
      deltas.push_back({ChatDelta::Kind::kContent, text, 0, {}});
  };
  for (const engine::OutputToken& token : update.tokens) {
    push(token.id, token.text);
    if (!deltas.empty()) in_reasoning_ = deltas.back().kind == ChatDelta::Kind::kReasoning;
    if (in_reasoning_) ++reasoning_tokens_;
  }
  if (update.finished) {
    if (stop_in_output && update.stop_string && !update.tokens.empty())
      push(update.tokens.back().id, *update.stop_string);
    if (parser_ != nullptr) parser_->finish(deltas);
  }
  std::vector<ChatDelta> joined;
  for (ChatDelta& delta : deltas) {
    if (!parallel_calls_ && delta.call > 0) continue;
    const bool same = !joined.empty() && joined.back().kind == delta.kind &&
                      joined.back().call == delta.call && delta.kind != ChatDelta::Kind::kToolCall;
    if (same)
      joined.back().text += delta.text;
    else
      joined.push_back(std::move(delta));
  }
  return joined;
}

}  // namespace sabrewing::server
