#pragma once

#include <cstdint>

namespace sabrewing::kernels::cuda {

/// Blocks of a grid along its second or third axis, at most.
inline constexpr std::int64_t kMaxGridY = 65535;

/// `a / b` rounded up, of numbers from 0 and from 1.
constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Whether `pointer` is a multiple of `bytes`.
inline bool is_aligned(const void* pointer, std::uintptr_t bytes) {
  return reinterpret_cast<std::uintptr_t>(pointer) % bytes == 0;
}

}  // namespace sabrewing::kernels::cuda
