#include "jit/driver.h"

#include "jit/dynamic_library.h"
#include "jit/launch_log.h"

namespace sabrewing::jit {

namespace {

constexpr int kOldestDriver = 12000;

struct OpenDriver {
  DriverApi api;
  int version = 0;
  std::string failure;
};

std::string describe(const DriverApi& api, int result) {
  const char* name = nullptr;
  const char* text = nullptr;
  if (api.error_name(result, &name) != result::kSuccess || name == nullptr) name = "unknown error";
  if (api.error_string(result, &text) != result::kSuccess || text == nullptr) text = "no description";
  return fmt::format("{} ({}): {}", name, result, text);
}

OpenDriver open_driver() {
  OpenDriver open;
  try {
    open.api = load_driver(driver_candidates());
    open.version = initialise_driver(open.api);
  } catch (const Error& error) {
    open.failure = error.what();
  }
  return open;
}

const OpenDriver& opened() {
  static const OpenDriver& open = *new OpenDriver(open_driver());  // outlives every static object
  return open;
}

bool is_kernel_fault(int result) {
  return result == result::kIllegalAddress || result == result::kLaunchTimeout || result == result::kAssert ||
         (result >= result::kHardwareStackError && result <= result::kLaunchFailed) ||
         result == result::kTensorMemoryLeak;
}

}  // namespace

std::vector<std::string> driver_candidates() {
  return {"libcuda.so.1",
          "/usr/lib/x86_64-linux-gnu/libcuda.so.1",
          "/usr/lib/aarch64-linux-gnu/libcuda.so.1",
          "/usr/lib64/libcuda.so.1",
          "/usr/local/nvidia/lib64/libcuda.so.1",
          "/usr/lib/wsl/lib/libcuda.so.1"};
}

DriverApi load_driver(const std::vector<std::string>& candidates) {
  const auto library = DynamicLibrary::open("the NVIDIA driver", candidates, "install the NVIDIA driver");
  DriverApi api;
#define SABREWING_LOAD(member, symbol, parameters) library.load(#symbol, api.member);
  SABREWING_DRIVER_FUNCTIONS(SABREWING_LOAD)
#undef SABREWING_LOAD
  return api;
}

int initialise_driver(const DriverApi& api) {
  if (const int result = api.init(0); result != result::kSuccess)
    fail(ErrorCode::kDevice, "[driver] no usable GPU: cuInit answers {}", describe(api, result));
  int version = 0;
  if (const int result = api.driver_version(&version); result != result::kSuccess)
    fail(ErrorCode::kDevice, "[driver] cuDriverGetVersion answers {}", describe(api, result));
  SABREWING_CHECK(version >= kOldestDriver, kDevice,
                  "[driver] the NVIDIA driver is too old: it supports CUDA {}.{}, needed is 12.0 or newer",
                  version / 1000, version % 1000 / 10);
  int devices = 0;
  if (const int result = api.device_count(&devices); result != result::kSuccess)
    fail(ErrorCode::kDevice, "[driver] cuDeviceGetCount answers {}", describe(api, result));
  SABREWING_CHECK(devices > 0, kDevice, "[driver] the NVIDIA driver lists no device");
  return version;
}

const DriverApi& driver() {
  const OpenDriver& open = opened();
  if (!open.failure.empty()) [[unlikely]]
    throw Error(ErrorCode::kDevice, open.failure);
  return open.api;
}

Feasibility driver_available() {
  const OpenDriver& open = opened();
  return open.failure.empty() ? Feasibility::yes() : Feasibility::no(open.failure);
}

int driver_version() {
  driver();
  return opened().version;
}

void throw_driver_error(const DriverApi& api, int result, const char* call) {
  const std::string text = describe(api, result);
  const ErrorCode code = result == result::kOutOfMemory ? ErrorCode::kOutOfMemory : ErrorCode::kDevice;
  if (is_kernel_fault(result))
    fail(code,
         "[driver] {}: {}; latest launches, newest first: {} (SABREWING_SYNCHRONOUS_LAUNCHES=1 finds the one "
         "at "
         "fault)",
         call, text, recent_launches());
  fail(code, "[driver] {}: {}", call, text);
}

}  // namespace sabrewing::jit
