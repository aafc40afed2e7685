#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace sabrewing {

/// The value of an environment variable; nothing when it is unset or empty. The only place that reads
/// the environment. Not safe beside a thread that changes it.
std::optional<std::string> environment(std::string_view name);

}  // namespace sabrewing
