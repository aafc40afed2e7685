#include "core/shape.h"

#include <fmt/format.h>

namespace sabrewing {

std::optional<std::int64_t> Shape::checked_elements() const {
  constexpr std::int64_t kLimit = std::int64_t{1} << 62;
  std::int64_t product = 1;
  bool has_zero = false;
  for (std::int64_t extent : extents_) {
    if (extent < 0) return std::nullopt;
    if (extent == 0) {
      has_zero = true;
      continue;
    }
    if (product > kLimit / extent) return std::nullopt;
    product *= extent;
  }
  return has_zero ? 0 : product;
}

std::string Shape::to_string() const { return fmt::format("[{}]", fmt::join(extents_, ", ")); }

}  // namespace sabrewing
