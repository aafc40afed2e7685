#pragma once

#include <string>
#include <string_view>

namespace sabrewing {

/// A name out of a file, quoted for a one-line message: control bytes as \xNN, at most 120 bytes
/// of it. UTF-8 stays UTF-8.
std::string printable(std::string_view name);

}  // namespace sabrewing
