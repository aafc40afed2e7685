#pragma once

#include <fmt/core.h>

#include <functional>
#include <string_view>

namespace sabrewing {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

/// Where log lines go; library code prints nothing itself. Called under a lock, from any thread.
using LogSink = std::function<void(LogLevel, std::string_view message)>;

/// Replaces the sink; an empty one drops every line (the default).
void set_log_sink(LogSink sink);

void log_message(LogLevel level, std::string_view message);

template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  log_message(level, fmt::vformat(format, fmt::make_format_args(args...)));
}

}  // namespace sabrewing
