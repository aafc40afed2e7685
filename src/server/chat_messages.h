#pragma once

#include "server/constraints.h"
#include "server/fields.h"
#include "server/service.h"

namespace sabrewing::server {

/// `messages` as chat templates expect them: text parts joined, arguments of tool calls as objects. Refuses
/// image, audio and other parts by name.
OrderedJson read_messages(Fields& fields);

/// One message's content: a string, null, or a list of text parts that is joined with newlines. `path` names
/// it.
OrderedJson read_content(const OrderedJson& content, const std::string& path);

/// Bytes of a function's name: OpenAI's limit and Anthropic's.
inline constexpr std::size_t kToolNameBytes = 64;
inline constexpr std::size_t kLongToolNameBytes = 128;

/// `tools`, `tool_choice` and `parallel_tool_calls`. Refuses "auto" where no parser would find the calls.
ToolChoice read_tools(Fields& fields, const Service& service, std::size_t longest_name = kToolNameBytes);

/// Refuses a name with other characters than letters, digits, '_' and '-'. `path` names it.
void check_tool_name(std::string_view name, const std::string& path, std::size_t longest = kToolNameBytes);
/// Tools in OpenAI's form are checked: {"type": "function", "function": {"name", ...}}, every name once.
void check_tools(const OrderedJson& tools, std::size_t longest_name = kToolNameBytes);

/// Reads `chat_template_kwargs`, `reasoning_effort`, `documents`, `add_generation_prompt` and
/// `continue_final_message`, renders and encodes. With `continue_final_message` the prompt ends inside the
/// last message. `tools` is null for none; `add_special_tokens`: with what the tokenizer puts around a text.
engine::ChatPrompt render_chat(Fields& fields, const Service& service, OrderedJson messages,
                               const OrderedJson& tools, bool add_special_tokens);

}  // namespace sabrewing::server
