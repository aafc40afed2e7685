#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace sabrewing::models {

/// Typed, bounded access to the fields of a config.json object. A field that is null counts as absent.
/// Errors (`kCorrupt`) name the file and the field. Remembers which fields were read.
class ConfigReader {
 public:
  /// `where` names the file in messages. `object` must outlive the reader. Throws when it is no object.
  ConfigReader(const Json& object, std::string where);

  /// The field, marked as read; null pointer when absent or null.
  const Json* find(std::string_view key);

  /// Integers in [low, high]; the one without a default demands the field.
  std::int64_t integer(std::string_view key, std::int64_t low, std::int64_t high);
  std::int64_t integer_or(std::string_view key, std::int64_t fallback, std::int64_t low, std::int64_t high);
  /// Finite numbers in [low, high].
  double number(std::string_view key, double low, double high);
  double number_or(std::string_view key, double fallback, double low, double high);
  bool boolean_or(std::string_view key, bool fallback);
  std::string text(std::string_view key);
  std::string text_or(std::string_view key, std::string fallback);
  /// One integer or a list of them, 65536 entries at most; empty when absent.
  std::vector<std::int64_t> integers(std::string_view key, std::int64_t low, std::int64_t high);
  std::vector<std::string> texts(std::string_view key);

  /// Marks fields that do not change the arithmetic of a forward pass.
  void ignore(std::initializer_list<std::string_view> keys);
  /// Throws `kUnsupported` when the field is present and differs from `neutral`.
  void require_neutral(std::string_view key, const Json& neutral);
  /// Fields nobody read or ignored.
  std::vector<std::string> unread() const;

  const Json& object() const { return object_; }
  const std::string& where() const { return where_; }
  [[noreturn]] void reject(std::string_view key, const std::string& why) const;

 private:
  void check_length(std::string_view key, const Json& list) const;

  const Json& object_;
  std::string where_;
  std::set<std::string, std::less<>> read_;
};

}  // namespace sabrewing::models
