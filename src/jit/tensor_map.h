#pragma once

#include <cstdint>
#include <vector>

#include "core/error.h"
#include "jit/driver_api.h"

namespace sabrewing::jit {

/// CUtensorMapDataType.
enum class TensorMapType : int {
  kU8 = 0,
  kU16 = 1,
  kU32 = 2,
  kI32 = 3,
  kF16 = 6,
  kF32 = 7,
  kBF16 = 9,
};

enum class TensorMapSwizzle : int { kNone = 0, k32B = 1, k64B = 2, k128B = 3 };
enum class TensorMapPromotion : int { kNone = 0, k64B = 1, k128B = 2, k256B = 3 };

/// A tiled view of global memory for the tensor memory accelerator. Axis 0 is the innermost.
struct TensorMapDesc {
  TensorMapType type = TensorMapType::kU8;
  void* address = nullptr;                   ///< aligned to 16 bytes
  std::vector<std::uint64_t> extents;        ///< elements, 1 to 5 axes
  std::vector<std::uint64_t> strides_bytes;  ///< of axes 1 and up, multiples of 16
  std::vector<std::uint32_t> box;            ///< elements of one copy, at most 256 per axis
  TensorMapSwizzle swizzle = TensorMapSwizzle::kNone;
  TensorMapPromotion promotion = TensorMapPromotion::k128B;
};

/// The hardware's rules, in words; the driver itself answers only "invalid value".
Feasibility can_encode(const TensorMapDesc& desc);

/// Reads outside the extents give zeros. Throws `Error{kInvalidArgument}` with the reason of `can_encode`.
TensorMap encode_tensor_map(const TensorMapDesc& desc);

}  // namespace sabrewing::jit
