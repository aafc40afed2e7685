#pragma once

#include <string>

#include "core/json.h"

namespace sabrewing::text::chat {

/// A JSON schema as the TypeScript type that gpt-oss was trained on: line comments for titles, descriptions,
/// examples and defaults. `where` begins the error for schemas nested too deeply.
std::string typescript_type(const OrderedJson& schema, const std::string& where);

}  // namespace sabrewing::text::chat
