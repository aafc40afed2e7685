// In a program of its own: it replaces operator new.
#include <atomic>
#include <cstdlib>
#include <new>

#include "capi_fixture.h"

namespace {
std::atomic<long> allocations{0};

void* count(std::size_t bytes) {
  ++allocations;
  if (void* pointer = std::malloc(bytes == 0 ? 1 : bytes)) return pointer;
  throw std::bad_alloc();
}
}  // namespace

void* operator new(std::size_t bytes) { return count(bytes); }
void* operator new[](std::size_t bytes) { return count(bytes); }
void operator delete(void* pointer) noexcept { std::free(pointer); }
void operator delete[](void* pointer) noexcept { std::free(pointer); }
void operator delete(void* pointer, std::size_t) noexcept { std::free(pointer); }
void operator delete[](void* pointer, std::size_t) noexcept { std::free(pointer); }

namespace sabrewing::testing {
namespace {

TEST_F(CapiTest, EnqueueAllocatesNothing) {
  for (const int output : {SABREWING_F32, SABREWING_BF16}) {
    desc_.output = output;
    make_call(random_mxfp4(40, 96), 16);
    const long before = allocations;
    EXPECT_GT(before, 0);
    ASSERT_EQ(run(), SABREWING_OK) << sabrewing_last_error();
    EXPECT_EQ(allocations - before, 0);
    ASSERT_EQ(sabrewing_weight_destroy(weight_), SABREWING_OK);
    ASSERT_EQ(sabrewing_plan_destroy(plan_), SABREWING_OK);
  }
  weight_ = nullptr;
  plan_ = nullptr;
}

}  // namespace
}  // namespace sabrewing::testing
