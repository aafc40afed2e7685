#include "models/config_reader.h"

#include <cmath>

#include "core/error.h"

namespace sabrewing::models {

ConfigReader::ConfigReader(const Json& object, std::string where)
    : object_(object), where_(std::move(where)) {
  SABREWING_CHECK(object.is_object(), kCorrupt, "[config] {}: expected a JSON object", where_);
}

void ConfigReader::reject(std::string_view key, const std::string& why) const {
  fail(ErrorCode::kCorrupt, "[config] {}: field \"{}\" {}", where_, key, why);
}

void ConfigReader::check_length(std::string_view key, const Json& list) const {
  constexpr std::size_t kLongest = 65536;
  if (list.size() > kLongest)
    reject(key, fmt::format("has {} entries, at most {} expected", list.size(), kLongest));
}

const Json* ConfigReader::find(std::string_view key) {
  const auto field = object_.find(key);
  if (field == object_.end()) return nullptr;
  read_.emplace(key);
  return field->is_null() ? nullptr : &*field;
}

std::int64_t ConfigReader::integer_or(std::string_view key, std::int64_t fallback, std::int64_t low,
                                      std::int64_t high) {
  const Json* field = find(key);
  if (field == nullptr) return fallback;
  if (!field->is_number_integer())
    reject(key, fmt::format("is {}, expected an integer", field->dump().substr(0, 40)));
  const bool too_large = field->is_number_unsigned() && field->get<std::uint64_t>() > INT64_MAX;
  if (too_large || field->get<std::int64_t>() < low || field->get<std::int64_t>() > high)
    reject(key, fmt::format("is {}, expected {} to {}", field->dump(), low, high));
  return field->get<std::int64_t>();
}

std::int64_t ConfigReader::integer(std::string_view key, std::int64_t low, std::int64_t high) {
  if (find(key) == nullptr) reject(key, "is missing");
  return integer_or(key, 0, low, high);
}

double ConfigReader::number_or(std::string_view key, double fallback, double low, double high) {
  const Json* field = find(key);
  if (field == nullptr) return fallback;
  if (!field->is_number()) reject(key, fmt::format("is {}, expected a number", field->dump().substr(0, 40)));
  const double value = field->get<double>();
  if (!std::isfinite(value) || value < low || value > high)
    reject(key, fmt::format("is {}, expected {} to {}", field->dump(), low, high));
  return value;
}

double ConfigReader::number(std::string_view key, double low, double high) {
  if (find(key) == nullptr) reject(key, "is missing");
  return number_or(key, 0, low, high);
}

bool ConfigReader::boolean_or(std::string_view key, bool fallback) {
  const Json* field = find(key);
  if (field == nullptr) return fallback;
  if (!field->is_boolean())
    reject(key, fmt::format("is {}, expected true or false", field->dump().substr(0, 40)));
  return field->get<bool>();
}

std::string ConfigReader::text_or(std::string_view key, std::string fallback) {
  const Json* field = find(key);
  if (field == nullptr) return fallback;
  if (!field->is_string()) reject(key, fmt::format("is {}, expected a string", field->dump().substr(0, 40)));
  return field->get<std::string>();
}

std::string ConfigReader::text(std::string_view key) {
  if (find(key) == nullptr) reject(key, "is missing");
  return text_or(key, {});
}

std::vector<std::int64_t> ConfigReader::integers(std::string_view key, std::int64_t low, std::int64_t high) {
  const Json* field = find(key);
  std::vector<std::int64_t> values;
  if (field == nullptr) return values;
  if (!field->is_array()) return {integer_or(key, 0, low, high)};
  check_length(key, *field);
  for (const Json& item : *field) {
    if (!item.is_number_integer()) reject(key, "is no list of integers");
    if ((item.is_number_unsigned() && item.get<std::uint64_t>() > INT64_MAX) ||
        item.get<std::int64_t>() < low || item.get<std::int64_t>() > high)
      reject(key, fmt::format("holds {}, expected {} to {}", item.dump(), low, high));
    values.push_back(item.get<std::int64_t>());
  }
  return values;
}

std::vector<std::string> ConfigReader::texts(std::string_view key) {
  const Json* field = find(key);
  std::vector<std::string> values;
  if (field == nullptr) return values;
  if (!field->is_array()) reject(key, "is no list of strings");
  check_length(key, *field);
  for (const Json& item : *field) {
    if (!item.is_string()) reject(key, "is no list of strings");
    values.push_back(item.get<std::string>());
  }
  return values;
}

void ConfigReader::ignore(std::initializer_list<std::string_view> keys) {
  for (std::string_view key : keys) read_.emplace(key);
}

void ConfigReader::require_neutral(std::string_view key, const Json& neutral) {
  const Json* field = find(key);
  if (field == nullptr || *field == neutral) return;
  fail(ErrorCode::kUnsupported, "[config] {}: field \"{}\" is {}; only {} is supported for this architecture",
       where_, key, field->dump().substr(0, 60), neutral.dump());
}

std::vector<std::string> ConfigReader::unread() const {
  std::vector<std::string> names;
  for (const auto& [key, value] : object_.items())
    if (!read_.contains(key)) names.push_back(key);
  return names;
}

}  // namespace sabrewing::models
