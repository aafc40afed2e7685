#pragma once

#include <string>
#include <vector>

#include "core/error.h"
#include "jit/driver_api.h"

namespace sabrewing::jit {

/// The NVIDIA driver, opened and initialised by the first call, from any thread; later calls cost a load.
/// Throws `Error{kDevice}` saying why there is no usable driver (the paths tried, a driver older than CUDA
/// 12.0, no device), the same again on each later call.
const DriverApi& driver();

/// Whether `driver()` would return, with its reason when not.
Feasibility driver_available();

/// The CUDA version that the driver supports: 1000 * major + 10 * minor.
int driver_version();

/// Opens a driver library that is none of the usual ones; for tests and unusual installations.
DriverApi load_driver(const std::vector<std::string>& candidates);

/// Initialises a loaded driver and returns its CUDA version. Throws `Error{kDevice}` as `driver()` does.
int initialise_driver(const DriverApi& api);

/// Where `driver()` looks for libcuda.so.1.
std::vector<std::string> driver_candidates();

[[noreturn]] void throw_driver_error(const DriverApi& api, int result, const char* call);

/// Turns a CUresult into `Error{kOutOfMemory}` or `Error{kDevice}` with the driver's text. A fault of a
/// kernel is reported with the latest launches by name, because the driver cannot tell which it was.
inline void check_driver(int result, const char* call) {
  if (result != result::kSuccess) [[unlikely]]
    throw_driver_error(driver(), result, call);
}

}  // namespace sabrewing::jit

/// Calls an entry point of `driver()` and checks it: SABREWING_DRIVER(stream_synchronize(stream)).
#define SABREWING_DRIVER(call) ::sabrewing::jit::check_driver(::sabrewing::jit::driver().call, #call)
