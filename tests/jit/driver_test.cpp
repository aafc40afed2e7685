#include "jit/driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "jit/launch_log.h"

namespace sabrewing::jit {
namespace {

using ::testing::HasSubstr;

TEST(Driver, AMissingLibraryListsEveryPathTried) {
  try {
    load_driver({"/nonexistent/a/libcuda.so.1", "libnonexistent_cuda.so.1", "/nonexistent/*/libcuda.so"});
    FAIL() << "opened a library that does not exist";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kNotFound);
    EXPECT_THAT(error.what(), HasSubstr("/nonexistent/a/libcuda.so.1 (no such file)"));
    EXPECT_THAT(error.what(), HasSubstr("libnonexistent_cuda.so.1 ("));
    EXPECT_THAT(error.what(), HasSubstr("/nonexistent/*/libcuda.so (no match)"));
  }
}

TEST(Driver, ALibraryWithoutTheEntryPointsIsNamedWithTheSymbol) {
  try {
    load_driver({"libm.so.6"});
    FAIL() << "took libm for the driver";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), HasSubstr("libm"));
    EXPECT_THAT(error.what(), HasSubstr("cuInit"));
  }
}

TEST(Driver, WithoutADriverTheReasonIsAValueAndTheCallThrowsIt) {
  const Feasibility available = driver_available();
  if (available) GTEST_SKIP() << "this machine has a driver";
  EXPECT_THAT(available.reason, HasSubstr("[open] the NVIDIA driver not found: tried libcuda.so.1"));
  for (int i = 0; i < 2; ++i) {
    try {
      driver();
      FAIL() << "a driver appeared";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kDevice);
      EXPECT_EQ(error.what(), available.reason);
    }
  }
}

/// A driver that answers what the test says.
DriverApi scripted_driver(int (*init)(unsigned), int (*version)(int*), int (*count)(int*)) {
  DriverApi api;
  api.init = init;
  api.driver_version = version;
  api.device_count = count;
  api.error_name = [](int result, const char** name) {
    *name = "CUDA_ERROR_SCRIPTED";
    return result == 4242 ? 1 : 0;
  };
  api.error_string = [](int result, const char** text) {
    *text = "as the test says";
    return result == 4242 ? 1 : 0;
  };
  return api;
}

DriverApi good_driver() {
  return scripted_driver([](unsigned) { return 0; },
                         [](int* version) {
                           *version = 13010;
                           return 0;
                         },
                         [](int* count) {
                           *count = 1;
                           return 0;
                         });
}

template <typename Body>
void expect_device_error(ErrorCode code, const std::vector<std::string>& parts, const Body& body) {
  try {
    body();
    ADD_FAILURE() << "no error";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    for (const std::string& part : parts) EXPECT_THAT(error.what(), HasSubstr(part));
  }
}

TEST(Driver, IsRefusedWhenItCannotStartOrIsTooOldOrHasNoDevice) {
  EXPECT_EQ(initialise_driver(good_driver()), 13010);
  DriverApi api = good_driver();
  api.init = [](unsigned) { return 100; };
  expect_device_error(ErrorCode::kDevice, {"cuInit answers CUDA_ERROR_SCRIPTED (100): as the test says"},
                      [&] { initialise_driver(api); });
  api = good_driver();
  api.driver_version = [](int* version) {
    *version = 11080;
    return 0;
  };
  expect_device_error(ErrorCode::kDevice, {"too old: it supports CUDA 11.8, needed is 12.0"},
                      [&] { initialise_driver(api); });
  api = good_driver();
  api.driver_version = [](int*) { return 1; };
  expect_device_error(ErrorCode::kDevice, {"cuDriverGetVersion answers"}, [&] { initialise_driver(api); });
  api = good_driver();
  api.device_count = [](int* count) {
    *count = 0;
    return 0;
  };
  expect_device_error(ErrorCode::kDevice, {"lists no device"}, [&] { initialise_driver(api); });
  api.device_count = [](int*) { return 1; };
  expect_device_error(ErrorCode::kDevice, {"cuDeviceGetCount answers"}, [&] { initialise_driver(api); });
}

TEST(Driver, AKernelFaultNamesTheLatestLaunches) {
  record_launch(intern("gemm under test"), {3, 2, 1});
  const DriverApi api = good_driver();
  for (const int fault : {700, 702, 710, 714, 715, 716, 717, 718, 719, 721})
    expect_device_error(ErrorCode::kDevice,
                        {"stream_synchronize", "newest first: gemm under test grid 3x2x1"},
                        [&] { throw_driver_error(api, fault, "stream_synchronize"); });
  expect_device_error(ErrorCode::kOutOfMemory, {"memory_alloc", "(2)"},
                      [&] { throw_driver_error(api, 2, "memory_alloc"); });
  expect_device_error(ErrorCode::kDevice, {"unknown error (4242): no description"},
                      [&] { throw_driver_error(api, 4242, "init"); });
  try {
    throw_driver_error(api, 1, "launch_kernel");
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), ::testing::Not(HasSubstr("latest launches")));
  }
}

}  // namespace
}  // namespace sabrewing::jit
