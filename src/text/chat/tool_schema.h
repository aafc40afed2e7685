#pragma once

#include <string>
#include <string_view>

#include "core/json.h"

namespace sabrewing::text::chat {

/// What a parameter's schema allows, for formats that write values without saying their type.
struct ValueTypes {
  bool known = false;  ///< the schema names types
  bool string = false;
  bool integer = false;
  bool number = false;
  bool boolean = false;
  bool null = false;
  bool object = false;
  bool array = false;

  /// Nothing but text: it can be given out while it is written.
  bool only_string() const { return string && !integer && !number && !boolean && !null && !object && !array; }
};

/// The types of parameter `key` of function `name` in a request's list of tools (OpenAI's nested or flat
/// form); not known where the tools do not say.
ValueTypes parameter_types(const OrderedJson& tools, std::string_view name, std::string_view key);

/// The JSON text of a value written as plain text: of the first allowed type that it can be read as, a string
/// when there is none. Unknown types: any JSON value with `unknown_is_json`, else a string.
std::string value_json(std::string_view text, const ValueTypes& types, bool unknown_is_json);

}  // namespace sabrewing::text::chat
