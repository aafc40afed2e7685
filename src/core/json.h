#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string_view>

namespace sabrewing {

using Json = nlohmann::json;
/// Keeps the order of keys: for what is rendered into prompts.
using OrderedJson = nlohmann::ordered_json;

/// Parses hostile text. `what` names the file or message in errors. Throws `Error{kCorrupt}` with the
/// byte position on malformed text, invalid UTF-8, nesting deeper than `max_depth`, or a duplicate key.
Json parse_json(std::string_view text, std::string_view what, std::size_t max_depth = 64);
OrderedJson parse_ordered_json(std::string_view text, std::string_view what, std::size_t max_depth = 64);

}  // namespace sabrewing
