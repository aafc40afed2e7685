#include <algorithm>
#include <cmath>

#include "text/jinja_builtins.h"
#include "text/jinja_ops.h"
#include "text/utf8.h"

namespace sabrewing::text::jinja {
namespace {

class JsonWriter {
 public:
  JsonWriter(Runtime& runtime, bool ensure_ascii, const Value& indent, const Value& separators,
             bool sort_keys)
      : runtime_(runtime), ensure_ascii_(ensure_ascii), sort_keys_(sort_keys) {
    indented_ = !indent.is_missing() && !indent.is_none();
    if (indented_) {
      if (indent.is_string()) {
        indent_ = indent.text();
      } else {
        const std::int64_t width = integer_argument(runtime, indent, "indent");
        if (width > kMaxIndent) runtime.fail("an indent of more than {}", kMaxIndent);
        indent_.assign(static_cast<std::size_t>(std::max<std::int64_t>(width, 0)), ' ');
      }
      item_separator_.assign(1, ',');
    }
    if (separators.is_missing() || separators.is_none()) return;
    const std::vector<Value> parts = to_vector(runtime, separators);
    if (parts.size() != 2) runtime.fail_with("separators has to hold two strings");
    item_separator_ = string_argument(runtime, parts[0], "a separator");
    key_separator_ = string_argument(runtime, parts[1], "a separator");
  }

  void value(const Value& value) {
    const DepthGuard guard(runtime_);
    runtime_.step();
    switch (value.kind()) {
      case Kind::kNone:
        add("null");
        break;
      case Kind::kBool:
        add(value.integral() != 0 ? "true" : "false");
        break;
      case Kind::kInt:
        add(integer_text(value.integral()));
        break;
      case Kind::kFloat:
        add(number(value.number()));
        break;
      case Kind::kString:
        string(value.text());
        break;
      case Kind::kList:
      case Kind::kTuple:
        array(value.items());
        break;
      case Kind::kDict:
        object(value.as<Dict>());
        break;
      default:
        runtime_.fail("Object of type {} is not JSON serializable", type_name(value));
    }
  }

  std::string take() { return std::move(out_); }

 private:
  static constexpr std::int64_t kMaxIndent = 1024;

  static std::string number(double value) {
    if (std::isnan(value)) return "NaN";
    if (std::isinf(value)) return value < 0 ? "-Infinity" : "Infinity";
    return float_repr(value);
  }

  void add(std::string_view text) {
    runtime_.step(text.size() / 64);
    out_ += text;
    if (out_.size() > runtime_.limits().memory_bytes) {
      runtime_.fail("more than {} bytes of memory", runtime_.limits().memory_bytes);
    }
  }

  void string(std::string_view text) {
    out_ += '"';
    for (std::size_t i = 0; i < text.size();) {
      const Utf8Char c = next_char(text, i);
      const auto code = static_cast<std::uint32_t>(c.code_point);
      constexpr std::string_view kShort = "\"\\\b\f\n\r\t";
      constexpr std::string_view kShortNames = "\"\\bfnrt";
      const std::size_t at = code < 0x80 ? kShort.find(static_cast<char>(code)) : std::string_view::npos;
      if (at != std::string_view::npos) {
        out_ += '\\';
        out_ += kShortNames[at];
      } else if (code < 0x20 || (ensure_ascii_ && code >= 0x7F && code < 0x10000)) {
        out_ += fmt::format("\\u{:04x}", code);
      } else if (ensure_ascii_ && code >= 0x10000) {
        out_ += fmt::format("\\u{:04x}\\u{:04x}", 0xD800 + ((code - 0x10000) >> 10), 0xDC00 + (code & 0x3FF));
      } else {
        out_ += text.substr(i, c.size);
      }
      i += c.size;
    }
    out_ += '"';
    runtime_.step(text.size() / 16);
    add({});
  }

  void new_line(std::size_t levels) {
    if (!indented_) return;
    out_ += '\n';
    for (std::size_t i = 0; i < levels; ++i) add(indent_);
  }

  void array(const std::vector<Value>& items) {
    if (items.empty()) {
      add("[]");
      return;
    }
    add("[");
    ++level_;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i != 0) add(item_separator_);
      new_line(level_);
      value(items[i]);
    }
    new_line(--level_);
    add("]");
  }

  std::string key_text(const Value& key) {
    switch (key.kind()) {
      case Kind::kString:
        return key.text();
      case Kind::kNone:
        return "null";
      case Kind::kBool:
        return key.integral() != 0 ? "true" : "false";
      case Kind::kInt:
        return integer_text(key.integral());
      case Kind::kFloat:
        return number(key.number());
      default:
        runtime_.fail("keys must be str, int, float, bool or None, not {}", type_name(key));
    }
  }

  void object(const Dict& dict) {
    if (dict.size() == 0) {
      add("{}");
      return;
    }
    std::vector<const std::pair<Value, Value>*> entries;
    for (const auto& entry : dict.entries()) entries.push_back(&entry);
    if (sort_keys_) {
      std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
        return compare(runtime_, a->first, b->first).value_or(0) < 0;
      });
    }
    add("{");
    ++level_;
    for (std::size_t i = 0; i < entries.size(); ++i) {
      if (i != 0) add(item_separator_);
      new_line(level_);
      string(key_text(entries[i]->first));
      add(key_separator_);
      value(entries[i]->second);
    }
    new_line(--level_);
    add("}");
  }

  Runtime& runtime_;
  bool ensure_ascii_;
  bool sort_keys_;
  bool indented_ = false;
  std::string indent_;
  std::string item_separator_ = ", ";
  std::string key_separator_ = ": ";
  std::size_t level_ = 0;
  std::string out_;
};

}  // namespace

std::string to_json(Runtime& runtime, const Value& value, bool ensure_ascii, const Value& indent,
                    const Value& separators, bool sort_keys) {
  JsonWriter writer(runtime, ensure_ascii, indent, separators, sort_keys);
  writer.value(value);
  return writer.take();
}

}  // namespace sabrewing::text::jinja
