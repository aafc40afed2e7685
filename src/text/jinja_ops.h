#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "text/jinja_value.h"

/// Python's operators, subscripts and iteration.
namespace sabrewing::text::jinja {

/// `op` is one of + - * / // % **.
Value binary(Runtime& runtime, std::string_view op, const Value& a, const Value& b);
Value negative(Runtime& runtime, const Value& value);
Value positive(Runtime& runtime, const Value& value);
bool contains(Runtime& runtime, const Value& container, const Value& item);
/// `op` is one of == != < <= > >= in "not in".
bool relation(Runtime& runtime, std::string_view op, const Value& a, const Value& b);

/// `object.name`: an attribute, else the item of that name, else undefined.
Value get_attribute(Runtime& runtime, const Value& object, const Value& name);
/// `object[key]`: the item, else the attribute of that name, else undefined.
Value get_item(Runtime& runtime, const Value& object, const Value& key);
/// `object[start:stop:step]`; absent parts are missing.
Value get_slice(Runtime& runtime, const Value& object, const Value& start, const Value& stop,
                const Value& step);

/// Fails for what Python cannot iterate.
std::shared_ptr<Iterator> iterate(Runtime& runtime, const Value& value);
bool is_iterable(const Value& value);
std::vector<Value> to_vector(Runtime& runtime, const Value& value);
/// A view's or dict's i-th element as iteration gives it.
Value view_element(Runtime& runtime, const View& view, std::size_t i);

/// The attribute path of filters such as map(attribute="a.b.0"), split once.
using AttributePath = std::vector<Value>;
AttributePath attribute_path(Runtime& runtime, const Value& attribute);
Value follow_path(Runtime& runtime, const AttributePath& path, Value value, const Value& default_value = {});

/// Fails with the message of an undefined value; does nothing for other values.
void require_defined(Runtime& runtime, const Value& value);
/// An argument that has to be an integer (or a boolean), within 64 bits.
std::int64_t integer_argument(Runtime& runtime, const Value& value, std::string_view what);
const std::string& string_argument(Runtime& runtime, const Value& value, std::string_view what);

Value call_value(Runtime& runtime, const Value& callee, const Arguments& arguments);
bool is_callable(const Value& value);

}  // namespace sabrewing::text::jinja
