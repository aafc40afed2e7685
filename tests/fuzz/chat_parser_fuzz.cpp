#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "text/chat/parser.h"
#include "text/utf8.h"

namespace {

using namespace sabrewing;
using namespace sabrewing::text;

struct Parsed {
  std::string reasoning;
  std::string content;
  std::vector<std::string> calls;
  std::vector<std::string> arguments;
  std::vector<bool> closed;
  bool operator==(const Parsed&) const = default;
};

void require(bool holds) {
  if (!holds) std::abort();
}

void add(Parsed& parsed, const std::vector<ChatDelta>& deltas) {
  for (const ChatDelta& delta : deltas) {
    require(!delta.text.empty() && !find_invalid_utf8(delta.text));
    const auto call = static_cast<std::size_t>(delta.call);
    switch (delta.kind) {
      case ChatDelta::Kind::kReasoning:
        parsed.reasoning += delta.text;
        break;
      case ChatDelta::Kind::kContent:
        parsed.content += delta.text;
        break;
      case ChatDelta::Kind::kToolCall:
        require(call == parsed.calls.size());
        parsed.calls.push_back(delta.text + '\n' + delta.id);
        parsed.arguments.emplace_back();
        break;
      case ChatDelta::Kind::kToolArguments:
        require(call + 1 == parsed.calls.size());
        parsed.arguments.back() += delta.text;
        break;
    }
  }
}

/// `sizes`: characters of each piece, again and again; none: the text at once.
Parsed parse(const ChatParserOptions& options, std::string_view text, const std::vector<std::size_t>& sizes) {
  const auto parser = make_chat_parser(options);
  Parsed parsed;
  std::vector<ChatDelta> deltas;
  for (std::size_t at = 0, piece = 0; at < text.size(); ++piece) {
    std::size_t end = sizes.empty() ? text.size() : at;
    for (std::size_t n = sizes.empty() ? 0 : sizes[piece % sizes.size()] + 1; n > 0 && end < text.size(); --n)
      end += next_char(text, end).size;
    deltas.clear();
    parser->push(-1, text.substr(at, end - at), deltas);
    add(parsed, deltas);
    at = end;
  }
  deltas.clear();
  parser->finish(deltas);
  add(parsed, deltas);
  for (std::size_t i = 0; i < parsed.calls.size(); ++i) {
    parsed.closed.push_back(parser->call_closed(static_cast<std::int32_t>(i)));
    if (parsed.closed.back()) require(Json::parse(parsed.arguments[i], nullptr, false).is_object());
  }
  return parsed;
}

}  // namespace

/// One byte picks the tool format and one the reasoning format, the prompt's end and whether tools are
/// parsed, one says how many bytes of piece sizes follow; the rest is the answer. However it is cut, it means
/// the same, and arguments of closed calls are JSON objects.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const std::vector<std::string> tools = tool_parser_names();
  static const std::vector<std::string> reasoning = reasoning_parser_names();
  static const OrderedJson schemas = parse_ordered_json(
      R"([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {
          "s": {"type": "string"}, "i": {"type": "integer"}, "n": {"type": "number"}, "b": {"type": "boolean"},
          "z": {"type": ["string", "null"]}, "l": {"type": "array"}, "o": {"type": "object"}}}}}])",
      "tools");
  if (size < 3) return 0;
  ChatParserOptions options;
  options.tools = schemas;
  options.tool_parser = tools[data[0] % tools.size()];
  const bool harmony = options.tool_parser == "openai" || options.tool_parser == "gptoss";
  const std::string& second = reasoning[(data[1] >> 3U) % reasoning.size()];
  const bool second_harmony = second == "openai_gptoss" || second == "gptoss";
  if (second_harmony == harmony) options.reasoning_parser = second;
  options.parse_tools = (data[1] & 4U) == 0;
  constexpr std::string_view kPrompts[] = {"", "<think>\n", "</think>", "<|start|>assistant"};
  options.prompt = kPrompts[data[1] & 3U];
  const std::size_t pieces = data[2] % 16;
  if (size < 3 + pieces) return 0;
  std::vector<std::size_t> sizes(data + 3, data + 3 + pieces);
  for (std::size_t& one : sizes) one %= 16;
  std::string text;
  append_utf8_lossy(text, {reinterpret_cast<const char*>(data) + 3 + pieces, size - 3 - pieces});
  const Parsed whole = parse(options, text, {});
  require(parse(options, text, sizes) == whole);
  require(parse(options, text, {0}) == whole);
  return 0;
}
