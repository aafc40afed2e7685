#pragma once

#include <exception>
#include <new>
#include <utility>

#include "core/error.h"
#include "sabrewing/sabrewing.h"

namespace sabrewing::capi {

sabrewing_status to_status(ErrorCode code);

/// Keeps `message` for `sabrewing_last_error` of this thread and gives the code's status.
sabrewing_status record(ErrorCode code, const char* message) noexcept;
const char* last_error() noexcept;

/// Runs `body`; no exception leaves.
template <typename Body>
sabrewing_status guarded(Body&& body) noexcept {
  try {
    std::forward<Body>(body)();
    return SABREWING_OK;
  } catch (const Error& error) {
    return record(error.code(), error.what());
  } catch (const std::bad_alloc&) {
    return record(ErrorCode::kOutOfMemory, "[memory] the system gives no more memory");
  } catch (const std::exception& error) {
    return record(ErrorCode::kInternal, error.what());
  } catch (...) {
    return record(ErrorCode::kInternal, "[internal] an exception of an unknown type");
  }
}

}  // namespace sabrewing::capi
