#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace sabrewing::text::chat {

// Reading OpenAI's message objects. `where` begins error messages: "[harmony] messages[3]".

/// The member, or null when `object` is no object or lacks it.
const OrderedJson* member(const OrderedJson& object, std::string_view key);
/// The same where it is a string.
const std::string* string_member(const OrderedJson& object, std::string_view key);

const std::string& message_role(const OrderedJson& message, const std::string& where);

/// Its content: a string, or a list of text parts one after the other; "" when absent or null. Parts that are
/// no text are `Error{kUnsupported}`.
std::string message_text(const OrderedJson& message, const std::string& where);

/// `reasoning_content`, `thinking` or `reasoning`.
std::optional<std::string> message_reasoning(const OrderedJson& message, const std::string& where);

struct MessageCall {
  std::string id;
  std::string name;
  std::string arguments;  ///< JSON text
};
/// Its `tool_calls`; arguments that are an object are written as JSON.
std::vector<MessageCall> message_calls(const OrderedJson& message, const std::string& where);

/// The function of an entry of `tools`, nested or flat. Other tools are `Error{kUnsupported}`.
const OrderedJson& function_of(const OrderedJson& tool, const std::string& where);

}  // namespace sabrewing::text::chat
