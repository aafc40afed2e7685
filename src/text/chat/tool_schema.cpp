#include "text/chat/tool_schema.h"

#include <algorithm>
#include <optional>

#include "text/chat/json_value.h"
#include "text/chat/message.h"
#include "text/chat/tape.h"

namespace sabrewing::text::chat {
namespace {

constexpr int kMaxSchemaDepth = 8;

void add_type(std::string_view name, ValueTypes& types) {
  bool* const flag = name == "string"    ? &types.string
                     : name == "integer" ? &types.integer
                     : name == "number"  ? &types.number
                     : name == "boolean" ? &types.boolean
                     : name == "null"    ? &types.null
                     : name == "object"  ? &types.object
                     : name == "array"   ? &types.array
                                         : nullptr;
  if (flag != nullptr) *flag = types.known = true;
}

void add_value(const OrderedJson& value, ValueTypes& types) {
  add_type(value.is_string()           ? "string"
           : value.is_number_integer() ? "integer"
           : value.is_number()         ? "number"
           : value.is_boolean()        ? "boolean"
           : value.is_null()           ? "null"
           : value.is_object()         ? "object"
                                       : "array",
           types);
}

void add_schema(const OrderedJson& schema, ValueTypes& types, int depth) {
  if (depth > kMaxSchemaDepth) return;
  if (const OrderedJson* type = member(schema, "type")) {
    if (type->is_string()) add_type(type->get_ref<const std::string&>(), types);
    if (type->is_array()) {
      for (const OrderedJson& one : *type)
        if (one.is_string()) add_type(one.get_ref<const std::string&>(), types);
    }
    return;
  }
  if (const OrderedJson* values = member(schema, "enum"); values != nullptr && values->is_array())
    for (const OrderedJson& value : *values) add_value(value, types);
  if (const OrderedJson* value = member(schema, "const")) add_value(*value, types);
  for (const char* key : {"anyOf", "oneOf", "allOf"}) {
    const OrderedJson* list = member(schema, key);
    if (list == nullptr || !list->is_array()) continue;
    for (const OrderedJson& one : *list) add_schema(one, types, depth + 1);
  }
}

/// `text` as JSON, checked and with control characters in strings escaped; nothing when it is no JSON value.
std::optional<std::string> as_json(std::string_view text) {
  std::string out;
  JsonValue value;
  for (std::size_t at = 0; at < text.size(); ++at) {
    switch (value.put(text[at], out)) {
      case JsonValue::Step::kMore:
        break;
      case JsonValue::Step::kDone:
        return at + 1 == text.size() ? std::optional(out) : std::nullopt;
      default:
        return std::nullopt;
    }
  }
  // A number ends only with what follows it.
  std::string more;
  return value.put(' ', more) == JsonValue::Step::kDoneBefore ? std::optional(out) : std::nullopt;
}

bool is_word(std::string_view text, std::string_view lower) {
  return std::equal(text.begin(), text.end(), lower.begin(), lower.end(),
                    [](char a, char b) { return (a >= 'A' && a <= 'Z' ? a - 'A' + 'a' : a) == b; });
}

}  // namespace

ValueTypes parameter_types(const OrderedJson& tools, std::string_view name, std::string_view key) {
  ValueTypes types;
  if (!tools.is_array()) return types;
  for (const OrderedJson& tool : tools) {
    const OrderedJson* nested = member(tool, "function");
    const OrderedJson& function = nested != nullptr ? *nested : tool;
    const OrderedJson* own_name = member(function, "name");
    if (own_name == nullptr || !own_name->is_string() || own_name->get_ref<const std::string&>() != name)
      continue;
    const OrderedJson* schema = member(function, "parameters");
    if (schema == nullptr) schema = member(function, "input_schema");
    const OrderedJson* properties = schema != nullptr ? member(*schema, "properties") : nullptr;
    const OrderedJson* property = properties != nullptr ? member(*properties, key) : nullptr;
    if (property != nullptr) add_schema(*property, types, 0);
    return types;
  }
  return types;
}

std::string value_json(std::string_view text, const ValueTypes& types, bool unknown_is_json) {
  const std::string_view bare = trimmed(text);
  const bool any = !types.known && unknown_is_json;
  if (any || (types.known && !types.only_string())) {
    if (types.boolean && is_word(bare, "true")) return "true";
    if (types.boolean && is_word(bare, "false")) return "false";
    if (types.null && (is_word(bare, "null") || is_word(bare, "none"))) return "null";
    if (const std::optional<std::string> json = as_json(bare)) {
      const char first = json->front();
      const bool number = first == '-' || (first >= '0' && first <= '9');
      const bool whole = number && json->find_first_of(".eE") == std::string::npos;
      // A fraction is no integer, but it is nearer to what was meant than its text.
      const bool fits = (number && (types.number || (types.integer && (whole || !types.string)))) ||
                        (first == '{' && types.object) || (first == '[' && types.array);
      if (any || fits) return *json;
    }
  }
  std::string out = "\"";
  append_json_escaped(out, text);
  return out + '"';
}

}  // namespace sabrewing::text::chat
