#include <algorithm>
#include <iterator>

#include "text/jinja_builtins.h"
#include "text/jinja_interpreter.h"
#include "text/jinja_ops.h"

namespace sabrewing::text::jinja {
namespace {

using Predicate = bool (*)(Runtime& runtime, const Value& value);

/// A test without arguments.
template <Predicate Test>
Value simple(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  bind_arguments(interpreter.runtime(), "test", arguments, {}, 0);
  return Value::boolean(Test(interpreter.runtime(), value));
}

template <Kind Wanted>
bool is_kind(Runtime&, const Value& value) {
  return value.is(Wanted);
}

bool is_defined(Runtime&, const Value& value) { return !value.is_undefined(); }
bool is_true(Runtime&, const Value& value) { return value.is(Kind::kBool) && value.integral() != 0; }
bool is_false(Runtime&, const Value& value) { return value.is(Kind::kBool) && value.integral() == 0; }
bool is_number(Runtime&, const Value& value) { return value.is_numeric(); }
bool is_callable_value(Runtime&, const Value& value) { return is_callable(value); }
bool is_iterable_value(Runtime&, const Value& value) { return is_iterable(value); }
bool is_escaped(Runtime& runtime, const Value& value) {
  static_cast<void>(runtime);
  return value.is_markup();
}
bool is_sequence_value(Runtime&, const Value& value) {
  return value.is_string() || value.is_sequence() || value.is(Kind::kDict) || value.is(Kind::kRange) ||
         value.is_undefined();
}

template <Integer Remainder>
bool has_parity(Runtime& runtime, const Value& value) {
  return equal(runtime, binary(runtime, "%", value, Value::integer(2)), Value::integer(Remainder));
}

/// islower() or isupper() of the value's text.
Value cased(Interpreter& interpreter, const Value& value, const Arguments& arguments,
            std::string_view method) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "test", arguments, {}, 0);
  bool forbidden = false;
  return call_value(runtime, find_method(runtime, runtime.string(str(runtime, value)), method, forbidden),
                    {});
}
Value test_lower(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return cased(interpreter, value, arguments, "islower");
}
Value test_upper(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  return cased(interpreter, value, arguments, "isupper");
}

Value test_divisibleby(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "divisibleby", arguments, {"num"}, 1);
  return Value::boolean(equal(runtime, binary(runtime, "%", value, bound[0]), Value::integer(0)));
}

Value test_in(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "in", arguments, {"seq"}, 1);
  return Value::boolean(contains(runtime, bound[0], value));
}

Value test_sameas(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, "sameas", arguments, {"other"}, 1);
  return Value::boolean(identical(value, bound[0]));
}

Value test_filter(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "filter", arguments, {}, 0);
  if (!hashable(value)) runtime.fail("unhashable type: '{}'", type_name(value));
  return Value::boolean(value.is_string() && find_filter(value.text()) != nullptr);
}

Value test_test(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  bind_arguments(runtime, "test", arguments, {}, 0);
  if (!hashable(value)) runtime.fail("unhashable type: '{}'", type_name(value));
  return Value::boolean(value.is_string() && find_test(value.text()) != nullptr);
}

/// A comparison operator; its operand cannot be named.
template <const char* Op>
Value comparison(Interpreter& interpreter, const Value& value, const Arguments& arguments) {
  Runtime& runtime = interpreter.runtime();
  const auto bound = bind_arguments(runtime, Op, arguments, {"/other"}, 1);
  return Value::boolean(relation(runtime, Op, value, bound[0]));
}
constexpr char kEqual[] = "==";
constexpr char kNotEqual[] = "!=";
constexpr char kLess[] = "<";
constexpr char kLessEqual[] = "<=";
constexpr char kGreater[] = ">";
constexpr char kGreaterEqual[] = ">=";

struct TestEntry {
  std::string_view name;
  Builtin function;
};

constexpr TestEntry kTests[] = {
    {"!=", comparison<kNotEqual>},
    {"<", comparison<kLess>},
    {"<=", comparison<kLessEqual>},
    {"==", comparison<kEqual>},
    {">", comparison<kGreater>},
    {">=", comparison<kGreaterEqual>},
    {"boolean", simple<is_kind<Kind::kBool>>},
    {"callable", simple<is_callable_value>},
    {"defined", simple<is_defined>},
    {"divisibleby", test_divisibleby},
    {"eq", comparison<kEqual>},
    {"equalto", comparison<kEqual>},
    {"escaped", simple<is_escaped>},
    {"even", simple<has_parity<0>>},
    {"false", simple<is_false>},
    {"filter", test_filter},
    {"float", simple<is_kind<Kind::kFloat>>},
    {"ge", comparison<kGreaterEqual>},
    {"greaterthan", comparison<kGreater>},
    {"gt", comparison<kGreater>},
    {"in", test_in},
    {"integer", simple<is_kind<Kind::kInt>>},
    {"iterable", simple<is_iterable_value>},
    {"le", comparison<kLessEqual>},
    {"lessthan", comparison<kLess>},
    {"lower", test_lower},
    {"lt", comparison<kLess>},
    {"mapping", simple<is_kind<Kind::kDict>>},
    {"ne", comparison<kNotEqual>},
    {"none", simple<is_kind<Kind::kNone>>},
    {"number", simple<is_number>},
    {"odd", simple<has_parity<1>>},
    {"sameas", test_sameas},
    {"sequence", simple<is_sequence_value>},
    {"string", simple<is_kind<Kind::kString>>},
    {"test", test_test},
    {"true", simple<is_true>},
    {"undefined", simple<is_kind<Kind::kUndefined>>},
    {"upper", test_upper},
};

}  // namespace

Builtin find_test(std::string_view name) {
  const auto* found =
      std::lower_bound(std::begin(kTests), std::end(kTests), name,
                       [](const TestEntry& entry, std::string_view wanted) { return entry.name < wanted; });
  return found != std::end(kTests) && found->name == name ? found->function : nullptr;
}

}  // namespace sabrewing::text::jinja
