#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "core/dtype.h"

namespace sabrewing::kernels {

/// Owning memory of one backend: host memory for the CPU, device memory for a GPU. Copies share it.
struct DeviceBuffer {
  std::shared_ptr<void> owner;
  void* data = nullptr;
  std::size_t bytes = 0;
};

/// A non-owning matrix in a backend's memory: element (i, j) is at `data + (i * row_stride + j) *
/// size_of(dtype)`.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::int64_t row_stride = 0;  ///< in elements

  template <typename T>
  T* row(std::int64_t i) const {
    return static_cast<T*>(data) + i * row_stride;
  }
  /// Columns [begin, begin + count) of the same rows.
  Matrix columns(std::int64_t begin, std::int64_t count) const {
    Matrix part = *this;
    part.data = static_cast<std::byte*>(data) + static_cast<std::size_t>(begin) * size_of(dtype);
    part.cols = count;
    return part;
  }
  /// Rows [begin, begin + count).
  Matrix row_range(std::int64_t begin, std::int64_t count) const {
    Matrix part = *this;
    part.data = static_cast<std::byte*>(data) + static_cast<std::size_t>(begin * row_stride) * size_of(dtype);
    part.rows = count;
    return part;
  }
};

}  // namespace sabrewing::kernels
