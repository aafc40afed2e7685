#include <fmt/core.h>

#include <cstdio>
#include <exception>
#include <new>

#include "cli/command.h"
#include "core/error.h"
#include "core/log.h"

namespace {

constexpr int kFailure = 1;
constexpr int kUsage = 2;

void print_log(sabrewing::LogLevel level, std::string_view message) {
  using sabrewing::LogLevel;
  if (level == LogLevel::kDebug) return;
  const char* kind = level == LogLevel::kWarning ? "warning: " : level == LogLevel::kError ? "error: " : "";
  fmt::print(stderr, "sabrewing: {}{}\n", kind, message);
}

int run(int argc, char** argv) {
  CLI::App app(
      "Quantized mixture-of-experts inference. Every flag has an environment variable, shown in brackets.",
      "sabrewing");
  app.set_version_flag("--version", std::string("sabrewing ") + SABREWING_VERSION);
  app.require_subcommand(1);
  app.fallthrough(false);
  sabrewing::cli::Action action;
  sabrewing::cli::add_run(app, action);
  sabrewing::cli::add_chat(app, action);
  sabrewing::cli::add_serve(app, action);
  sabrewing::cli::add_inspect(app, action);
  sabrewing::cli::add_verify(app, action);
  sabrewing::cli::add_eval(app, action);
  sabrewing::cli::add_bench(app, action);
  sabrewing::cli::add_doctor(app, action);
  sabrewing::cli::add_cache(app, action);
  sabrewing::cli::add_tune(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  return action();
}

}  // namespace

int main(int argc, char** argv) {
  sabrewing::set_log_sink(print_log);
  try {
    const int code = run(argc, argv);
    // A full disk shows up only when the buffer is written.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) {
      std::fputs("sabrewing: cannot write to standard output\n", stderr);
      return kFailure;
    }
    return code;
  } catch (const sabrewing::Error& error) {
    fmt::print(stderr, "sabrewing: {}\n", error.what());
    return error.code() == sabrewing::ErrorCode::kInvalidArgument ? kUsage : kFailure;
  } catch (const std::bad_alloc&) {
    std::fputs("sabrewing: out of memory\n", stderr);
    return kFailure;
  } catch (const std::exception& error) {
    fmt::print(stderr, "sabrewing: internal error: {}\n", error.what());
    return kFailure;
  }
}
