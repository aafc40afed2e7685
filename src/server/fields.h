#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"

namespace sabrewing::server {

/// The members of a request's JSON object. A member that is null counts as absent. Every accessor throws
/// `ApiError{400}` with the member's path as `param` for a value of another type or out of range.
class Fields {
 public:
  /// `object` outlives this. `path` stands before names in errors: "stream_options.".
  explicit Fields(const OrderedJson& object, std::string path = {});

  /// The value, or null when absent.
  const OrderedJson* find(const char* name);
  const OrderedJson* object(const char* name);
  const OrderedJson* array(const char* name);
  std::optional<std::string> string(const char* name, std::size_t longest = std::size_t{1} << 30);
  std::optional<bool> boolean(const char* name);
  std::optional<std::int64_t> integer(const char* name, std::int64_t low, std::int64_t high);
  std::optional<double> number(const char* name);
  /// A list of token ids; the vocabulary is the engine's to check.
  std::optional<std::vector<std::int32_t>> ids(const char* name, std::size_t most);
  /// One string or a list of at most `most`, each of at most `longest` bytes.
  std::optional<std::vector<std::string>> strings(const char* name, std::size_t most, std::size_t longest);

  /// Members that mean nothing here and are ignored on purpose.
  void ignore(std::initializer_list<const char*> names);
  /// Refuses a member that is present, unless null or false, by name: "`name` is not supported: why".
  void refuse(const char* name, std::string_view why);
  /// Members that nothing asked for.
  std::vector<std::string> unknown() const;

  std::string param(std::string_view name) const { return path_ + std::string(name); }
  [[noreturn]] void fail(std::string_view name, std::string_view why, std::string code = {}) const;

 private:
  [[noreturn]] void wrong_type(const char* name, std::string_view expected, const OrderedJson& value) const;

  const OrderedJson& object_;
  std::string path_;
  std::set<std::string, std::less<>> known_;
};

/// "a string", "an object", ... of a value, for messages.
std::string_view type_of(const OrderedJson& value);
/// An integer, or a number without fraction, in [low, high].
std::optional<std::int64_t> as_integer(const OrderedJson& value, std::int64_t low, std::int64_t high);
/// The text of a value in one line, ill-formed parts replaced.
std::string dump(const OrderedJson& value);

}  // namespace sabrewing::server
