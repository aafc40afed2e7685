#include "text/jinja_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <limits>

#include "core/error.h"
#include "text/jinja_unicode.h"
#include "text/utf8.h"

namespace sabrewing::text::jinja {
namespace {

/// Immutable values nest at most this deep.
constexpr int kMaxValueDepth = 200;
constexpr std::size_t kSmallDict = 8;

constexpr double kTwoTo127 = 170141183460469231731687303715884105728.0;

int compare_numbers(const Value& a, const Value& b) {
  if (a.is_integral() && b.is_integral()) {
    return a.integral() < b.integral() ? -1 : a.integral() > b.integral() ? 1 : 0;
  }
  if (a.is(Kind::kFloat) && b.is(Kind::kFloat)) {
    return a.number() < b.number() ? -1 : a.number() > b.number() ? 1 : 0;
  }
  if (a.is(Kind::kFloat)) return -compare_numbers(b, a);
  const double right = b.number();
  if (right >= kTwoTo127) return -1;
  if (right < -kTwoTo127) return 1;
  const double whole = std::floor(right);
  const Integer integral = static_cast<Integer>(whole);
  if (a.integral() != integral) return a.integral() < integral ? -1 : 1;
  return right > whole ? -1 : 0;
}

bool is_nan(const Value& value) { return value.is(Kind::kFloat) && std::isnan(value.number()); }

std::size_t mix(std::size_t seed, std::size_t hash) {
  return seed ^ (hash + 0x9E3779B97F4A7C15ULL + (seed << 6) + (seed >> 2));
}

bool ranges_equal(const Range& a, const Range& b) {
  if (a.count != b.count) return false;
  if (a.count == 0) return true;
  return a.start == b.start && (a.count == 1 || a.step == b.step);
}

bool dicts_equal(Runtime& runtime, const Dict& a, const Dict& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [key, value] : a.entries()) {
    const Value* other = b.find(runtime, key);
    if (other == nullptr || !equal(runtime, value, *other)) return false;
  }
  return true;
}

/// Keys and items are sets for `==`.
bool views_equal(Runtime& runtime, const View& a, const View& b) {
  if (&a == &b) return true;
  if (a.kind != b.kind || a.kind == ViewKind::kValues) return false;
  if (a.kind == ViewKind::kItems) return dicts_equal(runtime, a.of(), b.of());
  if (a.of().size() != b.of().size()) return false;
  for (const auto& entry : a.of().entries()) {
    if (b.of().find(runtime, entry.first) == nullptr) return false;
  }
  return true;
}

class Writer {
 public:
  explicit Writer(Runtime& runtime) : runtime_(runtime) {}

  void value(const Value& value) {
    const DepthGuard guard(runtime_);
    runtime_.step();
    switch (value.kind()) {
      case Kind::kMissing:
        add("missing");
        break;
      case Kind::kUndefined:
        add("Undefined");
        break;
      case Kind::kNone:
        add("None");
        break;
      case Kind::kBool:
        add(value.integral() != 0 ? "True" : "False");
        break;
      case Kind::kInt:
        add(integer_text(value.integral()));
        break;
      case Kind::kFloat:
        add(float_repr(value.number()));
        break;
      case Kind::kString:
        if (value.is_markup()) {
          add(fmt::format("Markup({})", string_repr(value.text())));
        } else {
          add(string_repr(value.text()));
        }
        break;
      case Kind::kList:
        sequence('[', value.items(), ']');
        break;
      case Kind::kTuple:
        sequence('(', value.items(), value.items().size() == 1 ? ',' : ')');
        if (value.items().size() == 1) add(")");
        break;
      case Kind::kDict:
        dict(value.as<Dict>());
        break;
      case Kind::kRange:
        range(value.as<Range>());
        break;
      case Kind::kView:
        view(value.as<View>());
        break;
      case Kind::kNamespace:
        name_space(value.as<Namespace>());
        break;
      case Kind::kIterator:
        add(value.as<Iterator>().repr());
        break;
      case Kind::kInstance:
        add(value.as<Instance>().repr(runtime_));
        break;
    }
  }

  std::string take() { return std::move(out_); }

 private:
  void add(std::string_view text) {
    runtime_.reserve(text.size());
    out_ += text;
    SABREWING_CHECK(out_.size() <= runtime_.limits().memory_bytes, kInvalidArgument,
                    "[chat template] line {}: more than {} bytes of memory", runtime_.line,
                    runtime_.limits().memory_bytes);
  }

  void sequence(char open, const std::vector<Value>& items, char close) {
    out_ += open;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i != 0) add(", ");
      value(items[i]);
    }
    out_ += close;
  }

  void dict(const Dict& dict) {
    add("{");
    bool first = true;
    for (const auto& [key, item] : dict.entries()) {
      if (!first) add(", ");
      first = false;
      value(key);
      add(": ");
      value(item);
    }
    add("}");
  }

  void range(const Range& range) {
    add(fmt::format("range({}, {}", integer_text(range.start), integer_text(range.stop)));
    if (range.step != 1) add(fmt::format(", {}", integer_text(range.step)));
    add(")");
  }

  void view(const View& view) {
    constexpr const char* kNames[] = {"dict_keys([", "dict_values([", "dict_items(["};
    add(kNames[static_cast<int>(view.kind)]);
    bool first = true;
    for (const auto& [key, item] : view.of().entries()) {
      if (!first) add(", ");
      first = false;
      if (view.kind == ViewKind::kItems) {
        add("(");
        value(key);
        add(", ");
        value(item);
        add(")");
      } else {
        value(view.kind == ViewKind::kKeys ? key : item);
      }
    }
    add("])");
  }

  void name_space(const Namespace& object) {
    add("<Namespace ");
    if (std::find(open_.begin(), open_.end(), &object) != open_.end()) {
      add("{...}");
    } else {
      open_.push_back(&object);
      dict(object.attributes);
      open_.pop_back();
    }
    add(">");
  }

  Runtime& runtime_;
  std::string out_;
  std::vector<const Namespace*> open_;
};

}  // namespace

Object::~Object() = default;

String::String(std::string value, bool is_markup)
    : text(std::move(value)), length(count_code_points(text)), markup(is_markup) {}

View::View(Value source, ViewKind view_kind) : dict(std::move(source)), kind(view_kind) {}

const std::string& Value::text() const { return as<String>().text; }
bool Value::is_markup() const { return kind_ == Kind::kString && as<String>().markup; }
const std::vector<Value>& Value::items() const { return as<List>().items; }

std::optional<std::size_t> Dict::locate(Runtime& runtime, const Value& key, std::size_t hash) const {
  if (entries_.size() <= kSmallDict) {
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      if (equal(runtime, entries_[i].first, key)) return i;
    }
    return std::nullopt;
  }
  const auto [begin, end] = index_.equal_range(hash);
  for (auto it = begin; it != end; ++it) {
    if (equal(runtime, entries_[it->second].first, key)) return it->second;
  }
  return std::nullopt;
}

const Value* Dict::find(Runtime& runtime, const Value& key) const {
  const auto at = locate(runtime, key, entries_.size() <= kSmallDict ? 0 : hash_value(runtime, key));
  return at ? &entries_[*at].second : nullptr;
}

const Value* Dict::find(std::string_view key) const {
  const auto matches = [&](const Value& candidate) {
    return candidate.is_string() && candidate.text() == key;
  };
  if (entries_.size() <= kSmallDict) {
    for (const auto& entry : entries_) {
      if (matches(entry.first)) return &entry.second;
    }
    return nullptr;
  }
  const auto [begin, end] = index_.equal_range(std::hash<std::string_view>{}(key));
  for (auto it = begin; it != end; ++it) {
    if (matches(entries_[it->second].first)) return &entries_[it->second].second;
  }
  return nullptr;
}

void Dict::set(Runtime& runtime, const Value& key, Value value) {
  if (!hashable(key)) runtime.fail("unhashable type: '{}'", type_name(key));
  const std::size_t hash = hash_value(runtime, key);
  if (const auto at = locate(runtime, key, hash)) {
    entries_[*at].second = std::move(value);
    return;
  }
  runtime.step();
  if (charges_.empty() || entries_.size() >= kSmallDict)
    charges_.push_back(runtime.charge(2 * sizeof(Value)));
  index_.emplace(hash, entries_.size());
  entries_.emplace_back(key, std::move(value));
}

void Dict::clear() {
  entries_.clear();
  index_.clear();
  charges_.clear();
}

int Arguments::depth() const {
  int out = 0;
  for (const Value& value : positional) out = std::max(out, value.depth());
  for (const auto& item : named) out = std::max(out, item.second.depth());
  return out;
}

std::string Instance::repr(Runtime&) const { return fmt::format("<{} object>", type_name()); }
Value Instance::attribute(Runtime&, std::string_view) { return {}; }
Value Instance::call(Runtime& runtime, const Arguments&) {
  runtime.fail("'{}' object is not callable", type_name());
}
std::optional<std::size_t> Instance::length(Runtime&) { return std::nullopt; }

Runtime::Runtime(const TemplateLimits& limits, const LocalTime& now)
    : limits_(limits), now_(now), live_(std::make_shared<std::size_t>(0)) {}

Runtime::~Runtime() {
  for (std::size_t i = 0; i < adopted_.size(); ++i) clearers_[i](*adopted_[i]);
}

void Runtime::fail_with(const std::string& message) const {
  throw Error(ErrorCode::kInvalidArgument, fmt::format("[chat template] line {}: {}", line, message));
}

void Runtime::refuse(const std::string& message) const {
  throw Error(ErrorCode::kUnsupported, fmt::format("[chat template] line {}: {}", line, message));
}

void Runtime::fail_steps() const { fail("more than {} steps", limits_.steps); }

void Runtime::reserve(std::size_t bytes) {
  step(bytes / 64);
  if (bytes > limits_.memory_bytes || *live_ > limits_.memory_bytes - bytes) {
    fail("more than {} bytes of memory", limits_.memory_bytes);
  }
}

void Runtime::reserve_product(std::size_t bytes, std::size_t count) {
  if (bytes == 0 || count == 0) return;
  if (count > limits_.memory_bytes / bytes) fail("more than {} bytes of memory", limits_.memory_bytes);
  reserve(bytes * count);
}

Charge Runtime::charge(std::size_t bytes) {
  reserve(bytes);
  return {live_, bytes};
}

Value Runtime::string(std::string text, bool markup) {
  Charge charged = charge(text.size() + sizeof(String));
  auto object = std::make_shared<String>(std::move(text), markup);
  object->charge = std::move(charged);
  return Value::object(Kind::kString, std::move(object));
}

int Runtime::checked_depth(int depth_inside) const {
  if (depth_inside + 1 > kMaxValueDepth) fail("a value is nested more than {} levels deep", kMaxValueDepth);
  return depth_inside + 1;
}

Value Runtime::sequence(Kind kind, std::vector<Value> items) {
  Charge charged = charge(items.size() * sizeof(Value) + sizeof(List));
  auto object = std::make_shared<List>();
  int inside = 0;
  for (const Value& item : items) inside = std::max(inside, item.depth());
  object->depth = checked_depth(inside);
  object->items = std::move(items);
  object->charge = std::move(charged);
  return Value::object(kind, std::move(object));
}

Value Runtime::group(Value grouper, Value items) {
  Value out = tuple({std::move(grouper), std::move(items)});
  out.as<List>().is_group = true;
  return out;
}

Value Runtime::dict(std::shared_ptr<Dict> entries) {
  int inside = 0;
  for (const auto& [key, value] : entries->entries()) inside = std::max({inside, key.depth(), value.depth()});
  entries->depth = checked_depth(inside);
  return Value::object(Kind::kDict, std::move(entries));
}

Value Runtime::view(Value of, ViewKind kind) {
  auto object = std::make_shared<View>(std::move(of), kind);
  object->depth = checked_depth(object->dict.depth());
  return Value::object(Kind::kView, std::move(object));
}

Value Runtime::iterator(std::shared_ptr<Iterator> iterator, int held) {
  step();
  iterator->depth = checked_depth(held);
  return Value::object(Kind::kIterator, std::move(iterator));
}

Value Runtime::instance(std::shared_ptr<Instance> instance, int held) {
  step();
  instance->depth = checked_depth(held);
  return Value::object(Kind::kInstance, std::move(instance));
}

Value Runtime::new_namespace() {
  auto object = std::make_shared<Namespace>();
  object->charge = charge(sizeof(Namespace));
  adopted_.push_back(object);
  clearers_.push_back([](Object& held) { static_cast<Namespace&>(held).attributes.clear(); });
  return Value::object(Kind::kNamespace, std::move(object));
}

Value Runtime::undefined(std::string message) const {
  return Value::object(Kind::kUndefined, std::make_shared<UndefinedInfo>(std::move(message)));
}

std::string type_name(const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
      return "missing";
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kFloat:
      return "float";
    case Kind::kString:
      return value.is_markup() ? "Markup" : "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kRange:
      return "range";
    case Kind::kView: {
      constexpr const char* kNames[] = {"dict_keys", "dict_values", "dict_items"};
      return kNames[static_cast<int>(value.as<View>().kind)];
    }
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kIterator:
      return "generator";
    case Kind::kInstance:
      return value.as<Instance>().type_name();
  }
  return "object";
}

std::optional<std::size_t> length_of(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return value.as<String>().length;
    case Kind::kList:
    case Kind::kTuple:
      return value.items().size();
    case Kind::kDict:
      return value.as<Dict>().size();
    case Kind::kRange:
      return value.as<Range>().count;
    case Kind::kView:
      return value.as<View>().of().size();
    case Kind::kInstance:
      return value.as<Instance>().length(runtime);
    default:
      return std::nullopt;
  }
}

bool truthy(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return value.integral() != 0;
    case Kind::kFloat:
      return value.number() != 0.0;
    case Kind::kNamespace:
    case Kind::kIterator:
      return true;
    default:
      return length_of(runtime, value).value_or(1) != 0;
  }
}

bool hashable(const Value& value) {
  switch (value.kind()) {
    case Kind::kList:
    case Kind::kDict:
      return false;
    case Kind::kView:
      return value.as<View>().kind == ViewKind::kValues;
    case Kind::kTuple:
      return std::all_of(value.items().begin(), value.items().end(), hashable);
    default:
      return true;
  }
}

std::size_t hash_value(Runtime& runtime, const Value& value) {
  switch (value.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return static_cast<std::size_t>(value.kind());
    case Kind::kBool:
    case Kind::kInt:
      return std::hash<std::uint64_t>{}(static_cast<std::uint64_t>(value.integral()));
    case Kind::kFloat: {
      const double number = value.number();
      if (std::fabs(number) < kTwoTo127 && number == std::floor(number)) {
        return std::hash<std::uint64_t>{}(static_cast<std::uint64_t>(static_cast<Integer>(number)));
      }
      return std::hash<double>{}(number);
    }
    case Kind::kString:
      runtime.step(value.text().size() / 64);
      return std::hash<std::string_view>{}(value.text());
    case Kind::kTuple: {
      std::size_t hash = 17;
      for (const Value& item : value.items()) {
        runtime.step();
        hash = mix(hash, hash_value(runtime, item));
      }
      return hash;
    }
    case Kind::kRange:
      return mix(value.as<Range>().count, static_cast<std::size_t>(value.as<Range>().start));
    default:
      return std::hash<const void*>{}(value.object().get());
  }
}

bool identical(const Value& a, const Value& b) {
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kMissing:
    case Kind::kNone:
      return true;
    case Kind::kBool:
    case Kind::kInt:
      return a.integral() == b.integral();
    case Kind::kFloat:
      return false;
    default:
      return a.object() == b.object();
  }
}

bool equal(Runtime& runtime, const Value& a, const Value& b) {
  runtime.step();
  if (a.is_numeric() && b.is_numeric()) return !is_nan(a) && !is_nan(b) && compare_numbers(a, b) == 0;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kMissing:
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      if (a.text().size() != b.text().size()) return false;
      runtime.step(a.text().size() / 64);
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple: {
      if (a.object() == b.object()) return true;
      if (a.items().size() != b.items().size()) return false;
      for (std::size_t i = 0; i < a.items().size(); ++i) {
        if (!equal(runtime, a.items()[i], b.items()[i])) return false;
      }
      return true;
    }
    case Kind::kDict:
      return a.object() == b.object() || dicts_equal(runtime, a.as<Dict>(), b.as<Dict>());
    case Kind::kRange:
      return ranges_equal(a.as<Range>(), b.as<Range>());
    case Kind::kView:
      return views_equal(runtime, a.as<View>(), b.as<View>());
    default:
      return a.object() == b.object();
  }
}

std::optional<int> compare(Runtime& runtime, const Value& a, const Value& b) {
  runtime.step();
  if (a.is_numeric() && b.is_numeric()) {
    if (is_nan(a) || is_nan(b)) return std::nullopt;
    return compare_numbers(a, b);
  }
  if (a.is_string() && b.is_string()) {
    runtime.step(std::min(a.text().size(), b.text().size()) / 64);
    const int order = a.text().compare(b.text());
    return order < 0 ? -1 : order > 0 ? 1 : 0;
  }
  if (a.is_sequence() && a.kind() == b.kind()) {
    const std::size_t common = std::min(a.items().size(), b.items().size());
    for (std::size_t i = 0; i < common; ++i) {
      if (!equal(runtime, a.items()[i], b.items()[i])) return compare(runtime, a.items()[i], b.items()[i]);
    }
    return a.items().size() < b.items().size() ? -1 : a.items().size() > b.items().size() ? 1 : 0;
  }
  for (const Value* side : {&a, &b}) {
    if (side->is_undefined()) runtime.fail_with(side->as<UndefinedInfo>().message);
  }
  runtime.fail("'{}' and '{}' cannot be ordered", type_name(a), type_name(b));
}

std::string integer_text(Integer value) {
  if (value == 0) return "0";
  Magnitude rest = value < 0 ? -static_cast<Magnitude>(value) : static_cast<Magnitude>(value);
  std::string out;
  for (; rest != 0; rest /= 10) out += static_cast<char>('0' + static_cast<int>(rest % 10));
  if (value < 0) out += '-';
  std::reverse(out.begin(), out.end());
  return out;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  const std::size_t e = text.find('e');
  int exponent = 0;
  const bool negative_exponent = text[e + 1] == '-';
  std::from_chars(text.data() + e + 2, text.data() + text.size(), exponent);
  if (negative_exponent) exponent = -exponent;
  std::string digits;
  for (const char c : text.substr(0, e)) {
    if (c >= '0' && c <= '9') digits += c;
  }
  std::string out = text[0] == '-' ? "-" : "";
  if (exponent < -4 || exponent >= 16) {
    out += digits.substr(0, 1);
    if (digits.size() > 1) out.append(".").append(digits, 1);
    return out + fmt::format("e{}{:02}", exponent < 0 ? '-' : '+', std::abs(exponent));
  }
  if (exponent < 0)
    return out.append("0.").append(static_cast<std::size_t>(-exponent - 1), '0').append(digits);
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) return out + digits + std::string(whole - digits.size(), '0') + ".0";
  return out.append(digits, 0, whole).append(".").append(digits, whole);
}

std::string string_repr(std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out(1, quote);
  for (std::size_t i = 0; i < text.size();) {
    const Utf8Char c = next_char(text, i);
    i += c.size;
    const auto code = static_cast<std::uint32_t>(c.code_point);
    if (code == static_cast<unsigned char>(quote) || code == '\\') {
      out += '\\';
      out += static_cast<char>(code);
    } else if (code == '\n') {
      out += "\\n";
    } else if (code == '\r') {
      out += "\\r";
    } else if (code == '\t') {
      out += "\\t";
    } else if (is_printable(c.code_point)) {
      append_utf8(out, c.code_point);
    } else if (code < 0x100) {
      out += fmt::format("\\x{:02x}", code);
    } else if (code < 0x10000) {
      out += fmt::format("\\u{:04x}", code);
    } else {
      out += fmt::format("\\U{:08x}", code);
    }
  }
  return out + quote;
}

std::string repr(Runtime& runtime, const Value& value) {
  Writer writer(runtime);
  writer.value(value);
  return writer.take();
}

std::string str(Runtime& runtime, const Value& value) {
  if (value.is_string()) {
    runtime.reserve(value.text().size());
    return value.text();
  }
  if (value.is_undefined()) return {};
  return repr(runtime, value);
}

std::string escape_html(Runtime& runtime, const Value& value) {
  std::string text = str(runtime, value);
  if (value.is_markup()) return text;
  std::string out;
  runtime.reserve_product(text.size(), 5);
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

Value from_json(Runtime& runtime, const OrderedJson& json) {
  const DepthGuard guard(runtime);
  runtime.step();
  switch (json.type()) {
    case OrderedJson::value_t::null:
      return Value::none();
    case OrderedJson::value_t::boolean:
      return Value::boolean(json.get<bool>());
    case OrderedJson::value_t::number_integer:
      return Value::integer(json.get<std::int64_t>());
    case OrderedJson::value_t::number_unsigned:
      return Value::integer(json.get<std::uint64_t>());
    case OrderedJson::value_t::number_float:
      return Value::number(json.get<double>());
    case OrderedJson::value_t::string: {
      const auto& text = json.get_ref<const std::string&>();
      if (find_invalid_utf8(text)) runtime.fail_with("the context holds a string that is not UTF-8");
      return runtime.string(text);
    }
    case OrderedJson::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const OrderedJson& item : json) items.push_back(from_json(runtime, item));
      return runtime.list(std::move(items));
    }
    case OrderedJson::value_t::object: {
      auto entries = runtime.new_dict();
      for (const auto& [key, item] : json.items()) {
        entries->set(runtime, from_json(runtime, OrderedJson(key)), from_json(runtime, item));
      }
      return runtime.dict(std::move(entries));
    }
    default:
      runtime.fail_with("the context holds a value that is not JSON");
  }
}

}  // namespace sabrewing::text::jinja
