#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "core/thread_pool.h"
#include "formats/scheme/weight_format.h"

namespace sabrewing::formats {

/// Fills storage with random valid numbers instead of a checkpoint's, to time models without their files.
/// The result depends on the arguments alone, not on the pool, which may be null.

/// Finite values of type BF16, FP16 or FP32 with both signs and a root mean square within a factor of 4 of
/// `rms`, as far as the type's range allows. Throws `Error{kInvalidArgument}` for another type or an `rms`
/// that is not positive and finite.
void fill_dummy_values(ElementType type, double rms, std::uint64_t seed, std::span<std::byte> out,
                       ThreadPool* pool = nullptr);

/// Every code of a weight of this format and scales such that the values' root mean square is within a
/// factor of 4 of `rms`; `data` and `scales` as in `WeightBytes`. Returns the second-level scale, 1 for
/// formats without one. Throws as above, and `Error{kUnsupported}` where `can_dequantize` says no.
float fill_dummy_weight(const WeightFormat& format, double rms, std::uint64_t seed, std::span<std::byte> data,
                        std::span<std::byte> scales, ThreadPool* pool = nullptr);

}  // namespace sabrewing::formats
