#include "jit/tensor_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sabrewing::jit {
namespace {

using ::testing::HasSubstr;

TensorMapDesc valid() {
  TensorMapDesc desc;
  desc.type = TensorMapType::kBF16;
  desc.address = reinterpret_cast<void*>(std::uintptr_t{1} << 30);
  desc.extents = {4096, 1000};
  desc.strides_bytes = {8192};
  desc.box = {64, 128};
  desc.swizzle = TensorMapSwizzle::k128B;
  return desc;
}

template <typename Change>
void expect_refused(const char* reason, const Change& change) {
  TensorMapDesc desc = valid();
  change(desc);
  EXPECT_THAT(can_encode(desc).reason, HasSubstr(reason));
  try {
    encode_tensor_map(desc);
    ADD_FAILURE() << "encoded";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), HasSubstr(reason));
  }
}

TEST(TensorMapRules, SayWhichIsBroken) {
  EXPECT_TRUE(can_encode(valid())) << can_encode(valid()).reason;
  expect_refused("aligned to 16", [](TensorMapDesc& d) { d.address = reinterpret_cast<void*>(24); });
  expect_refused("null", [](TensorMapDesc& d) { d.address = nullptr; });
  expect_refused("1 to 5 axes, not 0", [](TensorMapDesc& d) { d.extents.clear(); });
  expect_refused("1 to 5 axes, not 6", [](TensorMapDesc& d) { d.extents.resize(6, 1); });
  expect_refused("need 1 strides and 2 box extents", [](TensorMapDesc& d) { d.strides_bytes.clear(); });
  expect_refused("need 1 strides and 2 box extents", [](TensorMapDesc& d) { d.box.pop_back(); });
  expect_refused("extent 0 of axis 1", [](TensorMapDesc& d) { d.extents[1] = 0; });
  expect_refused("box extent 257 of axis 1", [](TensorMapDesc& d) { d.box[1] = 257; });
  expect_refused("box extent 0 of axis 0", [](TensorMapDesc& d) { d.box[0] = 0; });
  expect_refused("8200 bytes, is not a multiple", [](TensorMapDesc& d) { d.strides_bytes[0] = 8200; });
  expect_refused("below 2^40", [](TensorMapDesc& d) { d.strides_bytes[0] = std::uint64_t{1} << 40; });
  expect_refused("24 bytes, not a multiple of 16", [](TensorMapDesc& d) { d.box[0] = 12; });
  expect_refused("exceeds the swizzle span of 128", [](TensorMapDesc& d) { d.box[0] = 128; });
  expect_refused("exceeds the swizzle span of 32",
                 [](TensorMapDesc& d) { d.swizzle = TensorMapSwizzle::k32B; });
}

}  // namespace
}  // namespace sabrewing::jit
