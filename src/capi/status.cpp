#include "capi/status.h"

#include <string>

namespace sabrewing::capi {
namespace {

struct LastError {
  std::string text;
  const char* shown = "";
};

LastError& last() {
  thread_local LastError error;
  return error;
}

}  // namespace

sabrewing_status to_status(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return SABREWING_INVALID_ARGUMENT;
    case ErrorCode::kUnsupported:
      return SABREWING_UNSUPPORTED;
    case ErrorCode::kNotFound:
      return SABREWING_NOT_FOUND;
    case ErrorCode::kIo:
      return SABREWING_IO;
    case ErrorCode::kCorrupt:
      return SABREWING_CORRUPT;
    case ErrorCode::kOutOfMemory:
      return SABREWING_OUT_OF_MEMORY;
    case ErrorCode::kDevice:
      return SABREWING_DEVICE;
    case ErrorCode::kInternal:
      return SABREWING_INTERNAL;
  }
  return SABREWING_INTERNAL;
}

sabrewing_status record(ErrorCode code, const char* message) noexcept {
  try {
    last().text = message;
    last().shown = last().text.c_str();
  } catch (...) {
    last().shown = "[memory] the system gives no memory for an error's text";
  }
  return to_status(code);
}

const char* last_error() noexcept { return last().shown; }

}  // namespace sabrewing::capi
