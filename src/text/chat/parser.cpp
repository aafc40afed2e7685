#include "text/chat/parser.h"

#include <fmt/format.h>

#include "core/error.h"

namespace sabrewing::text {
namespace {

/// Everything is content.
class ContentParser final : public ChatParser {
 public:
  void push(std::int32_t, std::string_view text, std::vector<ChatDelta>& out) override {
    if (!text.empty()) out.push_back({ChatDelta::Kind::kContent, std::string(text), 0, {}});
  }
  void finish(std::vector<ChatDelta>&) override {}
  bool call_closed(std::int32_t) const override { return false; }
};

void check_name(std::string_view kind, const std::string& name, const std::vector<std::string>& known) {
  SABREWING_CHECK(name.empty(), kInvalidArgument, "[chat] unknown {} parser \"{}\", expected one of: {}", kind,
                  name, fmt::join(known, ", "));
}

}  // namespace

std::vector<std::string> tool_parser_names() { return {}; }

std::vector<std::string> reasoning_parser_names() { return {}; }

std::unique_ptr<ChatParser> make_chat_parser(const ChatParserOptions& options) {
  check_name("tool", options.tool_parser, tool_parser_names());
  check_name("reasoning", options.reasoning_parser, reasoning_parser_names());
  return std::make_unique<ContentParser>();
}

ChatParserDefaults default_parsers(std::string_view, std::string_view) { return {}; }

}  // namespace sabrewing::text
