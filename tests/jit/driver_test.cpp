#include "jit/driver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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

}  // namespace
}  // namespace sabrewing::jit
