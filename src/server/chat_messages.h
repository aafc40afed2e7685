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

/// `tools`, `tool_choice` and `parallel_tool_calls`. Refuses "auto" where no parser would find the calls.
ToolChoice read_tools(Fields& fields, const Service& service);

/// A tool in OpenAI's form is checked: {"type": "function", "function": {"name", ...}}.
void check_tool(const OrderedJson& tool, const std::string& path);

/// Reads `chat_template_kwargs`, `reasoning_effort`, `documents`, `add_generation_prompt` and
/// `continue_final_message` and renders; the prompt's text. With `continue_final_message` it ends inside the
/// last message. `tools` is null for none.
std::string render_chat(Fields& fields, const Service& service, OrderedJson messages,
                        const OrderedJson& tools);

}  // namespace sabrewing::server
