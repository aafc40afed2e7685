#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "text/jinja_ast.h"

namespace sabrewing::text::jinja {

// The filters on numbers.
Value filter_abs(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_float(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_int(Interpreter& interpreter, const Value& value, const Arguments& arguments);
Value filter_round(Interpreter& interpreter, const Value& value, const Arguments& arguments);

/// Null for a name that does not exist here.
Builtin find_filter(std::string_view name);
Builtin find_test(std::string_view name);
/// Filters of Jinja that are left out on purpose.
bool is_refused_filter(std::string_view name);

/// range, dict, namespace, cycler, joiner, raise_exception, strftime_now; missing for other names.
Value find_global(Runtime& runtime, std::string_view name);

/// A method or data attribute of a string, number, list, tuple, dict, range; missing when there is none.
/// `forbidden` is set for those that the sandbox hides because they would change the object.
Value find_method(Runtime& runtime, const Value& object, std::string_view name, bool& forbidden);

/// Assigns arguments to `names` as Python does; absent ones stay missing. Names that start with '/' can
/// only be given by position.
std::vector<Value> bind_arguments(Runtime& runtime, std::string_view function, const Arguments& arguments,
                                  std::initializer_list<std::string_view> names, std::size_t required);

/// Python's % on a string.
Value format_percent(Runtime& runtime, const Value& format, const Value& arguments);
/// str.format.
Value format_braces(Runtime& runtime, const Value& format, const Arguments& arguments);
/// json.dumps.
std::string to_json(Runtime& runtime, const Value& value, bool ensure_ascii, const Value& indent,
                    const Value& separators, bool sort_keys);
std::string format_time(Runtime& runtime, const std::string& format);

}  // namespace sabrewing::text::jinja
