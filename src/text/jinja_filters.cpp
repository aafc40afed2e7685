#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <optional>

#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_ops.h"
#include "text/jinja_unicode.h"
#include "text/utf8.h"

namespace sabrewing::text::jinja {
namespace {

/// The value as text, with its markup flag, as Jinja's soft_str().
Value soft_string(Runtime& runtime, const Value& value) {
  return value.is_string() ? value : runtime.string(str(runtime, value));
}

Value call_method(Runtime& runtime, const Value& object, std::string_view name, const Arguments& arguments) {
  bool forbidden = false;
  return call_value(runtime, find_method(runtime, object, name, forbidden), arguments);
}

bool flag(Runtime& runtime, const Value& value) { return !value.is_missing() && truthy(runtime, value); }

/// A filter that is a method of the value's text.
template <const char* Name>
Value text_method(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, Name, arguments, {}, 0);
  return call_method(runtime, soft_string(runtime, value), Name, {});
}
constexpr char kUpper[] = "upper";
constexpr char kLower[] = "lower";
constexpr char kCapitalize[] = "capitalize";

Value filter_attr(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "attr", arguments, {"name"}, 1);
  const std::string& name = string_argument(runtime, bound[0], "the name of attr()");
  const Value found = get_attribute(runtime, value, bound[0]);
  if (!value.is(Kind::kDict)) return found;
  // An item of that name does not count.
  bool forbidden = false;
  const Value method = find_method(runtime, value, name, forbidden);
  if (!method.is_missing()) return method;
  return runtime.undefined(fmt::format("'dict object' has no attribute {}", string_repr(name)));
}

/// Groups of `size` items, drawn one at a time.
class BatchIterator final : public Iterator {
 public:
  BatchIterator(std::shared_ptr<Iterator> source, Value size, Value fill)
      : source_(std::move(source)), size_(std::move(size)), fill_(std::move(fill)) {}

  bool next(Runtime& runtime, Value& out) override {
    if (done_) return false;
    std::vector<Value> items = std::move(pending_);
    pending_.clear();
    Value item;
    while (source_->next(runtime, item)) {
      if (equal(runtime, Value::integer(static_cast<Integer>(items.size())), size_)) {
        pending_ = {item};
        out = runtime.list(std::move(items));
        return true;
      }
      if (items.size() == items.capacity()) runtime.reserve(2 * (items.size() + 1) * sizeof(Value));
      items.push_back(item);
    }
    done_ = true;
    if (items.empty()) return false;
    if (!fill_.is_missing() && !fill_.is_none()) {
      const auto order = compare(runtime, Value::integer(static_cast<Integer>(items.size())), size_);
      if (order && *order < 0) {
        const std::int64_t missing =
            integer_argument(runtime, size_, "the size of a batch") - static_cast<std::int64_t>(items.size());
        runtime.reserve_product(sizeof(Value), static_cast<std::size_t>(missing));
        items.insert(items.end(), static_cast<std::size_t>(missing), fill_);
      }
    }
    out = runtime.list(std::move(items));
    return true;
  }

 private:
  std::shared_ptr<Iterator> source_;
  Value size_;
  Value fill_;
  std::vector<Value> pending_;
  bool done_ = false;
};

/// A generator that does nothing before the first item is wanted: neither checks nor iterates.
class LazyIterator final : public Iterator {
 public:
  using Start = std::shared_ptr<Iterator> (*)(Interpreter& interpreter, const Value& value,
                                              const Arguments& arguments);
  LazyIterator(Interpreter& interpreter, Start start, Value value, Arguments arguments)
      : interpreter_(interpreter),
        start_(start),
        value_(std::move(value)),
        arguments_(std::move(arguments)) {}

  bool next(Runtime& runtime, Value& out) override {
    const DepthGuard guard(runtime);
    runtime.step();
    if (start_ != nullptr) {
      source_ = start_(interpreter_, value_, arguments_);
      start_ = nullptr;
    }
    return source_ && source_->next(runtime, out);
  }

 private:
  Interpreter& interpreter_;
  Start start_;
  Value value_;
  Arguments arguments_;
  std::shared_ptr<Iterator> source_;
};

template <LazyIterator::Start StartFunction>
Value lazy(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return interpreter.runtime().iterator(
      std::make_shared<LazyIterator>(interpreter, StartFunction, value, arguments),
      std::max(value.depth(), arguments.depth()));
}

std::shared_ptr<Iterator> start_batch(Interpreter& interpreter, const Value& value,
                                      const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "batch", arguments, {"linecount", "fill_with"}, 1);
  return std::make_shared<BatchIterator>(iterate(runtime, value), bound[0], bound[1]);
}

Value filter_batch(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  bind_arguments(interpreter.runtime(), "batch", arguments, {"linecount", "fill_with"}, 1);
  return lazy<start_batch>(interpreter, value, arguments);
}

std::shared_ptr<Iterator> start_slice(Interpreter& interpreter, const Value& value,
                                      const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "slice", arguments, {"slices", "fill_with"}, 1);
  const std::vector<Value> items = to_vector(runtime, value);
  const std::int64_t slices = integer_argument(runtime, bound[0], "the number of slices");
  if (slices == 0) runtime.fail_with("integer division or modulo by zero");
  std::vector<Value> out;
  if (slices > 0) {
    const auto count = static_cast<std::size_t>(slices);
    runtime.reserve_product(sizeof(Value) + sizeof(List), count);
    const std::size_t each = items.size() / count;
    const std::size_t longer = items.size() % count;
    std::size_t at = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t size = each + (i < longer ? 1 : 0);
      std::vector<Value> part(items.begin() + static_cast<std::ptrdiff_t>(at),
                              items.begin() + static_cast<std::ptrdiff_t>(at + size));
      at += size;
      if (!bound[1].is_missing() && !bound[1].is_none() && i >= longer) part.push_back(bound[1]);
      out.push_back(runtime.list(std::move(part)));
    }
  }
  return iterate(runtime, runtime.list(std::move(out)));
}

Value filter_slice(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  bind_arguments(interpreter.runtime(), "slice", arguments, {"slices", "fill_with"}, 1);
  return lazy<start_slice>(interpreter, value, arguments);
}

Value filter_center(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "center", arguments, {"width"}, 0);
  const Value width = bound[0].is_missing() ? Value::integer(80) : bound[0];
  return call_method(runtime, soft_string(runtime, value), "center", {{width}, {}});
}

Value filter_length(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "length", arguments, {}, 0);
  const auto length = length_of(runtime, value);
  if (!length) runtime.fail("object of type '{}' has no len()", type_name(value));
  return Value::integer(static_cast<Integer>(*length));
}

Value filter_default(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "default", arguments, {"default_value", "boolean"}, 0);
  if (!value.is_undefined() && !(flag(runtime, bound[1]) && !truthy(runtime, value))) return value;
  return bound[0].is_missing() ? runtime.string(std::string()) : bound[0];
}

Value ignore_case(Runtime& runtime, const Value& value) {
  return value.is_string() ? runtime.string(to_lower(value.text())) : value;
}

/// Sorts like Python: stable, by `<` alone, equal items in their order even when reversed.
template <typename Item, typename Key>
void python_sort(Runtime& runtime, std::vector<Item>& items, bool reverse, Key&& key) {
  if (reverse) std::reverse(items.begin(), items.end());
  std::stable_sort(items.begin(), items.end(), [&](const Item& a, const Item& b) {
    return compare(runtime, key(a), key(b)).value_or(0) < 0;
  });
  if (reverse) std::reverse(items.begin(), items.end());
}

Value filter_dictsort(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "dictsort", arguments, {"case_sensitive", "by", "reverse"}, 0);
  bool by_value = false;
  if (!bound[1].is_missing()) {
    by_value = bound[1].is_string() && bound[1].text() == "value";
    if (!by_value && !(bound[1].is_string() && bound[1].text() == "key")) {
      runtime.fail_with("You can only sort by either \"key\" or \"value\"");
    }
  }
  require_defined(runtime, value);
  if (!value.is(Kind::kDict)) runtime.fail("'{}' object has no attribute 'items'", type_name(value));
  const bool case_sensitive = flag(runtime, bound[0]);
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, item] : value.as<Dict>().entries()) {
    const Value& by = by_value ? item : key;
    keyed.emplace_back(case_sensitive ? by : ignore_case(runtime, by), runtime.tuple({key, item}));
  }
  python_sort(runtime, keyed, flag(runtime, bound[2]),
              [](const auto& entry) -> const Value& { return entry.first; });
  std::vector<Value> out;
  for (auto& entry : keyed) out.push_back(std::move(entry.second));
  return runtime.list(std::move(out));
}

Value filter_escape(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "escape", arguments, {}, 0);
  return runtime.string(escape_html(runtime, value), true);
}

Value filter_forceescape(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "forceescape", arguments, {}, 0);
  return runtime.string(escape_html(runtime, runtime.string(str(runtime, value))), true);
}

Value filter_safe(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "safe", arguments, {}, 0);
  return runtime.string(str(runtime, value), true);
}

Value filter_first(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "first", arguments, {}, 0);
  Value out;
  if (iterate(runtime, value)->next(runtime, out)) return out;
  return runtime.undefined("No first item, sequence was empty.");
}

bool reversible(const Value& value) {
  return value.is_undefined() || value.is_string() || value.is_sequence() || value.is(Kind::kDict) ||
         value.is(Kind::kView) || value.is(Kind::kRange);
}

Value filter_last(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "last", arguments, {}, 0);
  if (!reversible(value)) runtime.fail("'{}' object is not reversible", type_name(value));
  const std::size_t length = *length_of(runtime, value);
  if (length == 0) return runtime.undefined("No last item, sequence was empty.");
  if (value.is(Kind::kDict)) return value.as<Dict>().entries().back().first;
  if (value.is(Kind::kView)) return view_element(runtime, value.as<View>(), length - 1);
  const Value item = get_item(runtime, value, Value::integer(-1));
  return item.is_string() ? runtime.string(item.text(), item.is_markup() && !value.is_string()) : item;
}

Value filter_reverse(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "reverse", arguments, {}, 0);
  if (value.is_string()) return get_slice(runtime, value, {}, {}, Value::integer(-1));
  std::vector<Value> items = to_vector(runtime, value);
  std::reverse(items.begin(), items.end());
  const Value list = runtime.list(std::move(items));
  if (!reversible(value)) return list;
  return runtime.iterator(iterate(runtime, list), list.depth());
}

Value filter_format(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  if (!arguments.positional.empty() && !arguments.named.empty()) {
    runtime.fail_with("can't handle positional and keyword arguments at the same time");
  }
  const Value text = soft_string(runtime, value);
  if (arguments.named.empty()) return format_percent(runtime, text, runtime.tuple(arguments.positional));
  auto entries = runtime.new_dict();
  for (const auto& [name, item] : arguments.named) entries->set(runtime, runtime.string(name), item);
  return format_percent(runtime, text, runtime.dict(std::move(entries)));
}

Value filter_groupby(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound =
      bind_arguments(runtime, "groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const AttributePath path = attribute_path(runtime, bound[0]);
  const bool case_sensitive = flag(runtime, bound[2]);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : to_vector(runtime, value)) {
    const Value key = follow_path(runtime, path, item, bound[1]);
    keyed.emplace_back(case_sensitive ? key : ignore_case(runtime, key), item);
  }
  python_sort(runtime, keyed, false, [](const auto& entry) -> const Value& { return entry.first; });
  std::vector<Value> out;
  for (std::size_t i = 0; i < keyed.size();) {
    std::vector<Value> members;
    const Value key = keyed[i].first;
    const Value grouper = case_sensitive ? key : follow_path(runtime, path, keyed[i].second, bound[1]);
    while (i < keyed.size() && equal(runtime, keyed[i].first, key)) members.push_back(keyed[i++].second);
    out.push_back(runtime.group(grouper, runtime.list(std::move(members))));
  }
  return runtime.list(std::move(out));
}

Value filter_indent(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "indent", arguments, {"width", "first", "blank"}, 0);
  std::string indention(4, ' ');
  if (!bound[0].is_missing()) {
    if (bound[0].is_string()) {
      indention = bound[0].text();
    } else {
      const std::int64_t width = integer_argument(runtime, bound[0], "the width of indent()");
      runtime.reserve(width > 0 ? static_cast<std::size_t>(width) : 0);
      indention.assign(width > 0 ? static_cast<std::size_t>(width) : 0, ' ');
    }
  }
  require_defined(runtime, value);
  if (!value.is_string()) runtime.fail("indent() needs a string, not '{}'", type_name(value));
  if (value.is_markup()) indention = escape_html(runtime, runtime.string(indention));
  const Value whole = runtime.string(value.text() + "\n", value.is_markup());
  const Value split = call_method(runtime, whole, "splitlines", {});
  const std::vector<Value>& lines = split.items();
  runtime.reserve_product(indention.size() + 1, lines.size());
  const bool blank = flag(runtime, bound[2]);
  std::string out = flag(runtime, bound[1]) ? indention : std::string();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (i != 0) out += '\n';
    if (i != 0 && (blank || !lines[i].text().empty())) out += indention;
    out += lines[i].text();
  }
  return runtime.string(std::move(out), value.is_markup());
}

Value filter_join(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "join", arguments, {"d", "attribute"}, 0);
  const std::string separator = bound[0].is_missing() ? std::string() : str(runtime, bound[0]);
  const AttributePath path = attribute_path(runtime, bound[1]);
  const auto items = iterate(runtime, value);
  std::string out;
  Value item;
  for (bool first = true; items->next(runtime, item); first = false) {
    if (!first) out += separator;
    out += str(runtime, follow_path(runtime, path, item));
    runtime.step(separator.size() / 64);
    if (out.size() > runtime.limits().memory_bytes) runtime.reserve(out.size());
  }
  return runtime.string(std::move(out));
}

std::shared_ptr<Iterator> start_items(Interpreter& interpreter, const Value& value, const Arguments&) {
  Runtime& runtime = interpreter.runtime();
  if (value.is_undefined()) return nullptr;
  if (!value.is(Kind::kDict)) runtime.fail_with("Can only get item pairs from a mapping.");
  return iterate(runtime, runtime.view(value, ViewKind::kItems));
}

Value filter_items(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  bind_arguments(interpreter.runtime(), "items", arguments, {}, 0);
  return lazy<start_items>(interpreter, value, arguments);
}

Value filter_list(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "list", arguments, {}, 0);
  return runtime.list(to_vector(runtime, value));
}

/// map(): an attribute or a filter of each item.
class MapIterator final : public Iterator {
 public:
  MapIterator(Interpreter& interpreter, std::shared_ptr<Iterator> source, const Arguments& arguments)
      : interpreter_(interpreter), source_(std::move(source)), rest_(arguments) {
    Runtime& runtime = interpreter.runtime();
    if (arguments.positional.empty()) {
      bool has_attribute = false;
      for (const auto& [name, value] : arguments.named) {
        if (name == "attribute") {
          has_attribute = true;
          path_ = attribute_path(runtime, value);
        } else if (name == "default") {
          default_ = value;
        }
      }
      if (!has_attribute) runtime.fail_with("map requires a filter argument");
      for (const auto& item : arguments.named) {
        if (item.first != "attribute" && item.first != "default") {
          runtime.fail("Unexpected keyword argument '{}'", item.first);
        }
      }
      return;
    }
    filter_ = arguments.positional.front();
    rest_.positional.erase(rest_.positional.begin());
  }

  bool next(Runtime& runtime, Value& out) override {
    Value item;
    if (!source_->next(runtime, item)) return false;
    out = filter_.is_missing() ? follow_path(runtime, path_, item, default_)
                               : interpreter_.call_filter(filter_, item, rest_);
    return true;
  }

 private:
  Interpreter& interpreter_;
  std::shared_ptr<Iterator> source_;
  Arguments rest_;
  AttributePath path_;
  Value default_;
  Value filter_;
};

std::shared_ptr<Iterator> start_map(Interpreter& interpreter, const Value& value,
                                    const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  if (!truthy(runtime, value)) return nullptr;
  return std::make_shared<MapIterator>(interpreter, iterate(runtime, value), arguments);
}

/// select(), reject(), selectattr(), rejectattr().
class SelectIterator final : public Iterator {
 public:
  SelectIterator(Interpreter& interpreter, std::shared_ptr<Iterator> source, const Arguments& arguments,
                 bool keep, bool by_attribute)
      : interpreter_(interpreter), source_(std::move(source)), rest_(arguments), keep_(keep) {
    std::size_t used = 0;
    if (by_attribute) {
      if (arguments.positional.empty())
        interpreter.runtime().fail_with("Missing parameter for attribute name");
      path_ = attribute_path(interpreter.runtime(), arguments.positional[used++]);
    }
    if (used < arguments.positional.size()) test_ = arguments.positional[used++];
    rest_.positional.erase(rest_.positional.begin(),
                           rest_.positional.begin() + static_cast<std::ptrdiff_t>(used));
  }

  bool next(Runtime& runtime, Value& out) override {
    Value item;
    while (source_->next(runtime, item)) {
      const Value subject = follow_path(runtime, path_, item);
      const bool passes =
          truthy(runtime, test_.is_missing() ? subject : interpreter_.call_test(test_, subject, rest_));
      if (passes == keep_) {
        out = std::move(item);
        return true;
      }
    }
    return false;
  }

 private:
  Interpreter& interpreter_;
  std::shared_ptr<Iterator> source_;
  Arguments rest_;
  AttributePath path_;
  Value test_;
  bool keep_;
};

template <bool Keep, bool ByAttribute>
std::shared_ptr<Iterator> start_select(Interpreter& interpreter, const Value& value,
                                       const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  if (!truthy(runtime, value)) return nullptr;
  return std::make_shared<SelectIterator>(interpreter, iterate(runtime, value), arguments, Keep, ByAttribute);
}

template <bool Largest>
Value filter_extreme(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound =
      bind_arguments(runtime, Largest ? "max" : "min", arguments, {"case_sensitive", "attribute"}, 0);
  const AttributePath path = attribute_path(runtime, bound[1]);
  const bool case_sensitive = flag(runtime, bound[0]);
  const auto items = iterate(runtime, value);
  Value best;
  Value best_key;
  Value item;
  while (items->next(runtime, item)) {
    Value key = follow_path(runtime, path, item);
    if (!case_sensitive) key = ignore_case(runtime, key);
    const bool better = best_key.is_missing() || (Largest ? relation(runtime, ">", key, best_key)
                                                          : relation(runtime, "<", key, best_key));
    if (!better) continue;
    best = item;
    best_key = std::move(key);
  }
  return best_key.is_missing() ? runtime.undefined("No aggregated item, sequence was empty.") : best;
}

Value filter_replace(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "replace", arguments, {"old", "new", "count"}, 2);
  Arguments given{{runtime.string(str(runtime, bound[0])), runtime.string(str(runtime, bound[1]))}, {}};
  if (!bound[2].is_missing() && !bound[2].is_none()) given.positional.push_back(bound[2]);
  return call_method(runtime, runtime.string(str(runtime, value)), "replace", given);
}

Value filter_sort(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound =
      bind_arguments(runtime, "sort", arguments, {"reverse", "case_sensitive", "attribute"}, 0);
  std::vector<AttributePath> paths;
  if (bound[2].is_string()) {
    std::string_view rest = bound[2].text();
    while (true) {
      const std::size_t comma = rest.find(',');
      paths.push_back(attribute_path(runtime, runtime.string(rest.substr(0, comma))));
      if (comma == std::string_view::npos) break;
      rest.remove_prefix(comma + 1);
    }
  } else {
    paths.push_back(attribute_path(runtime, bound[2]));
  }
  const bool case_sensitive = flag(runtime, bound[1]);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : to_vector(runtime, value)) {
    std::vector<Value> keys;
    for (const AttributePath& path : paths) {
      const Value key = follow_path(runtime, path, item);
      keys.push_back(case_sensitive ? key : ignore_case(runtime, key));
    }
    keyed.emplace_back(runtime.list(std::move(keys)), item);
  }
  python_sort(runtime, keyed, flag(runtime, bound[0]),
              [](const auto& entry) -> const Value& { return entry.first; });
  std::vector<Value> out;
  for (auto& entry : keyed) out.push_back(std::move(entry.second));
  return runtime.list(std::move(out));
}

Value filter_string(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  bind_arguments(interpreter.runtime(), "string", arguments, {}, 0);
  return soft_string(interpreter.runtime(), value);
}

Value filter_sum(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "sum", arguments, {"attribute", "start"}, 0);
  const AttributePath path = attribute_path(runtime, bound[0]);
  Value total = bound[1].is_missing() ? Value::integer(0) : bound[1];
  if (total.is_string()) runtime.fail_with("sum() can't sum strings");
  const auto items = iterate(runtime, value);
  Value item;
  while (items->next(runtime, item)) total = binary(runtime, "+", total, follow_path(runtime, path, item));
  return total;
}

Value filter_title(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "title", arguments, {}, 0);
  const std::string text = str(runtime, value);
  runtime.reserve_product(text.size(), 3);
  const auto is_break = [](char32_t c) {
    return is_space(c) || c == '-' || c == '(' || c == '{' || c == '[' || c == '<';
  };
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t start = i;
    const bool breaks = is_break(next_char(text, i).code_point);
    while (i < text.size() && is_break(next_char(text, i).code_point) == breaks) i += next_char(text, i).size;
    const std::string_view part = std::string_view(text).substr(start, i - start);
    const std::size_t first = next_char(part, 0).size;
    out += to_upper(part.substr(0, first)) + to_lower(part.substr(first));
  }
  return runtime.string(std::move(out));
}

Value filter_tojson(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound =
      bind_arguments(runtime, "tojson", arguments, {"ensure_ascii", "indent", "separators", "sort_keys"}, 0);
  return runtime.string(
      to_json(runtime, value, flag(runtime, bound[0]), bound[1], bound[2], flag(runtime, bound[3])));
}

Value filter_trim(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "trim", arguments, {"chars"}, 0);
  const Value chars = bound[0].is_missing() ? Value::none() : bound[0];
  return call_method(runtime, soft_string(runtime, value), "strip", {{chars}, {}});
}

Value filter_truncate(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound =
      bind_arguments(runtime, "truncate", arguments, {"length", "killwords", "end", "leeway"}, 0);
  const std::int64_t length = bound[0].is_missing() ? 255 : integer_argument(runtime, bound[0], "the length");
  const Value end = bound[2].is_missing() ? runtime.string(std::string("...")) : bound[2];
  string_argument(runtime, end, "the end of truncate()");
  const auto end_length = static_cast<std::int64_t>(end.as<String>().length);
  const std::int64_t leeway =
      bound[3].is_missing() || bound[3].is_none() ? 5 : integer_argument(runtime, bound[3], "the leeway");
  if (length < end_length) runtime.fail("expected length >= {}, got {}", end_length, length);
  if (leeway < 0) runtime.fail("expected leeway >= 0, got {}", leeway);
  require_defined(runtime, value);
  if (!value.is_string()) runtime.fail("truncate() needs a string, not '{}'", type_name(value));
  const auto size = static_cast<std::int64_t>(value.as<String>().length);
  if (size <= length || size - length <= leeway) return value;
  const Value cut = get_slice(runtime, value, {}, Value::integer(length - end_length), {});
  std::string text = cut.text();
  if (!flag(runtime, bound[1])) text = text.substr(0, std::min(text.rfind(' '), text.size()));
  return binary(runtime, "+", runtime.string(std::move(text), value.is_markup()), end);
}

/// unique(): items whose key was not seen before.
class UniqueIterator final : public Iterator {
 public:
  UniqueIterator(Runtime& runtime, std::shared_ptr<Iterator> source, AttributePath path, bool case_sensitive)
      : source_(std::move(source)),
        path_(std::move(path)),
        case_sensitive_(case_sensitive),
        seen_(runtime.new_dict()) {}

  bool next(Runtime& runtime, Value& out) override {
    Value item;
    while (source_->next(runtime, item)) {
      Value key = follow_path(runtime, path_, item);
      if (!case_sensitive_) key = ignore_case(runtime, key);
      if (!hashable(key)) runtime.fail("unhashable type: '{}'", type_name(key));
      if (seen_->find(runtime, key) != nullptr) continue;
      seen_->set(runtime, key, Value::none());
      out = std::move(item);
      return true;
    }
    return false;
  }

 private:
  std::shared_ptr<Iterator> source_;
  AttributePath path_;
  bool case_sensitive_;
  std::shared_ptr<Dict> seen_;
};

std::shared_ptr<Iterator> start_unique(Interpreter& interpreter, const Value& value,
                                       const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "unique", arguments, {"case_sensitive", "attribute"}, 0);
  return std::make_shared<UniqueIterator>(runtime, iterate(runtime, value), attribute_path(runtime, bound[1]),
                                          flag(runtime, bound[0]));
}

Value filter_unique(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  bind_arguments(interpreter.runtime(), "unique", arguments, {"case_sensitive", "attribute"}, 0);
  return lazy<start_unique>(interpreter, value, arguments);
}

Value filter_wordcount(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "wordcount", arguments, {}, 0);
  const std::string text = str(runtime, value);
  Integer words = 0;
  bool inside = false;
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    i += c.size;
    const bool word = c.code_point == '_' || is_alnum(c.code_point);
    if (word && !inside) ++words;
    inside = word;
  }
  return Value::integer(words);
}

struct FilterEntry {
  std::string_view name;
  Builtin function;
};

constexpr FilterEntry kFilters[] = {
    {"abs", filter_abs},
    {"attr", filter_attr},
    {"batch", filter_batch},
    {"capitalize", text_method<kCapitalize>},
    {"center", filter_center},
    {"count", filter_length},
    {"d", filter_default},
    {"default", filter_default},
    {"dictsort", filter_dictsort},
    {"e", filter_escape},
    {"escape", filter_escape},
    {"first", filter_first},
    {"float", filter_float},
    {"forceescape", filter_forceescape},
    {"format", filter_format},
    {"groupby", filter_groupby},
    {"indent", filter_indent},
    {"int", filter_int},
    {"items", filter_items},
    {"join", filter_join},
    {"last", filter_last},
    {"length", filter_length},
    {"list", filter_list},
    {"lower", text_method<kLower>},
    {"map", lazy<start_map>},
    {"max", filter_extreme<true>},
    {"min", filter_extreme<false>},
    {"reject", lazy<start_select<false, false>>},
    {"rejectattr", lazy<start_select<false, true>>},
    {"replace", filter_replace},
    {"reverse", filter_reverse},
    {"round", filter_round},
    {"safe", filter_safe},
    {"select", lazy<start_select<true, false>>},
    {"selectattr", lazy<start_select<true, true>>},
    {"slice", filter_slice},
    {"sort", filter_sort},
    {"string", filter_string},
    {"sum", filter_sum},
    {"title", filter_title},
    {"tojson", filter_tojson},
    {"trim", filter_trim},
    {"truncate", filter_truncate},
    {"unique", filter_unique},
    {"upper", text_method<kUpper>},
    {"wordcount", filter_wordcount},
};

constexpr std::string_view kRefused[] = {"filesizeformat", "pprint", "random",   "striptags",
                                         "urlencode",      "urlize", "wordwrap", "xmlattr"};

}  // namespace

Builtin find_filter(std::string_view name) {
  const auto* found =
      std::lower_bound(std::begin(kFilters), std::end(kFilters), name,
                       [](const FilterEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  return found != std::end(kFilters) && found->name == name ? found->function : nullptr;
}

bool is_refused_filter(std::string_view name) {
  return std::find(std::begin(kRefused), std::end(kRefused), name) != std::end(kRefused);
}

}  // namespace sabrewing::text::jinja
