#pragma once

#include <fmt/core.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/json.h"
#include "text/jinja_limits.h"

/// The values of chat templates, with the semantics of the Python objects that transformers' renderer
/// computes with. All of them are immutable but namespaces, loops and iterators.
namespace sabrewing::text::jinja {

// An alias cannot carry `__extension__`, without which 128-bit integers are a warning.
/// Integers past 127 bits are refused.
__extension__ typedef __int128 Integer;  // NOLINT(modernize-use-using)
/// Holds the magnitude of every `Integer`.
__extension__ typedef unsigned __int128 Magnitude;  // NOLINT(modernize-use-using)

enum class Kind : std::uint8_t {
  kMissing,  ///< internal: an absent argument or an unassigned variable; never seen by a template
  kUndefined,
  kNone,
  kBool,
  kInt,
  kFloat,
  kString,
  kList,
  kTuple,
  kDict,
  kRange,
  kView,       ///< dict.keys(), dict.values(), dict.items()
  kNamespace,  ///< namespace(...)
  kIterator,   ///< generators and other single-pass iterators
  kInstance,   ///< functions, bound methods, macros, loop, cycler, joiner
};

class Runtime;
class Value;

/// Base of everything that is held by reference. `depth` bounds the nesting of immutable values, so
/// that recursive walks and destructors stay shallow.
class Object {
 public:
  Object() = default;
  virtual ~Object();
  Object(const Object&) = delete;
  Object& operator=(const Object&) = delete;

  int depth = 0;
};

class Value {
 public:
  Value() = default;  ///< missing
  static Value none() { return Value(Kind::kNone); }
  static Value boolean(bool value) {
    Value out(Kind::kBool);
    out.integer_ = value ? 1 : 0;
    return out;
  }
  static Value integer(Integer value) {
    Value out(Kind::kInt);
    out.integer_ = value;
    return out;
  }
  static Value number(double value) {
    Value out(Kind::kFloat);
    out.number_ = value;
    return out;
  }
  static Value object(Kind kind, std::shared_ptr<Object> value) {
    Value out(kind);
    out.object_ = std::move(value);
    return out;
  }

  Kind kind() const { return kind_; }
  bool is(Kind kind) const { return kind_ == kind; }
  bool is_missing() const { return kind_ == Kind::kMissing; }
  bool is_undefined() const { return kind_ == Kind::kUndefined; }
  bool is_none() const { return kind_ == Kind::kNone; }
  bool is_string() const { return kind_ == Kind::kString; }
  bool is_sequence() const { return kind_ == Kind::kList || kind_ == Kind::kTuple; }
  /// Booleans are integers, as in Python.
  bool is_integral() const { return kind_ == Kind::kInt || kind_ == Kind::kBool; }
  bool is_numeric() const { return is_integral() || kind_ == Kind::kFloat; }

  Integer integral() const { return integer_; }  ///< kInt, kBool
  double number() const { return number_; }      ///< kFloat
  double as_double() const { return kind_ == Kind::kFloat ? number_ : static_cast<double>(integer_); }
  const std::shared_ptr<Object>& object() const { return object_; }
  template <typename T>
  T& as() const {
    return static_cast<T&>(*object_);
  }

  const std::string& text() const;          ///< kString
  bool is_markup() const;                   ///< a string that the safe or escape filter made
  const std::vector<Value>& items() const;  ///< kList, kTuple
  int depth() const { return object_ ? object_->depth : 0; }

 private:
  explicit Value(Kind kind) : kind_(kind) {}

  // NOLINTBEGIN(readability-identifier-naming): private, though members of an anonymous union look public
  union {
    Integer integer_ = 0;
    double number_;
  };
  // NOLINTEND(readability-identifier-naming)
  std::shared_ptr<Object> object_;
  Kind kind_ = Kind::kMissing;
};

/// Bytes held by the values of one rendering; gives them back when the value dies.
class Charge {
 public:
  Charge() = default;
  Charge(std::shared_ptr<std::size_t> live, std::size_t bytes) : live_(std::move(live)), bytes_(bytes) {
    *live_ += bytes_;
  }
  ~Charge() {
    if (live_) *live_ -= bytes_;
  }
  Charge(const Charge&) = delete;
  Charge& operator=(const Charge&) = delete;
  Charge(Charge&& other) noexcept : live_(std::move(other.live_)), bytes_(other.bytes_) {}
  Charge& operator=(Charge&& other) noexcept {
    std::swap(live_, other.live_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }

 private:
  std::shared_ptr<std::size_t> live_;
  std::size_t bytes_ = 0;
};

class String final : public Object {
 public:
  String(std::string value, bool is_markup);

  std::string text;
  std::size_t length;  ///< code points; equal to the size for ASCII
  bool markup;
  Charge charge;
};

class List final : public Object {
 public:
  std::vector<Value> items;
  bool is_group = false;  ///< a (grouper, list) pair of the groupby filter, which has those attributes
  Charge charge;
};

/// Keeps the order of insertion; never loses an entry.
class Dict final : public Object {
 public:
  const Value* find(Runtime& runtime, const Value& key) const;
  const Value* find(std::string_view key) const;
  /// A new key goes last, an old one keeps its place.
  void set(Runtime& runtime, const Value& key, Value value);
  const std::vector<std::pair<Value, Value>>& entries() const { return entries_; }
  std::size_t size() const { return entries_.size(); }
  void clear();

 private:
  std::optional<std::size_t> locate(Runtime& runtime, const Value& key, std::size_t hash) const;

  std::vector<std::pair<Value, Value>> entries_;
  std::unordered_multimap<std::size_t, std::size_t> index_;
  std::vector<Charge> charges_;
};

class Range final : public Object {
 public:
  Integer start = 0;
  Integer step = 1;
  std::size_t count = 0;
  Integer stop = 0;
  Integer at(std::size_t i) const { return start + static_cast<Integer>(i) * step; }
};

enum class ViewKind : std::uint8_t { kKeys, kValues, kItems };

class View final : public Object {
 public:
  View(Value source, ViewKind view_kind);
  const Dict& of() const { return dict.as<Dict>(); }

  Value dict;
  ViewKind kind;
};

class Namespace final : public Object {
 public:
  Dict attributes;
  Charge charge;
};

/// What an undefined value says when it is used.
class UndefinedInfo final : public Object {
 public:
  explicit UndefinedInfo(std::string text) : message(std::move(text)) {}
  std::string message;
};

/// A single-pass iterator. `depth` counts the iterators that it draws from.
class Iterator : public Object {
 public:
  virtual bool next(Runtime& runtime, Value& out) = 0;
  virtual std::string repr() const { return "<generator object>"; }
};

struct Arguments {
  int depth() const;

  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// An object with attributes and behaviour of its own.
class Instance : public Object {
 public:
  virtual std::string type_name() const = 0;
  virtual std::string repr(Runtime& runtime) const;
  /// Missing when there is no such attribute.
  virtual Value attribute(Runtime& runtime, std::string_view name);
  virtual bool callable() const { return false; }
  virtual Value call(Runtime& runtime, const Arguments& arguments);
  virtual std::optional<std::size_t> length(Runtime& runtime);
};

/// The state that every operation of one rendering shares: limits, the current line, allocation.
class Runtime {
 public:
  Runtime(const TemplateLimits& limits, const LocalTime& now);
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  /// Throws "[chat template] line N: message" as an `Error{kInvalidArgument}`.
  template <typename... Args>
  [[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) const {
    fail_with(fmt::format(format, std::forward<Args>(args)...));
  }
  [[noreturn]] void fail_with(const std::string& message) const;
  /// The same as an `Error{kUnsupported}`.
  [[noreturn]] void refuse(const std::string& message) const;

  /// Counts work.
  void step(std::size_t count = 1) {
    steps_ += count;
    if (steps_ > limits_.steps) fail_steps();
  }
  /// To be called before `bytes` are built: checks the memory limit and counts the work.
  void reserve(std::size_t bytes);
  /// The same for `count` copies of `bytes`.
  void reserve_product(std::size_t bytes, std::size_t count);

  Value string(std::string text, bool markup = false);
  Value string(std::string_view text) { return string(std::string(text)); }
  Value list(std::vector<Value> items) { return sequence(Kind::kList, std::move(items)); }
  Value tuple(std::vector<Value> items) { return sequence(Kind::kTuple, std::move(items)); }
  Value group(Value grouper, Value items);
  /// `Dict`s are filled before they become values.
  std::shared_ptr<Dict> new_dict() const { return std::make_shared<Dict>(); }
  Value dict(std::shared_ptr<Dict> entries);
  Value view(Value of, ViewKind kind);
  /// `held` is the depth of the deepest value that the object refers to.
  Value iterator(std::shared_ptr<Iterator> iterator, int held);
  Value instance(std::shared_ptr<Instance> instance, int held = 0);
  Value new_namespace();
  Value undefined(std::string message) const;
  /// Keeps an object that may be part of a cycle; the references that it holds are dropped at the end.
  template <typename T>
  void adopt(const std::shared_ptr<T>& object) {
    adopted_.push_back(object);
    clearers_.push_back([](Object& held) { static_cast<T&>(held).clear(); });
  }
  Charge charge(std::size_t bytes);

  const TemplateLimits& limits() const { return limits_; }
  const LocalTime& now() const { return now_; }

  int line = 1;
  int depth = 0;

 private:
  Value sequence(Kind kind, std::vector<Value> items);
  int checked_depth(int depth_inside) const;
  [[noreturn]] void fail_steps() const;

  TemplateLimits limits_;
  LocalTime now_;
  std::size_t steps_ = 0;
  std::shared_ptr<std::size_t> live_;
  std::vector<std::shared_ptr<Object>> adopted_;
  std::vector<void (*)(Object&)> clearers_;
};

/// Counts one level of recursion while it lives.
class DepthGuard {
 public:
  explicit DepthGuard(Runtime& runtime) : runtime_(runtime) {
    if (++runtime_.depth > runtime_.limits().depth) {
      --runtime_.depth;
      runtime_.fail("nested or recursive more than {} levels deep", runtime_.limits().depth);
    }
  }
  ~DepthGuard() { --runtime_.depth; }
  DepthGuard(const DepthGuard&) = delete;
  DepthGuard& operator=(const DepthGuard&) = delete;

 private:
  Runtime& runtime_;
};

/// "str", "int", "list", ... as in Python's messages.
std::string type_name(const Value& value);
bool truthy(Runtime& runtime, const Value& value);
/// Nothing where Python's len() raises a TypeError.
std::optional<std::size_t> length_of(Runtime& runtime, const Value& value);
bool hashable(const Value& value);
std::size_t hash_value(Runtime& runtime, const Value& value);
bool equal(Runtime& runtime, const Value& a, const Value& b);
/// -1, 0 or 1; nothing for unordered numbers (NaN). Fails for kinds that Python does not order.
std::optional<int> compare(Runtime& runtime, const Value& a, const Value& b);
/// Python's `is`, as far as values have an identity.
bool identical(const Value& a, const Value& b);

/// Python's str(), repr() and float.__repr__.
std::string str(Runtime& runtime, const Value& value);
std::string repr(Runtime& runtime, const Value& value);
std::string float_repr(double value);
std::string integer_text(Integer value);
std::string string_repr(std::string_view text);
/// HTML-escapes what is not markup already.
std::string escape_html(Runtime& runtime, const Value& value);

Value from_json(Runtime& runtime, const OrderedJson& json);

}  // namespace sabrewing::text::jinja
