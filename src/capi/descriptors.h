#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>

#include "capi/device_context.h"
#include "core/error.h"
#include "kernels/gemm.h"
#include "sabrewing/sabrewing.h"

namespace sabrewing::capi {

/// Sizes of the structures of ABI version 1: a smaller one is refused.
template <typename T>
inline constexpr std::size_t kFirstSize = 0;
template <>
inline constexpr std::size_t kFirstSize<sabrewing_weight_format> = 40;
template <>
inline constexpr std::size_t kFirstSize<sabrewing_activation_format> = 32;
template <>
inline constexpr std::size_t kFirstSize<sabrewing_context_desc> = 48;
template <>
inline constexpr std::size_t kFirstSize<sabrewing_gemm_desc> = 72;
template <>
inline constexpr std::size_t kFirstSize<sabrewing_weight_rows> = 88;
template <>
inline constexpr std::size_t kFirstSize<sabrewing_weight_source> = 32;
template <>
inline constexpr std::size_t kFirstSize<sabrewing_gemm_args> = 88;

/// Throws `Error{kInvalidArgument}` for a null or misaligned pointer.
void check_pointer(const void* pointer, std::size_t alignment, const char* what);

/// Copies `size` bytes of a structure into `to` (`known` bytes, zeroed). Throws `Error{kInvalidArgument}` for
/// a size below `first`, `Error{kUnsupported}` for non-zero bytes that this library does not know.
void read_structure(const void* from, std::size_t first, std::size_t known, void* to, const char* what);

template <typename T>
T read_descriptor(const T* from, const char* what) {
  static_assert(sizeof(T) >= kFirstSize<T> && kFirstSize<T> != 0);
  check_pointer(from, alignof(T), what);
  T out{};
  read_structure(from, kFirstSize<T>, sizeof(T), &out, what);
  return out;
}

formats::WeightFormat to_weight_format(const sabrewing_weight_format* from);
formats::ActivationFormat to_activation_format(const sabrewing_activation_format* from);
void write_activation_format(const formats::ActivationFormat& from, sabrewing_activation_format* to);
sabrewing_element_type to_element(const formats::ElementType& type);
kernels::Accuracy to_accuracy(std::int32_t accuracy);
DType to_dtype(std::int32_t dtype, const char* what);

std::shared_ptr<DeviceContext> open_context(const sabrewing_context_desc* from);

/// A product and the rows of its calls.
struct Problem {
  kernels::GemmDesc desc;
  std::int64_t min_m = 1;
  std::int64_t max_m = 1;
};
/// Sizes are checked so that no product of them overflows.
Problem to_problem(const DeviceContext& context, const sabrewing_gemm_desc* from);

/// Checks that every byte that packing reads is inside what the caller gave.
kernels::WeightSource to_source(const kernels::GemmDesc& desc, const DeviceContext& context,
                                const sabrewing_weight_source* from);

/// 0 stands for `columns`. Throws `Error{kInvalidArgument}` for a stride that is shorter, or overflows over
/// `rows`.
std::int64_t checked_stride(std::int64_t stride, std::int64_t columns, std::int64_t rows, const char* what);

}  // namespace sabrewing::capi
