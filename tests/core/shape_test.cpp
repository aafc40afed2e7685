#include "core/shape.h"

#include <gtest/gtest.h>

namespace sabrewing {
namespace {

TEST(Shape, CountsElementsWithoutOverflow) {
  EXPECT_EQ(Shape{}.checked_elements(), 1);
  EXPECT_EQ((Shape{2, 3}).checked_elements(), 6);
  EXPECT_EQ((Shape{std::int64_t{1} << 40, std::int64_t{1} << 40}).checked_elements(), std::nullopt);
  EXPECT_EQ((Shape{-1, 2}).checked_elements(), std::nullopt);
  EXPECT_EQ((Shape{0, 5}).checked_elements(), 0);
  EXPECT_EQ((Shape{2, 3}).to_string(), "[2, 3]");
}

}  // namespace
}  // namespace sabrewing
