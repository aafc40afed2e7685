#pragma once

#include <string_view>

namespace sabrewing::formats {

/// Whether `pattern` describes all of `text`; '*' stands for any run of characters, dots included.
bool matches_glob(std::string_view pattern, std::string_view text);

}  // namespace sabrewing::formats
