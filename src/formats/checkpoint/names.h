#pragma once

#include <string>
#include <string_view>

namespace sabrewing::formats {

/// A name out of a file, quoted for a one-line message: control bytes as \xNN, at most 120 bytes
/// of it. UTF-8 stays UTF-8.
std::string printable(std::string_view name);

/// Whether `pattern` describes all of `text`; '*' stands for any run of characters, dots included.
bool matches_glob(std::string_view pattern, std::string_view text);

}  // namespace sabrewing::formats
