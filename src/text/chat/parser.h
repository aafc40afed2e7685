#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace sabrewing::text {

class Tokenizer;

/// One piece of an assistant's answer, in order.
struct ChatDelta {
  enum class Kind { kReasoning, kContent, kToolCall, kToolArguments };
  Kind kind = Kind::kContent;
  std::string text;       ///< reasoning, content or JSON argument text; with kToolCall the function's name
  std::int32_t call = 0;  ///< index of the tool call, counts up from 0 (kToolCall, kToolArguments)
  std::string id;         ///< with kToolCall: the call's id where the format has the model write one
};

/// Takes an answer apart as it is generated. The same text gives the same result however it is cut into
/// pieces. Every piece that comes out is well-formed UTF-8 when those that go in are. One per answer; not
/// thread safe.
///
/// Malformed markup never throws and is never lost: a call that breaks before its name is known comes out as
/// content, markers included; one that breaks later stays open, and what follows the break is content. White
/// space between calls, and newlines around reasoning, belong to the markup.
class ChatParser {
 public:
  ChatParser() = default;
  ChatParser(const ChatParser&) = delete;
  ChatParser& operator=(const ChatParser&) = delete;
  virtual ~ChatParser() = default;

  /// `text`: what became certain with token `id` (special tokens' text included); appends to `out`. A token
  /// that ended the answer may be pushed with empty text.
  virtual void push(std::int32_t id, std::string_view text, std::vector<ChatDelta>& out) = 0;
  /// The answer has ended: gives out what was held back.
  virtual void finish(std::vector<ChatDelta>& out) = 0;
  /// Whether call number `call` came to its end: its arguments are then one JSON object. Otherwise the call
  /// is still being written, or the answer was cut or its markup broke, and its arguments are unfinished
  /// text.
  virtual bool call_closed(std::int32_t call) const = 0;
};

struct ChatParserOptions {
  std::string tool_parser;       ///< one of `tool_parser_names`; "" none
  std::string reasoning_parser;  ///< one of `reasoning_parser_names`; "" none
  OrderedJson tools;             ///< the request's tools or null (argument types for XML formats)
  bool parse_tools = true;       ///< false: tool_choice none; calls stay content
  std::string_view prompt;  ///< the rendered prompt: whether its end already opened or closed the reasoning
  /// May be null; else it outlives the parser. Special tokens that are no markup of the format are then left
  /// out, and harmony's markers count only where the model wrote them as tokens, not as spelled-out text.
  const Tokenizer* tokenizer = nullptr;
};

/// Throws `Error{kInvalidArgument}` naming the known parsers for an unknown name.
std::unique_ptr<ChatParser> make_chat_parser(const ChatParserOptions& options);

/// vLLM's names and aliases, sorted.
std::vector<std::string> tool_parser_names();
std::vector<std::string> reasoning_parser_names();

struct ChatParserDefaults {
  std::string tool_parser;
  std::string reasoning_parser;
};

/// The parsers that fit the `model_type` of a config.json and the source of its chat template (either may be
/// empty): gpt_oss gives openai and openai_gptoss, a ChatML template with <think> and <tool_call> qwen3 and
/// hermes. "" where nothing fits.
ChatParserDefaults default_parsers(std::string_view model_type, std::string_view chat_template_source);

}  // namespace sabrewing::text
