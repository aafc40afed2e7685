// The methods of Python's str, list, tuple, dict, int, float and range.

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>

#include "text/jinja_builtins.h"
#include "text/jinja_ops.h"
#include "text/jinja_unicode.h"
#include "text/utf8.h"

namespace sabrewing::text::jinja {
namespace {

using Method = Value (*)(Runtime& runtime, const Value& self, const Arguments& arguments);

struct MethodEntry {
  std::string_view name;
  Method method;
};

class BoundMethod final : public Instance {
 public:
  BoundMethod(std::string_view name, Method method, Value self)
      : name_(name), method_(method), self_(std::move(self)) {}
  std::string type_name() const override { return "builtin_function_or_method"; }
  std::string repr(Runtime&) const override {
    return fmt::format("<built-in method {} of {} object>", name_, jinja::type_name(self_));
  }
  bool callable() const override { return true; }
  Value call(Runtime& runtime, const Arguments& arguments) override {
    return method_(runtime, self_, arguments);
  }

 private:
  std::string_view name_;
  Method method_;
  Value self_;
};

void no_arguments(Runtime& runtime, std::string_view name, const Arguments& arguments) {
  bind_arguments(runtime, name, arguments, {}, 0);
}

/// Text with the markup flag of `self`.
Value like(Runtime& runtime, const Value& self, std::string text) {
  return runtime.string(std::move(text), self.is_markup());
}

template <std::string (*Map)(std::string_view)>
Value map_text(Runtime& runtime, const Value& self, const Arguments& arguments) {
  no_arguments(runtime, "method", arguments);
  runtime.reserve_product(self.text().size(), 3);
  return like(runtime, self, Map(self.text()));
}

template <StripSide Side>
Value strip(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "strip", arguments, {"/chars"}, 0);
  const bool spaces = bound[0].is_missing() || bound[0].is_none();
  const std::string& set =
      spaces ? self.text() : string_argument(runtime, bound[0], "the argument of strip()");
  runtime.step(self.text().size() / 16 * (spaces ? 1 : set.size() / 16 + 1));
  return like(runtime, self,
              std::string(spaces ? strip_space(self.text(), Side) : strip_chars(self.text(), set, Side)));
}

/// True when there is a character and each satisfies the predicate.
template <bool (*Predicate)(char32_t)>
Value all_chars(Runtime& runtime, const Value& self, const Arguments& arguments) {
  no_arguments(runtime, "method", arguments);
  const std::string& text = self.text();
  runtime.step(text.size() / 16);
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    if (!Predicate(c.code_point)) return Value::boolean(false);
    i += c.size;
  }
  return Value::boolean(!text.empty());
}

Value is_ascii(Runtime& runtime, const Value& self, const Arguments& arguments) {
  no_arguments(runtime, "isascii", arguments);
  return Value::boolean(self.as<String>().length == self.text().size());
}

Value all_printable(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return Value::boolean(self.text().empty() ||
                        all_chars<is_printable>(runtime, self, arguments).integral() != 0);
}

/// isupper and islower: a cased character, and none of the other cases.
template <bool (*Wanted)(char32_t), bool (*Other)(char32_t)>
Value all_cased(Runtime& runtime, const Value& self, const Arguments& arguments) {
  no_arguments(runtime, "method", arguments);
  const std::string& text = self.text();
  runtime.step(text.size() / 16);
  bool seen = false;
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    if (Other(c.code_point) || is_title(c.code_point)) return Value::boolean(false);
    seen = seen || Wanted(c.code_point);
    i += c.size;
  }
  return Value::boolean(seen);
}

Value is_title_text(Runtime& runtime, const Value& self, const Arguments& arguments) {
  no_arguments(runtime, "istitle", arguments);
  const std::string& text = self.text();
  runtime.step(text.size() / 16);
  bool seen = false;
  bool after_cased = false;
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    i += c.size;
    const bool capital = is_upper(c.code_point) || is_title(c.code_point);
    if (capital == after_cased && (capital || is_lower(c.code_point))) return Value::boolean(false);
    after_cased = capital || is_lower(c.code_point);
    seen = seen || after_cased;
  }
  return Value::boolean(seen);
}

Value is_identifier(Runtime& runtime, const Value& self, const Arguments& arguments) {
  no_arguments(runtime, "isidentifier", arguments);
  const std::string& text = self.text();
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    if (i == 0 ? !is_identifier_start(c.code_point) : !is_identifier_part(c.code_point))
      return Value::boolean(false);
    i += c.size;
  }
  return Value::boolean(!text.empty());
}

/// The part of the text between two optional code point positions, and where it starts.
struct Window {
  std::string_view text;
  std::size_t byte = 0;
  bool valid = true;  ///< false where start lies past the end
};

Window window(Runtime& runtime, const Value& self, const Value& start, const Value& stop) {
  const auto& string = self.as<String>();
  const auto length = static_cast<Integer>(string.length);
  const auto bound = [&](const Value& value, Integer otherwise) -> Integer {
    if (value.is_missing() || value.is_none()) return otherwise;
    Integer at = integer_argument(runtime, value, "a position in a string");
    if (at < 0) at = std::max<Integer>(at + length, 0);
    return at;
  };
  const Integer first = bound(start, 0);
  const Integer last = std::min(bound(stop, length), length);
  Window out;
  if (first > last) {
    out.valid = false;
    return out;
  }
  const auto from = static_cast<std::size_t>(first);
  const auto to = static_cast<std::size_t>(last);
  const bool ascii = string.length == string.text.size();
  out.byte = ascii ? from : byte_of_code_point(string.text, from);
  const std::size_t end = ascii ? to : byte_of_code_point(string.text, to);
  out.text = std::string_view(string.text).substr(out.byte, end - out.byte);
  return out;
}

/// The code point position of the found text, or -1.
template <bool FromRight>
Integer locate(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "find", arguments, {"/sub", "/start", "/end"}, 1);
  const std::string& needle = string_argument(runtime, bound[0], "the argument of find()");
  const Window in = window(runtime, self, bound[1], bound[2]);
  runtime.step(in.text.size() / 16);
  if (!in.valid) return -1;
  const std::size_t at = FromRight ? in.text.rfind(needle) : in.text.find(needle);
  if (at == std::string_view::npos) return -1;
  return static_cast<Integer>(count_code_points(std::string_view(self.text()).substr(0, in.byte + at)));
}

template <bool FromRight>
Value find(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return Value::integer(locate<FromRight>(runtime, self, arguments));
}

template <bool FromRight>
Value index_of_text(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Integer at = locate<FromRight>(runtime, self, arguments);
  if (at < 0) runtime.fail_with("substring not found");
  return Value::integer(at);
}

std::size_t count_matches(std::string_view text, std::string_view needle) {
  if (needle.empty()) return count_code_points(text) + 1;
  std::size_t count = 0;
  for (std::size_t at = text.find(needle); at != std::string_view::npos;
       at = text.find(needle, at + needle.size()))
    ++count;
  return count;
}

Value count_text(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "count", arguments, {"/sub", "/start", "/end"}, 1);
  const std::string& needle = string_argument(runtime, bound[0], "the argument of count()");
  const Window in = window(runtime, self, bound[1], bound[2]);
  runtime.step(in.text.size() / 16);
  return Value::integer(in.valid ? static_cast<Integer>(count_matches(in.text, needle)) : 0);
}

template <bool AtEnd>
Value has_affix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound =
      bind_arguments(runtime, AtEnd ? "endswith" : "startswith", arguments, {"/affix", "/start", "/end"}, 1);
  const Window in = window(runtime, self, bound[1], bound[2]);
  const auto matches = [&](const Value& affix) {
    const std::string& text = string_argument(runtime, affix, "the argument of startswith() or endswith()");
    if (!in.valid || text.size() > in.text.size()) return false;
    return in.text.substr(AtEnd ? in.text.size() - text.size() : 0, text.size()) == text;
  };
  if (!bound[0].is(Kind::kTuple)) return Value::boolean(matches(bound[0]));
  for (const Value& affix : bound[0].items()) {
    runtime.step();
    if (matches(affix)) return Value::boolean(true);
  }
  return Value::boolean(false);
}

template <bool AtEnd>
Value remove_affix(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound =
      bind_arguments(runtime, AtEnd ? "removesuffix" : "removeprefix", arguments, {"/affix"}, 1);
  const std::string& affix =
      string_argument(runtime, bound[0], "the argument of removeprefix() or removesuffix()");
  std::string_view text = self.text();
  if (affix.size() <= text.size() &&
      text.substr(AtEnd ? text.size() - affix.size() : 0, affix.size()) == affix) {
    text = text.substr(AtEnd ? 0 : affix.size(), text.size() - affix.size());
  }
  return like(runtime, self, std::string(text));
}

Value replace_text(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "replace", arguments, {"/old", "/new", "/count"}, 2);
  const std::string& text = self.text();
  const std::string& old_text = string_argument(runtime, bound[0], "the first argument of replace()");
  string_argument(runtime, bound[1], "the second argument of replace()");
  const std::string new_text = self.is_markup() ? escape_html(runtime, bound[1]) : bound[1].text();
  const std::int64_t count =
      bound[2].is_missing() ? -1 : integer_argument(runtime, bound[2], "the count of replace()");
  std::size_t left = count < 0 ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(count);
  runtime.step(text.size() / 16);
  runtime.reserve(text.size());
  if (new_text.size() > old_text.size()) {
    runtime.reserve_product(new_text.size() - old_text.size(), std::min(left, count_matches(text, old_text)));
  }
  std::string out;
  std::size_t position = 0;
  while (left > 0) {
    if (old_text.empty()) {
      out += new_text;
      if (position >= text.size()) break;
      const std::size_t size = next_char(text, position).size;
      out += text.substr(position, size);
      position += size;
    } else {
      const std::size_t at = text.find(old_text, position);
      if (at == std::string::npos) break;
      out.append(text, position, at - position);
      out += new_text;
      position = at + old_text.size();
    }
    --left;
  }
  if (position < text.size()) out.append(text, position, std::string::npos);
  return like(runtime, self, std::move(out));
}

/// Splits at runs of white space, as split() without a separator.
std::vector<std::string_view> split_space(std::string_view text, std::size_t limit, bool from_right) {
  std::vector<std::string_view> out;
  text = strip_space(text, from_right ? StripSide::kRight : StripSide::kLeft);
  while (!text.empty()) {
    if (out.size() == limit) {
      out.push_back(strip_space(text, from_right ? StripSide::kRight : StripSide::kLeft));
      break;
    }
    std::size_t cut = from_right ? text.size() : 0;
    while (from_right ? cut > 0 : cut < text.size()) {
      const std::size_t at = from_right ? previous_char(text, cut) : cut;
      const Utf8Char c = next_char(text, at);
      if (is_space(c.code_point)) break;
      cut = from_right ? at : cut + c.size;
    }
    if (from_right) {
      out.push_back(text.substr(cut));
      text = strip_space(text.substr(0, cut), StripSide::kRight);
    } else {
      out.push_back(text.substr(0, cut));
      text = strip_space(text.substr(cut), StripSide::kLeft);
    }
  }
  if (from_right) std::reverse(out.begin(), out.end());
  return out;
}

std::vector<std::string_view> split_at(std::string_view text, std::string_view separator, std::size_t limit,
                                       bool from_right) {
  std::vector<std::string_view> out;
  while (out.size() < limit) {
    const std::size_t at = from_right ? text.rfind(separator) : text.find(separator);
    if (at == std::string_view::npos) break;
    if (from_right) {
      out.push_back(text.substr(at + separator.size()));
      text = text.substr(0, at);
    } else {
      out.push_back(text.substr(0, at));
      text.remove_prefix(at + separator.size());
    }
  }
  out.push_back(text);
  if (from_right) std::reverse(out.begin(), out.end());
  return out;
}

Value list_of_texts(Runtime& runtime, const Value& self, const std::vector<std::string_view>& parts) {
  std::vector<Value> items;
  runtime.reserve(parts.size() * sizeof(Value));
  items.reserve(parts.size());
  for (const std::string_view part : parts) items.push_back(like(runtime, self, std::string(part)));
  return runtime.list(std::move(items));
}

template <bool FromRight>
Value split(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "split", arguments, {"sep", "maxsplit"}, 0);
  const std::int64_t most = bound[1].is_missing() ? -1 : integer_argument(runtime, bound[1], "maxsplit");
  const std::size_t limit =
      most < 0 ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(most);
  runtime.reserve(self.text().size() + 1);
  if (bound[0].is_missing() || bound[0].is_none()) {
    return list_of_texts(runtime, self, split_space(self.text(), limit, FromRight));
  }
  const std::string& separator = string_argument(runtime, bound[0], "the separator of split()");
  if (separator.empty()) runtime.fail_with("empty separator");
  return list_of_texts(runtime, self, split_at(self.text(), separator, limit, FromRight));
}

template <bool FromRight>
Value partition(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "partition", arguments, {"/sep"}, 1);
  const std::string& separator = string_argument(runtime, bound[0], "the separator of partition()");
  if (separator.empty()) runtime.fail_with("empty separator");
  const std::string& text = self.text();
  const std::size_t at = FromRight ? text.rfind(separator) : text.find(separator);
  std::vector<Value> parts;
  if (at == std::string::npos) {
    parts = {like(runtime, self, {}), like(runtime, self, {}), like(runtime, self, text)};
    if (!FromRight) std::swap(parts[0], parts[2]);
  } else {
    parts = {like(runtime, self, text.substr(0, at)), like(runtime, self, separator),
             like(runtime, self, text.substr(at + separator.size()))};
  }
  return runtime.tuple(std::move(parts));
}

Value split_lines(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "splitlines", arguments, {"keepends"}, 0);
  const bool keep = !bound[0].is_missing() && truthy(runtime, bound[0]);
  const std::string_view text = self.text();
  std::vector<std::string_view> lines;
  std::size_t start = 0;
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    std::size_t end = i + c.size;
    if (!is_line_break(c.code_point)) {
      i = end;
      continue;
    }
    if (c.code_point == '\r' && end < text.size() && text[end] == '\n') ++end;
    lines.push_back(text.substr(start, (keep ? end : i) - start));
    start = i = end;
  }
  if (start < text.size()) lines.push_back(text.substr(start));
  runtime.step(text.size() / 16);
  return list_of_texts(runtime, self, lines);
}

Value join(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "join", arguments, {"/iterable"}, 1);
  std::string out;
  bool first = true;
  for (const Value& item : to_vector(runtime, bound[0])) {
    const std::size_t before = out.size();
    if (!first) out += self.text();
    first = false;
    out +=
        self.is_markup() ? escape_html(runtime, item) : string_argument(runtime, item, "an item of join()");
    runtime.reserve(out.size() - before);
    if (out.size() > runtime.limits().memory_bytes) runtime.reserve(out.size());
  }
  return like(runtime, self, std::move(out));
}

template <char Align>
Value justify(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "justify", arguments, {"/width", "/fillchar"}, 1);
  const std::int64_t width = integer_argument(runtime, bound[0], "the width");
  std::string fill = " ";
  if (!bound[1].is_missing()) {
    fill = string_argument(runtime, bound[1], "the fill character");
    if (bound[1].as<String>().length != 1)
      runtime.fail_with("The fill character must be exactly one character long");
  }
  const auto length = static_cast<std::int64_t>(self.as<String>().length);
  if (width <= length) return self;
  const auto missing = static_cast<std::size_t>(width - length);
  runtime.reserve_product(fill.size(), missing);
  // Python's str.center puts the odd one left where both the gap and the width are odd.
  const std::size_t left = Align == '<'   ? 0
                           : Align == '>' ? missing
                                          : missing / 2 + (missing & static_cast<std::size_t>(width) & 1);
  std::string out;
  for (std::size_t i = 0; i < left; ++i) out += fill;
  out += self.text();
  for (std::size_t i = left; i < missing; ++i) out += fill;
  return like(runtime, self, std::move(out));
}

Value zero_fill(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "zfill", arguments, {"/width"}, 1);
  const std::int64_t width = integer_argument(runtime, bound[0], "the width");
  const auto length = static_cast<std::int64_t>(self.as<String>().length);
  std::string text = self.text();
  if (width > length) {
    const auto missing = static_cast<std::size_t>(width - length);
    runtime.reserve(missing);
    const bool sign = !text.empty() && (text[0] == '-' || text[0] == '+');
    text.insert(sign ? 1 : 0, missing, '0');
  }
  return like(runtime, self, std::move(text));
}

Value expand_tabs(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "expandtabs", arguments, {"tabsize"}, 0);
  const std::int64_t size = bound[0].is_missing() ? 8 : integer_argument(runtime, bound[0], "tabsize");
  const std::size_t tab = size <= 0 ? 0 : static_cast<std::size_t>(size);
  const std::string& text = self.text();
  runtime.reserve_product(tab + 1, static_cast<std::size_t>(std::count(text.begin(), text.end(), '\t')));
  std::string out;
  std::size_t column = 0;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t bytes = next_char(text, i).size;
    if (text[i] == '\t') {
      const std::size_t spaces = tab == 0 ? 0 : tab - column % tab;
      out.append(spaces, ' ');
      column += spaces;
    } else {
      column = text[i] == '\n' || text[i] == '\r' ? 0 : column + 1;
      out += text.substr(i, bytes);
    }
    i += bytes;
  }
  return like(runtime, self, std::move(out));
}

Value format_method(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return format_braces(runtime, self, arguments);
}

Value format_map(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "format_map", arguments, {"/mapping"}, 1);
  if (!bound[0].is(Kind::kDict)) runtime.fail_with("format_map() needs a mapping");
  Arguments named;
  for (const auto& [key, value] : bound[0].as<Dict>().entries()) {
    if (key.is_string()) named.named.emplace_back(key.text(), value);
  }
  return format_method(runtime, self, named);
}

Value refuse_bytes(Runtime& runtime, const Value&, const Arguments&) {
  runtime.refuse("encode(), translate() and maketrans() are not supported");
}

// Lists, tuples, ranges.

Value count_items(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "count", arguments, {"/value"}, 1);
  Integer count = 0;
  const auto iterator = iterate(runtime, self);
  Value item;
  while (iterator->next(runtime, item))
    count += identical(item, bound[0]) || equal(runtime, item, bound[0]) ? 1 : 0;
  return Value::integer(count);
}

Value index_of_item(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "index", arguments, {"/value", "/start", "/stop"}, 1);
  const auto length = static_cast<std::int64_t>(*length_of(runtime, self));
  const auto place = [&](const Value& value, std::int64_t otherwise) {
    if (value.is_missing()) return otherwise;
    const std::int64_t at = integer_argument(runtime, value, "a position");
    return at < 0 ? std::max<std::int64_t>(at + length, 0) : at;
  };
  const std::int64_t start = place(bound[1], 0);
  const std::int64_t stop = place(bound[2], length);
  const auto iterator = iterate(runtime, self);
  Value item;
  for (std::int64_t i = 0; iterator->next(runtime, item); ++i) {
    if (i >= start && i < stop && (identical(item, bound[0]) || equal(runtime, item, bound[0])))
      return Value::integer(i);
  }
  runtime.fail("{} is not in the {}", repr(runtime, bound[0]), type_name(self));
}

Value copy(Runtime& runtime, const Value& self, const Arguments& arguments) {
  no_arguments(runtime, "copy", arguments);
  if (self.is(Kind::kList)) return runtime.list(self.items());
  auto entries = runtime.new_dict();
  for (const auto& [key, value] : self.as<Dict>().entries()) entries->set(runtime, key, value);
  return runtime.dict(std::move(entries));
}

// Dicts.

Value dict_get(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "get", arguments, {"/key", "/default"}, 1);
  if (!hashable(bound[0])) runtime.fail("unhashable type: '{}'", type_name(bound[0]));
  const Value* found = self.as<Dict>().find(runtime, bound[0]);
  if (found != nullptr) return *found;
  return bound[1].is_missing() ? Value::none() : bound[1];
}

template <ViewKind Which>
Value dict_view(Runtime& runtime, const Value& self, const Arguments& arguments) {
  no_arguments(runtime, "view", arguments);
  return runtime.view(self, Which);
}

Value dict_from_keys(Runtime& runtime, const Value&, const Arguments& arguments) {
  const auto bound = bind_arguments(runtime, "fromkeys", arguments, {"/iterable", "/value"}, 1);
  auto out = runtime.new_dict();
  const Value value = bound[1].is_missing() ? Value::none() : bound[1];
  for (const Value& key : to_vector(runtime, bound[0])) out->set(runtime, key, value);
  return runtime.dict(std::move(out));
}

// Numbers.

Value is_integer(Runtime& runtime, const Value& self, const Arguments& arguments) {
  no_arguments(runtime, "is_integer", arguments);
  return Value::boolean(std::isfinite(self.number()) && self.number() == std::floor(self.number()));
}

Value conjugate(Runtime& runtime, const Value& self, const Arguments& arguments) {
  no_arguments(runtime, "conjugate", arguments);
  return self.is(Kind::kFloat) ? self : Value::integer(self.integral());
}

Value bit_length(Runtime& runtime, const Value& self, const Arguments& arguments) {
  no_arguments(runtime, "bit_length", arguments);
  Integer rest = self.integral() < 0 ? -self.integral() : self.integral();
  Integer bits = 0;
  for (; rest != 0; rest >>= 1) ++bits;
  return Value::integer(bits);
}

constexpr MethodEntry kStringMethods[] = {
    {"capitalize", map_text<capitalize>},
    {"casefold", map_text<to_casefold>},
    {"center", justify<'^'>},
    {"count", count_text},
    {"encode", refuse_bytes},
    {"endswith", has_affix<true>},
    {"expandtabs", expand_tabs},
    {"find", find<false>},
    {"format", format_method},
    {"format_map", format_map},
    {"index", index_of_text<false>},
    {"isalnum", all_chars<is_alnum>},
    {"isalpha", all_chars<is_alpha>},
    {"isascii", is_ascii},
    {"isdecimal", all_chars<is_decimal>},
    {"isdigit", all_chars<is_digit>},
    {"isidentifier", is_identifier},
    {"islower", all_cased<is_lower, is_upper>},
    {"isnumeric", all_chars<is_numeric>},
    {"isprintable", all_printable},
    {"isspace", all_chars<is_space>},
    {"istitle", is_title_text},
    {"isupper", all_cased<is_upper, is_lower>},
    {"join", join},
    {"ljust", justify<'<'>},
    {"lower", map_text<to_lower>},
    {"lstrip", strip<StripSide::kLeft>},
    {"maketrans", refuse_bytes},
    {"partition", partition<false>},
    {"removeprefix", remove_affix<false>},
    {"removesuffix", remove_affix<true>},
    {"replace", replace_text},
    {"rfind", find<true>},
    {"rindex", index_of_text<true>},
    {"rjust", justify<'>'>},
    {"rpartition", partition<true>},
    {"rsplit", split<true>},
    {"rstrip", strip<StripSide::kRight>},
    {"split", split<false>},
    {"splitlines", split_lines},
    {"startswith", has_affix<false>},
    {"strip", strip<StripSide::kBoth>},
    {"swapcase", map_text<swap_case>},
    {"title", map_text<to_title>},
    {"translate", refuse_bytes},
    {"upper", map_text<to_upper>},
    {"zfill", zero_fill},
};

constexpr MethodEntry kListMethods[] = {{"copy", copy}, {"count", count_items}, {"index", index_of_item}};
constexpr MethodEntry kTupleMethods[] = {{"count", count_items}, {"index", index_of_item}};
constexpr MethodEntry kDictMethods[] = {
    {"copy", copy},
    {"fromkeys", dict_from_keys},
    {"get", dict_get},
    {"items", dict_view<ViewKind::kItems>},
    {"keys", dict_view<ViewKind::kKeys>},
    {"values", dict_view<ViewKind::kValues>},
};
constexpr MethodEntry kIntMethods[] = {{"bit_length", bit_length}, {"conjugate", conjugate}};
constexpr MethodEntry kFloatMethods[] = {{"conjugate", conjugate}, {"is_integer", is_integer}};

constexpr std::string_view kListMutators[] = {"append", "clear",  "extend",  "insert",
                                              "pop",    "remove", "reverse", "sort"};
constexpr std::string_view kDictMutators[] = {"clear", "pop", "popitem", "setdefault", "update"};

template <std::size_t Size>
Value bound_method(Runtime& runtime, const MethodEntry (&methods)[Size], const Value& object,
                   std::string_view name) {
  const auto* found =
      std::lower_bound(std::begin(methods), std::end(methods), name,
                       [](const MethodEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  if (found == std::end(methods) || found->name != name) return {};
  return runtime.instance(std::make_shared<BoundMethod>(found->name, found->method, object), object.depth());
}

template <std::size_t Size>
bool is_listed(const std::string_view (&names)[Size], std::string_view name) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

Value number_attribute(const Value& object, std::string_view name) {
  const bool is_float = object.is(Kind::kFloat);
  if (name == "real") return is_float ? object : Value::integer(object.integral());
  if (name == "imag") return is_float ? Value::number(0.0) : Value::integer(0);
  if (name == "numerator" && !is_float) return Value::integer(object.integral());
  if (name == "denominator" && !is_float) return Value::integer(1);
  return {};
}

}  // namespace

Value find_method(Runtime& runtime, const Value& object, std::string_view name, bool& forbidden) {
  switch (object.kind()) {
    case Kind::kString:
      return bound_method(runtime, kStringMethods, object, name);
    case Kind::kList:
      forbidden = is_listed(kListMutators, name);
      return bound_method(runtime, kListMethods, object, name);
    case Kind::kTuple:
      if (object.as<List>().is_group && (name == "grouper" || name == "list")) {
        return object.items()[name == "grouper" ? 0 : 1];
      }
      return bound_method(runtime, kTupleMethods, object, name);
    case Kind::kDict:
      forbidden = is_listed(kDictMutators, name);
      return bound_method(runtime, kDictMethods, object, name);
    case Kind::kRange:
      if (name == "start") return Value::integer(object.as<Range>().start);
      if (name == "stop") return Value::integer(object.as<Range>().stop);
      if (name == "step") return Value::integer(object.as<Range>().step);
      return bound_method(runtime, kTupleMethods, object, name);
    case Kind::kBool:
    case Kind::kInt:
      if (Value found = number_attribute(object, name); !found.is_missing()) return found;
      return bound_method(runtime, kIntMethods, object, name);
    case Kind::kFloat:
      if (Value found = number_attribute(object, name); !found.is_missing()) return found;
      return bound_method(runtime, kFloatMethods, object, name);
    default:
      return {};
  }
}

}  // namespace sabrewing::text::jinja
