#pragma once

#include <fmt/core.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

namespace sabrewing {

/// What kind of failure an `Error` is. Boundaries translate it once: exit code, HTTP status, C status.
enum class ErrorCode {
  kInvalidArgument,  ///< the caller's value is wrong
  kUnsupported,      ///< understood, but not implemented or not exactly computable
  kNotFound,         ///< a named file, tensor or model is absent
  kIo,               ///< the operating system refused
  kCorrupt,          ///< a file's content contradicts its format
  kOutOfMemory,
  kDevice,    ///< driver or GPU failure
  kInternal,  ///< our bug
};

/// "invalid_argument", "unsupported", ...
std::string_view to_string(ErrorCode code);

/// The only exception type that library code throws on purpose. `what()` is one line of the form
/// "[operation] what was wrong: value, expected".
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

[[noreturn]] void throw_error(ErrorCode code, fmt::string_view format, fmt::format_args args);

/// Throws `Error{code, fmt::format(format, args...)}`.
template <typename... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> format, Args&&... args) {
  throw_error(code, format, fmt::make_format_args(args...));
}

/// The answer of a `can_implement`: an expected refusal is a value with its reason, not an exception.
struct Feasibility {
  bool ok = true;
  std::string reason;  ///< empty when ok; else the rule that is broken and what would work

  explicit operator bool() const noexcept { return ok; }
  static Feasibility yes() { return {}; }
  static Feasibility no(std::string why) { return {false, std::move(why)}; }
};

}  // namespace sabrewing

/// Throws `Error{code}` with the formatted message unless `condition` holds.
#define SABREWING_CHECK(condition, code, ...)                       \
  do {                                                              \
    if (!(condition)) [[unlikely]]                                  \
      ::sabrewing::fail(::sabrewing::ErrorCode::code, __VA_ARGS__); \
  } while (false)

/// For our own bugs only; compiled out with NDEBUG and never reachable from a file or a request.
#ifdef NDEBUG
#define SABREWING_ASSERT(condition) static_cast<void>(0)
#else
#define SABREWING_ASSERT(condition) \
  SABREWING_CHECK(condition, kInternal, "assertion failed: {} ({}:{})", #condition, __FILE__, __LINE__)
#endif
