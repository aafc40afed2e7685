#include "text/chat/typescript.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

#include "core/error.h"
#include "text/chat/message.h"

namespace sabrewing::text::chat {
namespace {

constexpr std::size_t kMaxIndent = 256;

const OrderedJson* list_member(const OrderedJson& schema, const char* key) {
  const OrderedJson* found = member(schema, key);
  return found != nullptr && found->is_array() ? found : nullptr;
}

bool is_enum(const OrderedJson& schema) {
  const OrderedJson* values = list_member(schema, "enum");
  return values != nullptr && !values->empty();
}

std::string compact(const OrderedJson& value) {
  return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

/// "default: x", strings in quotes unless they are one of an enum's; "" without one.
std::string default_text(const OrderedJson& schema, bool bare_enum) {
  const OrderedJson* value = member(schema, "default");
  if (value == nullptr) return "";
  if (!value->is_string()) return "default: " + compact(*value);
  const auto& text = value->get_ref<const std::string&>();
  if (!is_enum(schema)) return fmt::format("default: \"{}\"", text);
  return "default: " + (bare_enum ? text : compact(*value));
}

class TypeWriter {
 public:
  explicit TypeWriter(const std::string& where) : where_(where) {}

  std::string type(const OrderedJson& schema, const std::string& indent) {
    SABREWING_CHECK(indent.size() <= kMaxIndent, kInvalidArgument, "{}: the schema is nested too deeply",
                    where_);
    if (const OrderedJson* variants = list_member(schema, "oneOf")) {
      std::string out;
      for (const OrderedJson& variant : *variants)
        out += "\n" + variant_line(variant, indent, string_member(variant, "description"), false);
      return out;
    }
    if (const OrderedJson* types = list_member(schema, "type")) {
      std::vector<std::string> names;
      for (const OrderedJson& one : *types)
        if (one.is_string()) names.push_back(one == "integer" ? "number" : one.get<std::string>());
      if (!names.empty()) return fmt::format("{}", fmt::join(names, " | "));
    }
    const std::string* type = string_member(schema, "type");
    if (type == nullptr) return "any";
    if (*type == "object") return object(schema, indent);
    if (*type == "string") return string(schema);
    if (*type == "number" || *type == "integer") return "number";
    if (*type == "boolean") return "boolean";
    if (*type != "array") return "any";
    const OrderedJson* items = member(schema, "items");
    return items != nullptr ? this->type(*items, indent) + "[]" : "Array<any>";
  }

 private:
  /// With "| null" where the schema says so.
  std::string nullable_type(const OrderedJson& schema, const std::string& indent) {
    std::string text = type(schema, indent);
    const OrderedJson* nullable = member(schema, "nullable");
    if (nullable != nullptr && nullable->is_boolean() && nullable->get<bool>() &&
        text.find("null") == std::string::npos)
      text += " | null";
    return text;
  }

  /// One alternative of a oneOf, with its comment.
  std::string variant_line(const OrderedJson& variant, const std::string& indent,
                           const std::string* description, bool bare_enum) {
    std::string line = indent + " | " + nullable_type(variant, indent + "   ");
    std::vector<std::string> comments;
    if (description != nullptr) comments.push_back(*description);
    if (std::string text = default_text(variant, bare_enum); !text.empty())
      comments.push_back(std::move(text));
    return comments.empty() ? line : fmt::format("{} // {}", line, fmt::join(comments, " "));
  }

  static std::string string(const OrderedJson& schema) {
    std::vector<std::string> values;
    if (const OrderedJson* list = list_member(schema, "enum")) {
      for (const OrderedJson& value : *list)
        if (value.is_string()) values.push_back(fmt::format("\"{}\"", value.get_ref<const std::string&>()));
    }
    return values.empty() ? "string" : fmt::format("{}", fmt::join(values, " | "));
  }

  std::string object(const OrderedJson& schema, const std::string& indent) {
    std::string out;
    if (const std::string* description = string_member(schema, "description"))
      out += indent + "// " + *description + "\n";
    out += "{\n";
    const OrderedJson* properties = member(schema, "properties");
    if (properties != nullptr && properties->is_object()) {
      const OrderedJson* required = list_member(schema, "required");
      for (const auto& [key, property] : properties->items()) {
        const bool needed =
            required != nullptr && std::find(required->begin(), required->end(), key) != required->end();
        add_property(out, key + (needed ? ":" : "?:"), property, indent);
      }
    }
    return out + indent + "}";
  }

  void add_property(std::string& out, const std::string& key, const OrderedJson& property,
                    const std::string& indent) {
    const OrderedJson* variants = list_member(property, "oneOf");
    const std::string* description = string_member(property, "description");
    if (const std::string* title = string_member(property, "title"))
      out += indent + "// " + *title + "\n" + indent + "//\n";
    if (member(property, "oneOf") == nullptr && description != nullptr)
      out += indent + "// " + *description + "\n";
    if (const OrderedJson* examples = list_member(property, "examples");
        examples != nullptr && !examples->empty()) {
      out += indent + "// Examples:\n";
      for (const OrderedJson& example : *examples)
        if (example.is_string())
          out += fmt::format("{}// - \"{}\"\n", indent, example.get_ref<const std::string&>());
    }
    if (variants != nullptr) return add_variants(out, key, property, *variants, indent);
    out += indent + key + " " + nullable_type(property, indent + "    ") + ",";
    if (member(property, "oneOf") == nullptr) {
      if (const std::string text = default_text(property, true); !text.empty()) out += " // " + text;
    }
    out += '\n';
  }

  void add_variants(std::string& out, const std::string& key, const OrderedJson& property,
                    const OrderedJson& variants, const std::string& indent) {
    const std::string* description = string_member(property, "description");
    const std::string* first = variants.empty() ? nullptr : string_member(variants.front(), "description");
    // A description that only repeats the first alternative's stands once, nowhere but above.
    const bool above = description != nullptr && (first == nullptr || *first != *description);
    if (above) out += indent + "// " + *description + "\n";
    if (const std::string text = default_text(property, true); !text.empty())
      out += indent + "// " + text + "\n";
    out += indent + key + "\n";
    for (std::size_t i = 0; i < variants.size(); ++i) {
      const std::string* own = string_member(variants[i], "description");
      const bool repeated = own != nullptr && description != nullptr && *own == *description;
      if ((i == 0 && above) || repeated) own = nullptr;
      out += variant_line(variants[i], indent, own, true) + "\n";
    }
    out += indent + ",\n";
  }

  const std::string& where_;
};

}  // namespace

std::string typescript_type(const OrderedJson& schema, const std::string& where) {
  return TypeWriter(where).type(schema, "");
}

}  // namespace sabrewing::text::chat
