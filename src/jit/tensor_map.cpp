#include "jit/tensor_map.h"

#include "jit/driver.h"

namespace sabrewing::jit {

namespace {

std::uint64_t bytes_of(TensorMapType type) {
  switch (type) {
    case TensorMapType::kU8:
      return 1;
    case TensorMapType::kU16:
    case TensorMapType::kF16:
    case TensorMapType::kBF16:
      return 2;
    case TensorMapType::kU32:
    case TensorMapType::kI32:
    case TensorMapType::kF32:
      return 4;
  }
  return 0;
}

std::uint64_t swizzle_bytes(TensorMapSwizzle swizzle) {
  return swizzle == TensorMapSwizzle::kNone ? 0 : std::uint64_t{16} << static_cast<int>(swizzle);
}

template <typename... Args>
Feasibility no(fmt::format_string<Args...> format, Args&&... args) {
  return Feasibility::no(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace

Feasibility can_encode(const TensorMapDesc& desc) {
  const std::size_t rank = desc.extents.size();
  const std::uint64_t element = bytes_of(desc.type);
  if (rank < 1 || rank > 5) return no("a tensor map has 1 to 5 axes, not {}", rank);
  if (desc.strides_bytes.size() + 1 != rank || desc.box.size() != rank)
    return no("{} axes need {} strides and {} box extents, not {} and {}", rank, rank - 1, rank,
              desc.strides_bytes.size(), desc.box.size());
  if (reinterpret_cast<std::uintptr_t>(desc.address) % 16 != 0 || desc.address == nullptr)
    return no("the address {} is null or not aligned to 16 bytes", desc.address);
  for (std::size_t axis = 0; axis < rank; ++axis) {
    if (desc.extents[axis] < 1 || desc.extents[axis] > std::uint64_t{1} << 32)
      return no("extent {} of axis {} is not in [1, 2^32]", desc.extents[axis], axis);
    if (desc.box[axis] < 1 || desc.box[axis] > 256)
      return no("box extent {} of axis {} is not in [1, 256]", desc.box[axis], axis);
    if (axis == 0) continue;
    const std::uint64_t stride = desc.strides_bytes[axis - 1];
    if (stride % 16 != 0 || stride >= std::uint64_t{1} << 40)
      return no("the stride of axis {}, {} bytes, is not a multiple of 16 below 2^40", axis, stride);
  }
  const std::uint64_t inner = desc.box[0] * element;
  if (inner % 16 != 0) return no("the inner box extent is {} bytes, not a multiple of 16", inner);
  const std::uint64_t span = swizzle_bytes(desc.swizzle);
  if (span != 0 && inner > span)
    return no("the inner box extent, {} bytes, exceeds the swizzle span of {}", inner, span);
  return Feasibility::yes();
}

TensorMap encode_tensor_map(const TensorMapDesc& desc) {
  const Feasibility feasible = can_encode(desc);
  SABREWING_CHECK(feasible, kInvalidArgument, "[tensor_map] {}", feasible.reason);
  constexpr std::uint32_t kUnitStrides[5] = {1, 1, 1, 1, 1};
  constexpr int kNoInterleave = 0;
  constexpr int kFillZero = 0;
  TensorMap map{};
  SABREWING_DRIVER(tensor_map_encode_tiled(
      &map, static_cast<int>(desc.type), static_cast<std::uint32_t>(desc.extents.size()), desc.address,
      desc.extents.data(), desc.strides_bytes.data(), desc.box.data(), kUnitStrides, kNoInterleave,
      static_cast<int>(desc.swizzle), static_cast<int>(desc.promotion), kFillZero));
  return map;
}

}  // namespace sabrewing::jit
