#include "text/chat/message.h"

#include <fmt/format.h>

#include "core/error.h"

namespace sabrewing::text::chat {

const OrderedJson* member(const OrderedJson& object, std::string_view key) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(key);
  return found == object.end() ? nullptr : &*found;
}

const std::string* string_member(const OrderedJson& object, std::string_view key) {
  const OrderedJson* found = member(object, key);
  return found != nullptr && found->is_string() ? &found->get_ref<const std::string&>() : nullptr;
}

const std::string& message_role(const OrderedJson& message, const std::string& where) {
  const std::string* role = string_member(message, "role");
  SABREWING_CHECK(role != nullptr, kInvalidArgument, "{} is no object with a role", where);
  return *role;
}

std::string message_text(const OrderedJson& message, const std::string& where) {
  const OrderedJson* content = member(message, "content");
  if (content == nullptr || content->is_null()) return "";
  if (content->is_string()) return content->get<std::string>();
  SABREWING_CHECK(content->is_array(), kInvalidArgument, "{}: content is neither a string nor a list", where);
  std::string out;
  for (const OrderedJson& part : *content) {
    const std::string* type = string_member(part, "type");
    const std::string* text = string_member(part, "text");
    SABREWING_CHECK(type != nullptr, kInvalidArgument, "{}: a part of content has no type", where);
    const bool is_text = *type == "text" || *type == "input_text" || *type == "output_text";
    SABREWING_CHECK(is_text, kUnsupported, "{}: content of type \"{}\" is not supported; text is", where,
                    *type);
    SABREWING_CHECK(text != nullptr, kInvalidArgument, "{}: a part of content has no text", where);
    out += *text;
  }
  return out;
}

std::optional<std::string> message_reasoning(const OrderedJson& message, const std::string& where) {
  for (const char* key : {"reasoning_content", "thinking", "reasoning"}) {
    const OrderedJson* value = member(message, key);
    if (value == nullptr || value->is_null()) continue;
    SABREWING_CHECK(value->is_string(), kInvalidArgument, "{}: {} is not a string", where, key);
    if (value->get_ref<const std::string&>().empty()) continue;
    return value->get<std::string>();
  }
  return std::nullopt;
}

std::vector<MessageCall> message_calls(const OrderedJson& message, const std::string& where) {
  std::vector<MessageCall> calls;
  const OrderedJson* list = member(message, "tool_calls");
  if (list == nullptr || list->is_null()) return calls;
  SABREWING_CHECK(list->is_array(), kInvalidArgument, "{}: tool_calls is not a list", where);
  for (std::size_t i = 0; i < list->size(); ++i) {
    const std::string here = fmt::format("{}.tool_calls[{}]", where, i);
    const OrderedJson& function = function_of((*list)[i], here);
    const std::string* name = string_member(function, "name");
    SABREWING_CHECK(name != nullptr, kInvalidArgument, "{} has no name", here);
    MessageCall call;
    call.name = *name;
    if (const std::string* id = string_member((*list)[i], "id")) call.id = *id;
    const OrderedJson* arguments = member(function, "arguments");
    if (arguments == nullptr || arguments->is_null()) {
      call.arguments = "{}";
    } else {
      call.arguments = arguments->is_string()
                           ? arguments->get<std::string>()
                           : arguments->dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
    }
    calls.push_back(std::move(call));
  }
  return calls;
}

const OrderedJson& function_of(const OrderedJson& tool, const std::string& where) {
  SABREWING_CHECK(tool.is_object(), kInvalidArgument, "{} is not an object", where);
  const std::string* type = string_member(tool, "type");
  SABREWING_CHECK(type == nullptr || *type == "function", kUnsupported,
                  "{}: type \"{}\" is not supported; functions are", where, *type);
  const OrderedJson* nested = member(tool, "function");
  return nested != nullptr && nested->is_object() ? *nested : tool;
}

}  // namespace sabrewing::text::chat
