#include "server/fields.h"

#include <fmt/core.h>

#include <cmath>
#include <limits>

#include "server/errors.h"
#include "text/utf8.h"

namespace sabrewing::server {

std::string_view type_of(const OrderedJson& value) {
  if (value.is_null()) return "null";
  if (value.is_string()) return "a string";
  if (value.is_boolean()) return "a boolean";
  if (value.is_number()) return "a number";
  return value.is_array() ? "a list" : "an object";
}

std::optional<std::int64_t> as_integer(const OrderedJson& value, std::int64_t low, std::int64_t high) {
  std::int64_t result = 0;
  if (value.is_number_unsigned()) {
    const auto number = value.get<std::uint64_t>();
    if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return std::nullopt;
    result = static_cast<std::int64_t>(number);
  } else if (value.is_number_integer()) {
    result = value.get<std::int64_t>();
  } else if (value.is_number_float()) {
    const auto number = value.get<double>();
    if (!(std::abs(number) <= 0x1p53) || number != std::floor(number)) return std::nullopt;
    result = static_cast<std::int64_t>(number);
  } else {
    return std::nullopt;
  }
  if (result < low || result > high) return std::nullopt;
  return result;
}

std::string dump(const OrderedJson& value) {
  return value.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

Fields::Fields(const OrderedJson& object, std::string path) : object_(object), path_(std::move(path)) {
  if (!object.is_object())
    throw ApiError(400,
                   fmt::format("{}: an object expected, found {}", path_.empty() ? "the request" : path_,
                               type_of(object)),
                   path_);
}

void Fields::fail(std::string_view name, std::string_view why, std::string code) const {
  throw ApiError(400, fmt::format("{}: {}", param(name), why), param(name), std::move(code));
}

void Fields::wrong_type(const char* name, std::string_view expected, const OrderedJson& value) const {
  fail(name, fmt::format("{} expected, found {}", expected, type_of(value)));
}

const OrderedJson* Fields::find(const char* name) {
  known_.insert(name);
  const auto found = object_.find(name);
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

const OrderedJson* Fields::object(const char* name) {
  const OrderedJson* value = find(name);
  if (value != nullptr && !value->is_object()) wrong_type(name, "an object", *value);
  return value;
}

const OrderedJson* Fields::array(const char* name) {
  const OrderedJson* value = find(name);
  if (value != nullptr && !value->is_array()) wrong_type(name, "a list", *value);
  return value;
}

std::optional<std::string> Fields::string(const char* name, std::size_t longest) {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) wrong_type(name, "a string", *value);
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > longest) fail(name, fmt::format("{} bytes, at most {}", text.size(), longest));
  return text;
}

std::optional<bool> Fields::boolean(const char* name) {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) wrong_type(name, "a boolean", *value);
  return value->get<bool>();
}

std::optional<std::int64_t> Fields::integer(const char* name, std::int64_t low, std::int64_t high) {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) wrong_type(name, "an integer", *value);
  const std::optional<std::int64_t> number = as_integer(*value, low, high);
  if (!number)
    fail(name, fmt::format("an integer from {} to {} expected, found {}", low, high, dump(*value)));
  return number;
}

std::optional<double> Fields::number(const char* name) {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) wrong_type(name, "a number", *value);
  return value->get<double>();
}

std::optional<std::vector<std::int32_t>> Fields::ids(const char* name, std::size_t most) {
  const OrderedJson* value = array(name);
  if (value == nullptr) return std::nullopt;
  if (value->size() > most) fail(name, fmt::format("{} ids, at most {}", value->size(), most));
  std::vector<std::int32_t> result;
  result.reserve(value->size());
  for (const OrderedJson& entry : *value) {
    const auto id = as_integer(entry, 0, std::numeric_limits<std::int32_t>::max());
    if (!id) fail(name, fmt::format("a token id expected, found {}", text::one_line(dump(entry))));
    result.push_back(static_cast<std::int32_t>(*id));
  }
  return result;
}

std::optional<std::vector<std::string>> Fields::strings(const char* name, std::size_t most,
                                                        std::size_t longest) {
  const OrderedJson* value = find(name);
  if (value == nullptr) return std::nullopt;
  std::vector<std::string> result;
  const auto add = [&](const OrderedJson& entry) {
    if (!entry.is_string()) wrong_type(name, "a string or a list of strings", entry);
    const auto& text = entry.get_ref<const std::string&>();
    if (text.size() > longest)
      fail(name, fmt::format("a string of {} bytes, at most {}", text.size(), longest));
    result.push_back(text);
  };
  if (!value->is_array()) {
    add(*value);
    return result;
  }
  if (value->size() > most) fail(name, fmt::format("{} strings, at most {}", value->size(), most));
  for (const OrderedJson& entry : *value) add(entry);
  return result;
}

void Fields::ignore(std::initializer_list<const char*> names) {
  for (const char* name : names) known_.insert(name);
}

void Fields::refuse(const char* name, std::string_view why) {
  const OrderedJson* value = find(name);
  if (value == nullptr || (value->is_boolean() && !value->get<bool>())) return;
  fail(name, fmt::format("is not supported: {}", why), "unsupported");
}

std::vector<std::string> Fields::unknown() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : object_.items())
    if (!known_.contains(name)) names.push_back(name);
  return names;
}

}  // namespace sabrewing::server
