#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace sabrewing {

/// Extents of a tensor, outermost first. Rank 0 is a scalar.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents) : extents_(extents) {}
  explicit Shape(std::vector<std::int64_t> extents) : extents_(std::move(extents)) {}

  std::size_t rank() const { return extents_.size(); }
  std::int64_t operator[](std::size_t axis) const { return extents_[axis]; }
  const std::vector<std::int64_t>& extents() const { return extents_; }
  bool operator==(const Shape&) const = default;

  /// Product of the extents; nothing when one is negative or the product exceeds 2^62.
  std::optional<std::int64_t> checked_elements() const;

  /// "[2, 3]"
  std::string to_string() const;

 private:
  std::vector<std::int64_t> extents_;
};

}  // namespace sabrewing
