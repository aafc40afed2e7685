#include "text/json_schema.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "core/json.h"

namespace sabrewing::text {
namespace {

constexpr std::size_t kMaxDepth = 64;
/// Longer repetitions are not unrolled by xgrammar, but counted.
constexpr std::int64_t kUnrolled = 128;

template <std::size_t N>
bool listed(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

/// Say nothing about an instance, or only name schemas.
constexpr std::array<std::string_view, 20> kSilent = {
    "title",    "default", "description", "examples", "deprecated",       "readOnly",       "writeOnly",
    "$comment", "$schema", "$id",         "$defs",    "$anchor",          "definitions",    "id",
    "example",  "strict",  "nullable",    "x-order",  "contentMediaType", "contentEncoding"};
/// Left out of the key under which xgrammar remembers a schema, wherever they stand.
constexpr std::array<std::string_view, 9> kNotInKey = {"title",     "default",    "description",
                                                       "examples",  "deprecated", "readOnly",
                                                       "writeOnly", "$comment",   "$schema"};
constexpr std::array<std::string_view, 12> kNever = {
    "not",          "if",          "then",     "else",        "dependentRequired", "dependentSchemas",
    "dependencies", "uniqueItems", "contains", "minContains", "maxContains",       "additionalItems"};
constexpr std::array<std::string_view, 9> kForObjects = {"properties",           "required",
                                                         "patternProperties",    "propertyNames",
                                                         "additionalProperties", "unevaluatedProperties",
                                                         "minProperties",        "maxProperties",
                                                         "dependencies"};
constexpr std::array<std::string_view, 5> kForArrays = {"items", "prefixItems", "unevaluatedItems",
                                                        "minItems", "maxItems"};
constexpr std::array<std::string_view, 4> kForStrings = {"minLength", "maxLength", "pattern", "format"};
constexpr std::array<std::string_view, 5> kForNumbers = {"minimum", "maximum", "exclusiveMinimum",
                                                         "exclusiveMaximum", "multipleOf"};
constexpr std::array<std::string_view, 14> kFormats = {
    "email",    "date", "time", "date-time",     "duration",     "ipv4",         "ipv6",
    "hostname", "uuid", "uri",  "uri-reference", "uri-template", "json-pointer", "relative-json-pointer"};

bool is_type(const OrderedJson& value, std::string_view type) {
  if (type == "null") return value.is_null();
  if (type == "boolean") return value.is_boolean();
  if (type == "string") return value.is_string();
  if (type == "array") return value.is_array();
  if (type == "object") return value.is_object();
  if (type == "number") return value.is_number();
  if (type == "integer")
    return value.is_number_integer() ||
           (value.is_number_float() && std::floor(value.get<double>()) == value.get<double>());
  return false;
}

bool is_one_of_types(const OrderedJson& value, const OrderedJson& types) {
  if (types.is_string()) return is_type(value, types.get_ref<const std::string&>());
  if (!types.is_array()) return true;  // xgrammar reports it
  return std::any_of(types.begin(), types.end(), [&](const OrderedJson& type) {
    return type.is_string() && is_type(value, type.get_ref<const std::string&>());
  });
}

bool has_type(const OrderedJson& schema, std::string_view type) {
  const auto found = schema.find("type");
  if (found == schema.end()) return false;
  if (found->is_string()) return found->get_ref<const std::string&>() == type;
  return found->is_array() && std::find(found->begin(), found->end(), type) != found->end();
}

/// Whether a name that the key leaves out stands for data somewhere in `value`.
bool holds_unkeyed_name(const OrderedJson& value) {
  if (value.is_object())
    return std::any_of(value.items().begin(), value.items().end(), [](const auto& item) {
      return listed(kNotInKey, item.key()) || holds_unkeyed_name(item.value());
    });
  return value.is_array() && std::any_of(value.begin(), value.end(), holds_unkeyed_name);
}

/// xgrammar leaves characters out that a JSON string must escape, and writes them raw when nothing else is
/// left or the pattern is not plain ASCII. True when a pattern may name one; what a negated class names is
/// left out anyway.
bool asks_for_escapes(std::string_view pattern) {
  bool negated = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c < ' ' || c > '~') return true;
    if (c == '[') negated = pattern.substr(i + 1).starts_with('^');
    if (c == ']') negated = false;
    const std::string_view rest = pattern.substr(i + 1);
    if (c != '\\') {
      if (c == '"' && !negated) return true;
      continue;
    }
    ++i;
    if (negated || rest.empty()) continue;
    constexpr std::string_view kEscapes = "\"\\nrtfvb0c";
    const bool control = rest.starts_with("x0") || rest.starts_with("x1") || rest.starts_with("u000") ||
                         rest.starts_with("u001") || rest.starts_with("u{");
    const bool quote = rest.starts_with("x22") || rest.starts_with("x5c") || rest.starts_with("x5C") ||
                       rest.starts_with("u0022") || rest.starts_with("u005c") || rest.starts_with("u005C");
    if (control || quote || kEscapes.find(rest.front()) != std::string_view::npos) return true;
  }
  return false;
}

class Preparer {
 public:
  Preparer(const GrammarLimits& limits, bool in_tag) : limits_(limits), in_tag_(in_tag) {}

  /// `of_name`: of the names of an object's properties, which are strings.
  void schema(OrderedJson& s, const std::string& path, bool of_name = false) {
    count(path);
    if (!s.is_object()) return;  // true, false, or an error that xgrammar reports
    mark(s);
    for (const auto& item : s.items())
      if (listed(kNever, item.key()) && !harmless(item.key(), item.value()))
        note(path, "\"" + item.key() + "\" is not supported");
    branch(s, path, of_name);
    descend(s, path);
  }

  std::vector<std::string> unenforced;
  RepetitionCost cost;

 private:
  void count(const std::string& path) {
    SABREWING_CHECK(++nodes_ <= limits_.max_schema_nodes, kInvalidArgument,
                    "[grammar] the JSON schema is too large at {}: more than {} schemas and enum values",
                    path, limits_.max_schema_nodes);
  }

  void note(const std::string& path, std::string_view what) {
    constexpr std::size_t kMost = 20;
    if (unenforced.size() < kMost) unenforced.push_back(path + ": " + std::string(what));
  }

  static bool harmless(std::string_view name, const OrderedJson& value) {
    return name == "uniqueItems" && value.is_boolean() && !value.get<bool>();
  }

  /// Two schemas whose keys are equal though their data differ would share a rule.
  void mark(OrderedJson& s) {
    bool needed = false;
    for (const char* name :
         {"properties", "patternProperties", "const", "enum", "anyOf", "oneOf", "allOf", "items",
          "prefixItems", "additionalProperties", "unevaluatedProperties", "unevaluatedItems"})
      if (const auto found = s.find(name); found != s.end()) needed = needed || holds_unkeyed_name(*found);
    if (needed) s["$anchor"] = fmt::format("sabrewing-{}", ++marks_);
  }

  /// xgrammar follows the first of these and ignores what stands beside it.
  void branch(OrderedJson& s, const std::string& path, bool of_name) {
    for (const char* first : {"$ref", "const", "enum", "anyOf", "oneOf", "allOf"}) {
      if (!s.contains(first)) continue;
      const std::string_view name = first;
      for (const auto& item : s.items()) {
        const std::string& other = item.key();
        if (other == name || listed(kSilent, other) || listed(kNever, other) || !is_constraint(other))
          continue;
        if (other == "type" && values_have_type(s, name, item.value())) continue;
        note(path, "\"" + other + "\" beside \"" + std::string(name) + "\" is not supported");
      }
      return;
    }
    if (s.contains("type") || of_name) return typed(s, path, of_name || has_type(s, "string"));
    const bool object =
        s.contains("properties") || s.contains("additionalProperties") || s.contains("unevaluatedProperties");
    const bool array = s.contains("items") || s.contains("prefixItems") || s.contains("unevaluatedItems");
    for (const auto& item : s.items()) {
      const bool followed =
          (object && listed(kForObjects, item.key())) || (!object && array && listed(kForArrays, item.key()));
      if (!followed && is_constraint(item.key()) && !listed(kNever, item.key()))
        note(path, "\"" + item.key() + "\" without \"type\" is not supported");
    }
  }

  static bool is_constraint(std::string_view name) {
    return name == "type" || name == "$ref" || name == "const" || name == "enum" || name == "anyOf" ||
           name == "oneOf" || name == "allOf" || listed(kForObjects, name) || listed(kForArrays, name) ||
           listed(kForStrings, name) || listed(kForNumbers, name);
  }

  bool values_have_type(const OrderedJson& s, std::string_view name, const OrderedJson& types) {
    if (name == "const") return is_one_of_types(s.at("const"), types);
    if (name != "enum" || !s.at("enum").is_array()) return false;
    const OrderedJson& values = s.at("enum");
    return std::all_of(values.begin(), values.end(),
                       [&](const OrderedJson& value) { return is_one_of_types(value, types); });
  }

  void typed(OrderedJson& s, const std::string& path, bool string) {
    if (has_type(s, "object")) open_names(s, path);
    if (!string) return;
    if (const auto pattern = s.find("pattern"); pattern != s.end() && pattern->is_string())
      check_pattern(pattern->get_ref<const std::string&>(), path);
    if (const auto format = s.find("format"); format != s.end() && format->is_string()) {
      if (!listed(kFormats, format->get_ref<const std::string&>()))
        note(path, "the format \"" + format->get_ref<const std::string&>() + "\" is not supported");
      else if (s.contains("pattern"))
        note(path, "\"pattern\" beside \"format\" is not supported");
    }
    lengths(s, path);
  }

  /// Whether a name is repeated is not checked, so names that are not listed do not count for sure.
  void open_names(const OrderedJson& s, const std::string& path) {
    const auto least = s.find("minProperties");
    if (least == s.end() || !least->is_number() || least->get<double>() < 2) return;
    const auto open = [&](const char* name) { return s.contains(name) && s.at(name) != false; };
    if (open("additionalProperties") || open("unevaluatedProperties") || open("patternProperties") ||
        open("propertyNames"))
      note(path, "\"minProperties\" with names that are not listed in \"properties\" is not supported");
  }

  /// Longer repetitions than this lose the escapes of JSON in xgrammar.
  void check_pattern(const std::string& pattern, const std::string& path) {
    if (asks_for_escapes(pattern))
      note(
          path,
          "a \"pattern\" with characters that JSON escapes, or beyond ASCII unless as \\u, is not supported");
    GrammarLimits limits = limits_;
    limits.max_repetition = std::min(limits.max_repetition, kUnrolled);
    cost.add(check_regex(pattern, limits));
  }

  void lengths(OrderedJson& s, const std::string& path) {
    std::int64_t longest = 0;
    for (const char* name : {"minLength", "maxLength"})
      if (const auto found = s.find(name); found != s.end()) {
        SABREWING_CHECK(is_type(*found, "integer") && found->get<double>() >= 0, kInvalidArgument,
                        "[grammar] {}: \"{}\" must be a whole number, not negative", path, name);
        SABREWING_CHECK(found->get<double>() <= static_cast<double>(limits_.max_string_length),
                        kInvalidArgument, "[grammar] {}: \"{}\" may be at most {}", path, name,
                        limits_.max_string_length);
        longest = std::max(longest, found->get<std::int64_t>());
      }
    if (longest == 0) return;
    cost.add({longest, std::min(longest, kUnrolled)});
    if (!in_tag_) return;
    // In a tag raw control characters, which xgrammar's own rule for lengths admits, cannot be masked.
    if (s.contains("pattern") ||
        (s.contains("format") && listed(kFormats, s.at("format").get<std::string>())))
      return;
    if (longest > kUnrolled) {
      note(path, fmt::format("string lengths above {} in a structural tag are not supported", kUnrolled));
    } else {
      const std::int64_t least = s.contains("minLength") ? s.at("minLength").get<std::int64_t>() : 0;
      s["pattern"] =
          fmt::format("^[\\s\\S]{{{},{}}}$", least,
                      s.contains("maxLength") ? std::to_string(s.at("maxLength").get<std::int64_t>()) : "");
    }
    s.erase("minLength");
    s.erase("maxLength");
  }

  void descend(OrderedJson& s, const std::string& path) {
    for (const char* map : {"properties", "patternProperties", "$defs", "definitions"}) {
      const auto found = s.find(map);
      if (found == s.end() || !found->is_object()) continue;
      for (auto& item : found->items()) {
        if (std::string_view(map) == "patternProperties") check_pattern(item.key(), path);
        schema(item.value(), path + "/" + map + "/" + item.key());
      }
    }
    for (const char* one :
         {"additionalProperties", "unevaluatedProperties", "propertyNames", "items", "unevaluatedItems"})
      if (const auto found = s.find(one); found != s.end())
        schema(*found, path + "/" + one, std::string_view(one) == "propertyNames");
    for (const char* list : {"prefixItems", "anyOf", "oneOf", "allOf"}) {
      const auto found = s.find(list);
      if (found == s.end() || !found->is_array()) continue;
      for (std::size_t i = 0; i < found->size(); ++i)
        schema((*found)[i], fmt::format("{}/{}/{}", path, list, i));
    }
    if (const auto found = s.find("enum"); found != s.end() && found->is_array())
      for (std::size_t i = 0; i < found->size(); ++i) count(path + "/enum");
  }

  const GrammarLimits& limits_;
  bool in_tag_;
  std::size_t nodes_ = 0;
  int marks_ = 0;
};

/// Malformed input of a request, not of a file.
OrderedJson parse(std::string_view text, std::string_view what, const GrammarLimits& limits) {
  SABREWING_CHECK(text.size() <= limits.max_text_bytes, kInvalidArgument,
                  "[grammar] {}: {} bytes, at most {}", what, text.size(), limits.max_text_bytes);
  try {
    return parse_ordered_json(text, what, kMaxDepth);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kCorrupt) throw;
    throw Error(ErrorCode::kInvalidArgument, error.what());
  }
}

class TagPreparer {
 public:
  TagPreparer(Preparer& schemas, const Tokenizer& tokenizer, const GrammarLimits& limits)
      : schemas_(schemas), tokenizer_(tokenizer), limits_(limits) {}

  void visit(OrderedJson& value) {
    if (value.is_array()) {
      for (OrderedJson& item : value) visit(item);
    } else if (value.is_object()) {
      const auto type = value.find("type");
      const std::string name = type != value.end() && type->is_string() ? type->get<std::string>() : "";
      for (auto& item : value.items()) {
        const std::string& key = item.key();
        if (key == "json_schema" || key == "schema") {
          schemas_.schema(item.value(), "#");
        } else if (key == "token") {
          token(item.value());
        } else if (key == "exclude_tokens" || key == "trigger_tokens") {
          for (OrderedJson& one : item.value()) token(one);
        } else if (name == "regex" && key == "pattern" && item.value().is_string()) {
          schemas_.cost.add(check_regex(item.value().get_ref<const std::string&>(), limits_));
        } else if (name == "grammar" && key == "grammar" && item.value().is_string()) {
          schemas_.cost.add(check_ebnf(item.value().get_ref<const std::string&>(), limits_));
        } else {
          if (key == "min" || key == "max") repetition(item.value());
          visit(item.value());
        }
      }
      if (name == "json_schema" && !value.contains("max_whitespace_cnt"))
        value["max_whitespace_cnt"] = kMostWhitespace;
    }
  }

 private:
  void token(OrderedJson& value) {
    if (!value.is_string()) return;
    const auto id = tokenizer_.token_id(value.get_ref<const std::string&>());
    SABREWING_CHECK(id.has_value(), kInvalidArgument,
                    "[grammar] the structural tag names the token \"{}\", which the model lacks",
                    value.get_ref<const std::string&>());
    value = *id;
  }

  void repetition(const OrderedJson& value) {
    if (!value.is_number()) return;
    SABREWING_CHECK(value.get<double>() <= static_cast<double>(limits_.max_repetition), kInvalidArgument,
                    "[grammar] the structural tag repeats more than {} times", limits_.max_repetition);
    const auto times = static_cast<std::int64_t>(value.get<double>());
    schemas_.cost.add({times, std::min(times, kUnrolled)});
  }

  Preparer& schemas_;
  const Tokenizer& tokenizer_;
  const GrammarLimits& limits_;
};

/// Counts of {n}, {n,} and {n,m}: nested ones multiply. Literals and classes are skipped.
class RepetitionScan {
 public:
  RepetitionScan(std::string_view text, std::string_view what, const GrammarLimits& limits)
      : text_(text), what_(what), limits_(limits) {}

  RepetitionCost run(bool ebnf) {
    RepetitionCost cost;
    // Cost of the innermost finished group, so that a count behind ')' multiplies what is inside.
    std::vector<std::int64_t> open = {1};
    std::int64_t last = 1;
    for (std::size_t i = 0; i < text_.size(); ++i) {
      const char c = text_[i];
      if (c == '\\') {
        ++i;
        last = 1;
      } else if (ebnf && c == '"') {
        for (++i; i < text_.size() && text_[i] != '"'; ++i)
          if (text_[i] == '\\') ++i;
        last = 1;
      } else if (ebnf && c == '#') {
        i = std::min(text_.find('\n', i), text_.size());
      } else if (c == '[') {
        for (++i; i < text_.size() && text_[i] != ']'; ++i)
          if (text_[i] == '\\') ++i;
        last = 1;
      } else if (c == '(') {
        open.push_back(1);
        SABREWING_CHECK(open.size() <= kMaxDepth, kInvalidArgument,
                        "[grammar] {}: groups nested deeper than {}", what_, kMaxDepth - 1);
        last = 1;
      } else if (c == ')') {
        last = open.back();
        if (open.size() > 1) open.pop_back();
      } else if (c == '{') {
        const std::int64_t times = count(i + 1);
        last *= times;
        cost.add({times, std::min(last, std::max(kUnrolled, last / times * kUnrolled))});
        SABREWING_CHECK(last <= limits_.max_repetition, kInvalidArgument,
                        "[grammar] {}: repeats {} times in all at byte {}, at most {}", what_, last, i,
                        limits_.max_repetition);
      } else if (c != '}' && c != ',' && c != ' ' && (c < '0' || c > '9')) {
        last = c == '*' || c == '+' || c == '?' ? last : 1;
      }
      open.back() = std::max(open.back(), last);
    }
    return cost;
  }

 private:
  std::int64_t count(std::size_t at) const {
    std::int64_t largest = 1;
    std::int64_t value = 0;
    for (; at < text_.size() && text_[at] != '}'; ++at) {
      if (text_[at] >= '0' && text_[at] <= '9')
        value = std::min<std::int64_t>(value * 10 + (text_[at] - '0'), std::int64_t{1} << 31);
      else
        value = 0;
      largest = std::max(largest, value);
    }
    return largest;
  }

  std::string_view text_;
  std::string_view what_;
  const GrammarLimits& limits_;
};

}  // namespace

PreparedSchema prepare_json_schema(std::string_view text, const GrammarLimits& limits) {
  OrderedJson schema = parse(text, "the JSON schema", limits);
  Preparer preparer(limits, false);
  preparer.schema(schema, "#");
  return {schema.dump(), preparer.cost, std::move(preparer.unenforced)};
}

PreparedSchema prepare_structural_tag(std::string_view text, const Tokenizer& tokenizer,
                                      const GrammarLimits& limits) {
  OrderedJson tag = parse(text, "the structural tag", limits);
  Preparer preparer(limits, true);
  TagPreparer(preparer, tokenizer, limits).visit(tag);
  return {tag.dump(), preparer.cost, std::move(preparer.unenforced)};
}

RepetitionCost check_regex(std::string_view regex, const GrammarLimits& limits) {
  SABREWING_CHECK(regex.size() <= limits.max_regex_bytes, kInvalidArgument,
                  "[grammar] the regular expression has {} bytes, at most {}", regex.size(),
                  limits.max_regex_bytes);
  for (std::size_t i = 0; i < regex.size(); ++i) {
    const auto byte = static_cast<unsigned char>(regex[i]);
    SABREWING_CHECK(byte != 0, kInvalidArgument,
                    "[grammar] the regular expression contains a null character");
    // xgrammar looks these characters up in tables for ASCII.
    const std::string_view before = regex.substr(0, i);
    SABREWING_CHECK(
        byte < 0x80 || !(before.ends_with("\\c") || before.ends_with("{") || before.ends_with("(?<")),
        kInvalidArgument, "[grammar] the regular expression is malformed at byte {}", i);
  }
  return RepetitionScan(regex, "the regular expression", limits).run(false);
}

RepetitionCost check_ebnf(std::string_view grammar, const GrammarLimits& limits) {
  SABREWING_CHECK(grammar.size() <= limits.max_text_bytes, kInvalidArgument,
                  "[grammar] the grammar has {} bytes, at most {}", grammar.size(), limits.max_text_bytes);
  SABREWING_CHECK(grammar.find('\0') == std::string_view::npos, kInvalidArgument,
                  "[grammar] the grammar contains a null character");
  return RepetitionScan(grammar, "the grammar", limits).run(true);
}

}  // namespace sabrewing::text
