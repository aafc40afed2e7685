#pragma once

// Included by every instruction-set tier: no inline functions and no templates here, because the linker
// keeps one copy of each and it may be the one that the oldest processor cannot run.

#include <cstddef>
#include <cstdint>

namespace sabrewing::kernels::cpu {

/// Rows (output features) of a panel, the unit of the packed layout (see pack.h).
constexpr int kPanelRows = 16;
/// Panels of one PanelTask at most.
constexpr int kMaxPanels = 4;
/// MXFP4 and int8 activations: elements of K that share a scale.
constexpr int kGroup = 32;
/// A group of an int8 row: codes, scale, excess.
constexpr int kInt8GroupBytes = kGroup + 8;
/// FP32 with this added holds an integer of 22 bits in its lowest bits.
constexpr float kInt8Magic = 12582912.0f;
/// A group of an int16 row: codes, scale.
constexpr int kInt16GroupBytes = 2 * kGroup + 4;
/// Scratch of one PanelTask.
constexpr std::size_t kPanelScratchBytes = 48 * 1024;

/// out(row_count, panels * 16) = rows(row_count, k) * weights(panels * 16, k)^T. One chain of additions over
/// ascending k per output, whatever the other numbers are.
struct PanelTask {
  const std::byte* weights = nullptr;  ///< values of the first panel, 64-byte aligned
  const std::byte* scales = nullptr;   ///< scales of the first panel, MXFP4 only
  std::size_t panel_stride = 0;        ///< bytes, of both
  int panels = 0;                      ///< 1 to kMaxPanels
  std::int64_t k = 0;
  const std::byte* const* rows = nullptr;  ///< staged activations, 4-byte aligned: FP32, BF16 or int8 rows
  std::int64_t row_count = 0;              ///< at least 1
  float* out = nullptr;
  std::int64_t out_stride = 0;   ///< floats from one row of `out` to the next, panels * 16 at least
  std::byte* scratch = nullptr;  ///< kPanelScratchBytes, 64-byte aligned
};

using PanelKernel = void (*)(const PanelTask&);

/// The inner loops of one tier.
struct PanelKernels {
  const char* name = nullptr;
  // FP32 activations, FP32 multiply-add on weights widened in registers.
  PanelKernel bf16_f32 = nullptr;
  PanelKernel fp16_f32 = nullptr;
  PanelKernel fp32_f32 = nullptr;
  PanelKernel mxfp4_f32 = nullptr;
  /// Int8 activation rows of `quantize_int8`, integer dot products within a group, FP32 across groups.
  PanelKernel mxfp4_int8 = nullptr;
  /// Int16 activation rows of `quantize_int16`; the weights become 13-bit integers in groups of 32 on the
  /// way, which rounds by at most 2^-13 of a group's largest magnitude. Rows are zero-padded to whole groups.
  /// Null where there is none.
  PanelKernel bf16_int16 = nullptr;
  /// BF16 activation rows, zero-padded to even K; null where the processor has no such instruction.
  PanelKernel bf16_bf16 = nullptr;

  /// Writes groups [first_group, first_group + groups) of an int8 row; `x` holds their elements. A group
  /// takes kInt8GroupBytes: 32 codes, each eight stored as elements 0 2 4 6 1 3 5 7; an FP32 scale, the
  /// largest magnitude / 254 (the weights are doubled); an FP32, kInt8Magic + 12 * sum of the codes (the
  /// weights are shifted up by 12). A group whose largest magnitude is below 2^-119 becomes zero; one with an
  /// infinity or NaN gets a NaN scale.
  void (*quantize_int8)(const float* x, std::int64_t first_group, std::int64_t groups,
                        std::byte* row) = nullptr;
  /// As `quantize_int8`: a group takes kInt16GroupBytes, 32 codes in order and the FP32 scale, the largest
  /// magnitude / 16383, 0 below 2^-112. 13 and 15 bits are the most that 32 products can have in an int32.
  void (*quantize_int16)(const float* x, std::int64_t first_group, std::int64_t groups,
                         std::byte* row) = nullptr;
};

PanelKernels scalar_panel_kernels();
#if defined(__x86_64__)
PanelKernels avx2_panel_kernels();
PanelKernels avx512_panel_kernels();
/// Only this one may be called on a processor with AVX512_BF16.
PanelKernel avx512_bf16_dot_kernel();
#endif

}  // namespace sabrewing::kernels::cpu
