#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/dtype.h"
#include "core/shape.h"

namespace sabrewing {

/// A non-owning read-only view of contiguous row-major bytes, as a checkpoint stores them. `bytes` may
/// start at any address: load elements with memcpy, never through a typed pointer.
struct TensorView {
  DType dtype = DType::kU8;
  Shape shape;
  std::span<const std::byte> bytes;
};

}  // namespace sabrewing
