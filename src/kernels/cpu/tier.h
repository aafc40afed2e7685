#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace sabrewing::kernels::cpu {

/// Instruction-set levels that have their own kernels, each a superset of the one before.
enum class CpuTier : std::uint8_t {
  kScalar,  ///< portable C++
  kAvx2,    ///< AVX2, FMA, F16C
  kAvx512,  ///< AVX-512 F, BW, DQ, VL, VBMI, VNNI; BF16 dot products where the processor has them
};

/// What processor and operating system (XSAVE state) let this process use.
struct CpuFeatures {
  bool avx2 = false;         ///< everything CpuTier::kAvx2 needs
  bool avx512 = false;       ///< everything CpuTier::kAvx512 needs
  bool avx512_bf16 = false;  ///< VDPBF16PS, beside kAvx512
  /// VDPBF16PS multiplies more BF16 pairs per cycle than FP32 FMA does after widening. True on AMD; Intel's
  /// cores issue it once in two cycles, which is half of their FMA rate.
  bool fast_bf16_dot = false;
  std::string brand;  ///< the processor's own name, for people
  std::string cpuid;  ///< "vendor family/model/stepping" and the flags that matter here
};

/// Read once.
const CpuFeatures& cpu_features();

/// "scalar", "avx2", "avx512".
std::string_view to_string(CpuTier tier);
std::optional<CpuTier> parse_cpu_tier(std::string_view name);

bool supports(const CpuFeatures& features, CpuTier tier);
CpuTier best_tier(const CpuFeatures& features);

/// The tier called `forced`, or the best one when it is empty. Throws `Error{kInvalidArgument}` for an
/// unknown name and `Error{kUnsupported}` for a tier that this machine lacks.
CpuTier select_tier(std::string_view forced);

}  // namespace sabrewing::kernels::cpu
