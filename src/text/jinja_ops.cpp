#include "text/jinja_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "text/jinja_builtins.h"
#include "text/jinja_unicode.h"
#include "text/utf8.h"

namespace sabrewing::text::jinja {
namespace {

[[noreturn]] void fail_operands(Runtime& runtime, std::string_view op, const Value& a, const Value& b) {
  require_defined(runtime, a);
  require_defined(runtime, b);
  runtime.fail("unsupported operand types for {}: '{}' and '{}'", op, type_name(a), type_name(b));
}

[[noreturn]] void refuse_big_integer(Runtime& runtime) { runtime.refuse("an integer exceeds 127 bits"); }

Value integer_arithmetic(Runtime& runtime, char op, Integer a, Integer b) {
  Integer out = 0;
  bool overflow = false;
  if (op == '+') {
    overflow = __builtin_add_overflow(a, b, &out);
  } else if (op == '-') {
    overflow = __builtin_sub_overflow(a, b, &out);
  } else {
    overflow = __builtin_mul_overflow(a, b, &out);
  }
  if (overflow) refuse_big_integer(runtime);
  return Value::integer(out);
}

Value integer_power(Runtime& runtime, Integer base, Integer exponent) {
  Integer out = 1;
  while (exponent > 0) {
    if ((exponent & 1) != 0 && __builtin_mul_overflow(out, base, &out)) refuse_big_integer(runtime);
    exponent >>= 1;
    if (exponent > 0 && __builtin_mul_overflow(base, base, &base)) refuse_big_integer(runtime);
  }
  return Value::integer(out);
}

Value float_power(Runtime& runtime, double base, double exponent) {
  if (base == 0.0 && exponent < 0.0) runtime.fail("0.0 cannot be raised to a negative power");
  if (base < 0.0 && std::isfinite(base) && std::isfinite(exponent) && exponent != std::floor(exponent)) {
    runtime.refuse("complex numbers are not supported");
  }
  const double out = std::pow(base, exponent);
  if (std::isinf(out) && std::isfinite(base) && std::isfinite(exponent))
    runtime.fail("numerical result out of range");
  return Value::number(out);
}

double float_modulo(double a, double b) {
  double out = std::fmod(a, b);
  if (out != 0.0) {
    if ((b < 0.0) != (out < 0.0)) out += b;
  } else {
    out = std::copysign(0.0, b);
  }
  return out;
}

/// As Python computes it: by the remainder, so that the quotient is exact.
double float_floor_divide(double a, double b) {
  double modulo = std::fmod(a, b);
  double quotient = (a - modulo) / b;
  if (modulo != 0.0 && (b < 0.0) != (modulo < 0.0)) quotient -= 1.0;
  if (quotient == 0.0) return std::copysign(0.0, a / b);
  double floored = std::floor(quotient);
  if (quotient - floored > 0.5) floored += 1.0;
  return floored;
}

Value true_divide(Runtime& runtime, const Value& a, const Value& b) {
  if (b.as_double() == 0.0) runtime.fail("division by zero");
  if (a.is_integral() && b.is_integral()) {
    // A quotient of integers is rounded once: exact for operands of up to 53 bits.
    constexpr Integer kExact = static_cast<Integer>(1) << 53;
    if (std::max({a.integral(), -a.integral(), b.integral(), -b.integral()}) <= kExact) {
      return Value::number(a.as_double() / b.as_double());
    }
    return Value::number(
        static_cast<double>(static_cast<long double>(a.integral()) / static_cast<long double>(b.integral())));
  }
  return Value::number(a.as_double() / b.as_double());
}

Value numeric(Runtime& runtime, std::string_view op, const Value& a, const Value& b) {
  const bool integral = a.is_integral() && b.is_integral();
  if (op == "+" || op == "-" || op == "*") {
    if (integral) return integer_arithmetic(runtime, op[0], a.integral(), b.integral());
    const double x = a.as_double();
    const double y = b.as_double();
    return Value::number(op == "+" ? x + y : op == "-" ? x - y : x * y);
  }
  if (op == "/") return true_divide(runtime, a, b);
  if (op == "**") {
    if (integral && b.integral() >= 0) return integer_power(runtime, a.integral(), b.integral());
    return float_power(runtime, a.as_double(), b.as_double());
  }
  if (b.as_double() == 0.0) runtime.fail("division or modulo by zero");
  if (!integral) {
    const double x = a.as_double();
    const double y = b.as_double();
    return Value::number(op == "//" ? float_floor_divide(x, y) : float_modulo(x, y));
  }
  if (b.integral() == -1) {
    return op == "//" ? integer_arithmetic(runtime, '-', 0, a.integral()) : Value::integer(0);
  }
  Integer quotient = a.integral() / b.integral();
  Integer remainder = a.integral() % b.integral();
  if (remainder != 0 && (remainder < 0) != (b.integral() < 0)) {
    --quotient;
    remainder += b.integral();
  }
  return Value::integer(op == "//" ? quotient : remainder);
}

Value add(Runtime& runtime, const Value& a, const Value& b) {
  if (a.is_string() && b.is_string()) {
    const bool markup = a.is_markup() || b.is_markup();
    if (markup) return runtime.string(escape_html(runtime, a) + escape_html(runtime, b), true);
    runtime.reserve(a.text().size() + b.text().size());
    return runtime.string(a.text() + b.text());
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    runtime.reserve((a.items().size() + b.items().size()) * sizeof(Value));
    std::vector<Value> items = a.items();
    items.insert(items.end(), b.items().begin(), b.items().end());
    return a.is(Kind::kList) ? runtime.list(std::move(items)) : runtime.tuple(std::move(items));
  }
  fail_operands(runtime, "+", a, b);
}

Value repeat(Runtime& runtime, const Value& value, Integer times) {
  const Integer limit = std::numeric_limits<std::int64_t>::max();
  const auto count = static_cast<std::size_t>(std::clamp<Integer>(times, 0, limit));
  if (value.is_string()) {
    runtime.reserve_product(value.text().size(), count);
    std::string out;
    if (value.text().empty()) return runtime.string(out, value.is_markup());
    out.reserve(value.text().size() * count);
    for (std::size_t i = 0; i < count; ++i) out += value.text();
    return runtime.string(std::move(out), value.is_markup());
  }
  runtime.reserve_product(value.items().size() * sizeof(Value), count);
  std::vector<Value> items;
  if (!value.items().empty()) {
    for (std::size_t i = 0; i < count; ++i)
      items.insert(items.end(), value.items().begin(), value.items().end());
  }
  return value.is(Kind::kList) ? runtime.list(std::move(items)) : runtime.tuple(std::move(items));
}

bool repeatable(const Value& value) { return value.is_string() || value.is_sequence(); }

std::string describe_owner(const Value& object) {
  return object.is_none() ? "None" : type_name(object) + " object";
}

Value no_attribute(Runtime& runtime, const Value& object, const Value& name) {
  runtime.step();
  if (!name.is_string()) {
    return runtime.undefined(
        fmt::format("{} has no element {}", describe_owner(object), repr(runtime, name)));
  }
  return runtime.undefined(
      fmt::format("{} has no attribute {}", string_repr(describe_owner(object)), string_repr(name.text())));
}

/// An attribute in Python's sense; missing when there is none, undefined when the sandbox hides it.
Value python_attribute(Runtime& runtime, const Value& object, const Value& name) {
  Value found;
  bool forbidden = false;
  if (object.is(Kind::kNamespace)) {
    if (const Value* value = object.as<Namespace>().attributes.find(name.text())) found = *value;
  } else if (object.is(Kind::kInstance)) {
    found = object.as<Instance>().attribute(runtime, name.text());
  } else {
    found = find_method(runtime, object, name.text(), forbidden);
  }
  if (forbidden || (!found.is_missing() && name.text()[0] == '_')) {
    return runtime.undefined(fmt::format("access to attribute {} of '{}' object is unsafe.",
                                         string_repr(name.text()), type_name(object)));
  }
  return found;
}

/// The place of an index that may be negative, or nothing.
std::optional<std::size_t> element_index(const Value& key, std::size_t size) {
  if (!key.is_integral()) return std::nullopt;
  Integer index = key.integral();
  if (index < 0) index += static_cast<Integer>(size);
  if (index < 0 || index >= static_cast<Integer>(size)) return std::nullopt;
  return static_cast<std::size_t>(index);
}

Value character(Runtime& runtime, const String& text, std::size_t index, bool markup) {
  if (text.length == text.text.size()) return runtime.string(text.text.substr(index, 1), markup);
  runtime.step(text.text.size() / 64);
  const std::size_t at = byte_of_code_point(text.text, index);
  return runtime.string(text.text.substr(at, next_char(text.text, at).size), markup);
}

/// `object[key]` in Python's sense; missing where that raises a TypeError or LookupError.
Value python_item(Runtime& runtime, const Value& object, const Value& key) {
  switch (object.kind()) {
    case Kind::kDict: {
      if (!hashable(key)) return {};
      const Value* found =
          key.is_string() ? object.as<Dict>().find(key.text()) : object.as<Dict>().find(runtime, key);
      return found == nullptr ? Value() : *found;
    }
    case Kind::kList:
    case Kind::kTuple:
      if (const auto index = element_index(key, object.items().size())) return object.items()[*index];
      return {};
    case Kind::kString: {
      const auto& text = object.as<String>();
      if (const auto index = element_index(key, text.length))
        return character(runtime, text, *index, text.markup);
      return {};
    }
    case Kind::kRange: {
      const auto& range = object.as<Range>();
      if (const auto index = element_index(key, range.count)) return Value::integer(range.at(*index));
      return {};
    }
    default:
      return {};
  }
}

struct SliceBounds {
  std::int64_t start = 0;
  std::int64_t step = 1;
  std::size_t count = 0;
};

SliceBounds slice_bounds(Runtime& runtime, std::size_t size, const Value& start, const Value& stop,
                         const Value& step) {
  const auto length = static_cast<Integer>(size);
  const auto part = [&](const Value& value) -> std::optional<Integer> {
    if (value.is_missing() || value.is_none()) return std::nullopt;
    require_defined(runtime, value);
    if (!value.is_integral())
      runtime.fail("slice indices must be integers or None, not '{}'", type_name(value));
    return value.integral();
  };
  constexpr Integer kHuge = static_cast<Integer>(1) << 62;
  const Integer by = std::clamp<Integer>(part(step).value_or(1), -kHuge, kHuge);
  if (by == 0) runtime.fail("slice step cannot be zero");
  const Integer low = by < 0 ? -1 : 0;
  const Integer high = by < 0 ? length - 1 : length;
  const auto bound = [&](std::optional<Integer> value, Integer otherwise) {
    if (!value) return otherwise;
    return std::clamp<Integer>(*value < 0 ? std::max<Integer>(*value + length, low) : *value, low, high);
  };
  const Integer first = bound(part(start), by < 0 ? high : low);
  const Integer last = bound(part(stop), by < 0 ? low : high);
  SliceBounds out;
  out.start = static_cast<std::int64_t>(first);
  out.step = static_cast<std::int64_t>(by);
  if (by > 0 && first < last) out.count = static_cast<std::size_t>((last - first - 1) / by + 1);
  if (by < 0 && last < first) out.count = static_cast<std::size_t>((first - last - 1) / -by + 1);
  return out;
}

Value slice_string(Runtime& runtime, const String& string, const SliceBounds& bounds) {
  runtime.reserve(string.text.size());
  const bool ascii = string.length == string.text.size();
  const auto start = static_cast<std::size_t>(bounds.start);
  if (bounds.count == 0) return runtime.string(std::string(), string.markup);
  if (bounds.step == 1) {
    const std::size_t begin = ascii ? start : byte_of_code_point(string.text, start);
    const std::string_view tail = std::string_view(string.text).substr(begin);
    return runtime.string(
        std::string(tail.substr(0, ascii ? bounds.count : byte_of_code_point(tail, bounds.count))),
        string.markup);
  }
  runtime.reserve(string.length * sizeof(std::size_t));
  std::vector<std::size_t> offsets;
  offsets.reserve(string.length);
  for (std::size_t i = 0; i < string.text.size(); i += next_char(string.text, i).size) offsets.push_back(i);
  std::string out;
  std::int64_t at = bounds.start;
  for (std::size_t i = 0; i < bounds.count; ++i, at += bounds.step) {
    const std::size_t offset = offsets[static_cast<std::size_t>(at)];
    out += string.text.substr(offset, next_char(string.text, offset).size);
  }
  return runtime.string(std::move(out), string.markup);
}

Value slice_range(Runtime& runtime, const Range& range, const SliceBounds& bounds) {
  auto out = std::make_shared<Range>();
  runtime.step();
  const auto end = static_cast<Integer>(bounds.start) + static_cast<Integer>(bounds.count) * bounds.step;
  Integer stop = 0;
  if (__builtin_mul_overflow(range.step, static_cast<Integer>(bounds.step), &out->step) ||
      __builtin_mul_overflow(end, range.step, &stop) ||
      __builtin_add_overflow(stop, range.start, &out->stop)) {
    refuse_big_integer(runtime);
  }
  out->start = range.start + bounds.start * range.step;
  out->count = bounds.count;
  return Value::object(Kind::kRange, std::move(out));
}

class SequenceIterator final : public Iterator {
 public:
  explicit SequenceIterator(Value sequence) : sequence_(std::move(sequence)) {}
  bool next(Runtime& runtime, Value& out) override {
    runtime.step();
    switch (sequence_.kind()) {
      case Kind::kList:
      case Kind::kTuple:
        if (position_ >= sequence_.items().size()) return false;
        out = sequence_.items()[position_++];
        return true;
      case Kind::kDict:
        if (position_ >= sequence_.as<Dict>().size()) return false;
        out = sequence_.as<Dict>().entries()[position_++].first;
        return true;
      case Kind::kView:
        if (position_ >= sequence_.as<View>().of().size()) return false;
        out = view_element(runtime, sequence_.as<View>(), position_++);
        return true;
      case Kind::kRange:
        if (position_ >= sequence_.as<Range>().count) return false;
        out = Value::integer(sequence_.as<Range>().at(position_++));
        return true;
      case Kind::kString: {
        const std::string& text = sequence_.text();
        if (position_ >= text.size()) return false;
        const std::size_t size = next_char(text, position_).size;
        out = runtime.string(text.substr(position_, size));
        position_ += size;
        return true;
      }
      default:
        return false;
    }
  }

 private:
  Value sequence_;
  std::size_t position_ = 0;
};

}  // namespace

void require_defined(Runtime& runtime, const Value& value) {
  if (value.is_undefined()) runtime.fail_with(value.as<UndefinedInfo>().message);
}

std::int64_t integer_argument(Runtime& runtime, const Value& value, std::string_view what) {
  require_defined(runtime, value);
  if (!value.is_integral()) runtime.fail("{} has to be an integer, not '{}'", what, type_name(value));
  if (value.integral() < std::numeric_limits<std::int64_t>::min() ||
      value.integral() > std::numeric_limits<std::int64_t>::max()) {
    runtime.fail("{} is too large", what);
  }
  return static_cast<std::int64_t>(value.integral());
}

const std::string& string_argument(Runtime& runtime, const Value& value, std::string_view what) {
  require_defined(runtime, value);
  if (!value.is_string()) runtime.fail("{} has to be a string, not '{}'", what, type_name(value));
  return value.text();
}

Value binary(Runtime& runtime, std::string_view op, const Value& a, const Value& b) {
  if (op == "%" && a.is_string()) return format_percent(runtime, a, b);
  if (a.is_numeric() && b.is_numeric()) return numeric(runtime, op, a, b);
  if (op == "+") return add(runtime, a, b);
  if (op == "*") {
    if (repeatable(a) && b.is_integral()) return repeat(runtime, a, b.integral());
    if (repeatable(b) && a.is_integral()) return repeat(runtime, b, a.integral());
  }
  if (op == "-" && a.is(Kind::kView)) runtime.refuse("set operations on dict views are not supported");
  fail_operands(runtime, op, a, b);
}

Value negative(Runtime& runtime, const Value& value) {
  if (value.is(Kind::kFloat)) return Value::number(-value.number());
  if (value.is_integral()) return integer_arithmetic(runtime, '-', 0, value.integral());
  require_defined(runtime, value);
  runtime.fail("bad operand type for unary -: '{}'", type_name(value));
}

Value positive(Runtime& runtime, const Value& value) {
  if (value.is(Kind::kFloat)) return value;
  if (value.is_integral()) return Value::integer(value.integral());
  require_defined(runtime, value);
  runtime.fail("bad operand type for unary +: '{}'", type_name(value));
}

bool contains(Runtime& runtime, const Value& container, const Value& item) {
  switch (container.kind()) {
    case Kind::kString:
      require_defined(runtime, item);
      if (!item.is_string()) runtime.fail("'in <string>' requires a string, not '{}'", type_name(item));
      runtime.step(container.text().size() / 16);
      return container.text().find(item.text()) != std::string::npos;
    case Kind::kDict:
      if (!hashable(item)) runtime.fail("unhashable type: '{}'", type_name(item));
      return container.as<Dict>().find(runtime, item) != nullptr;
    case Kind::kView:
      if (container.as<View>().kind == ViewKind::kKeys) {
        if (!hashable(item)) runtime.fail("unhashable type: '{}'", type_name(item));
        return container.as<View>().of().find(runtime, item) != nullptr;
      }
      if (container.as<View>().kind == ViewKind::kItems &&
          (!item.is(Kind::kTuple) || item.items().size() != 2 || !hashable(item.items()[0]))) {
        if (item.is(Kind::kTuple) && item.items().size() == 2) {
          runtime.fail("unhashable type: '{}'", type_name(item.items()[0]));
        }
        return false;
      }
      break;
    default:
      break;
  }
  const auto iterator = iterate(runtime, container);
  Value element;
  while (iterator->next(runtime, element)) {
    if (identical(element, item) || equal(runtime, element, item)) return true;
  }
  return false;
}

bool relation(Runtime& runtime, std::string_view op, const Value& a, const Value& b) {
  if (op == "==") return equal(runtime, a, b);
  if (op == "!=") return !equal(runtime, a, b);
  if (op == "in") return contains(runtime, b, a);
  if (op == "not in") return !contains(runtime, b, a);
  const auto order = compare(runtime, a, b);
  if (!order) return false;
  if (op == "<") return *order < 0;
  if (op == "<=") return *order <= 0;
  if (op == ">") return *order > 0;
  return *order >= 0;
}

Value get_attribute(Runtime& runtime, const Value& object, const Value& name) {
  require_defined(runtime, object);
  if (Value found = python_attribute(runtime, object, name); !found.is_missing()) return found;
  if (Value found = python_item(runtime, object, name); !found.is_missing()) return found;
  return no_attribute(runtime, object, name);
}

Value get_item(Runtime& runtime, const Value& object, const Value& key) {
  require_defined(runtime, object);
  if (Value found = python_item(runtime, object, key); !found.is_missing()) return found;
  if (key.is_string() && !key.text().empty()) {
    if (Value found = python_attribute(runtime, object, key); !found.is_missing()) return found;
  }
  return no_attribute(runtime, object, key);
}

Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                const Value& step) {
  require_defined(runtime, object);
  const bool sliceable = object.is_string() || object.is_sequence() || object.is(Kind::kRange);
  if (!sliceable) runtime.fail("'{}' object cannot be sliced", type_name(object));
  const SliceBounds bounds = slice_bounds(runtime, *length_of(runtime, object), start, stop, step);
  if (object.is_string()) return slice_string(runtime, object.as<String>(), bounds);
  if (object.is(Kind::kRange)) return slice_range(runtime, object.as<Range>(), bounds);
  std::vector<Value> items;
  runtime.reserve(bounds.count * sizeof(Value));
  items.reserve(bounds.count);
  std::int64_t at = bounds.start;
  for (std::size_t i = 0; i < bounds.count; ++i, at += bounds.step) {
    items.push_back(object.items()[static_cast<std::size_t>(at)]);
  }
  return object.is(Kind::kList) ? runtime.list(std::move(items)) : runtime.tuple(std::move(items));
}

Value view_element(Runtime& runtime, const View& view, std::size_t i) {
  const auto& [key, value] = view.of().entries()[i];
  if (view.kind == ViewKind::kKeys) return key;
  if (view.kind == ViewKind::kValues) return value;
  return runtime.tuple({key, value});
}

bool is_iterable(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kRange:
    case Kind::kView:
    case Kind::kIterator:
      return true;
    default:
      return false;
  }
}

std::shared_ptr<Iterator> iterate(Runtime& runtime, const Value& value) {
  if (value.is(Kind::kIterator)) return std::static_pointer_cast<Iterator>(value.object());
  if (!is_iterable(value)) runtime.fail("'{}' object is not iterable", type_name(value));
  return std::make_shared<SequenceIterator>(value);
}

std::vector<Value> to_vector(Runtime& runtime, const Value& value) {
  if (value.is_sequence()) {
    runtime.reserve(value.items().size() * sizeof(Value));
    return value.items();
  }
  std::vector<Value> out;
  const auto iterator = iterate(runtime, value);
  Value element;
  while (iterator->next(runtime, element)) {
    if (out.size() == out.capacity()) runtime.reserve(2 * (out.size() + 1) * sizeof(Value));
    out.push_back(std::move(element));
  }
  return out;
}

AttributePath attribute_path(Runtime& runtime, const Value& attribute) {
  if (attribute.is_missing() || attribute.is_none()) return {};
  if (!attribute.is_string()) return {attribute};
  AttributePath path;
  std::string_view rest = attribute.text();
  while (true) {
    const std::size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    const bool digits = !part.empty() && part.size() < 19 &&
                        std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; });
    path.push_back(digits ? Value::integer(std::stoll(std::string(part))) : runtime.string(part));
    if (dot == std::string_view::npos) return path;
    rest.remove_prefix(dot + 1);
  }
}

Value follow_path(Runtime& runtime, const AttributePath& path, Value value, const Value& default_value) {
  for (const Value& part : path) {
    value = get_item(runtime, value, part);
    if (value.is_undefined() && !default_value.is_missing() && !default_value.is_none())
      value = default_value;
  }
  return value;
}

bool is_callable(const Value& value) {
  // Undefined values have a __call__, which fails.
  return value.is_undefined() || (value.is(Kind::kInstance) && value.as<Instance>().callable());
}

Value call_value(Runtime& runtime, const Value& callee, const Arguments& arguments) {
  require_defined(runtime, callee);
  if (!is_callable(callee)) runtime.fail("'{}' object is not callable", type_name(callee));
  // The call may drop the last other reference to the callee.
  const Value held = callee;  // NOLINT(performance-unnecessary-copy-initialization)
  return held.as<Instance>().call(runtime, arguments);
}

}  // namespace sabrewing::text::jinja
