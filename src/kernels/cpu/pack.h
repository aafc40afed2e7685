#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/thread_pool.h"
#include "kernels/moe.h"
#include "kernels/weight.h"

namespace sabrewing::kernels::cpu {

/// The packed layout of the CPU: one per weight format, for every tier, accuracy and M, as many bytes as the
/// checkpoint has but for padding. A panel holds kPanelRows rows (rows beyond N are zero), panels follow each
/// other at a multiple of 64 bytes:
///   BF16   [ceil(K/2)][16 rows][2], zero beyond K
///   FP16   [K][16 rows]
///   FP32   [K][16 rows]
///   MXFP4  scales [K/32][16 rows], padded to 64 bytes, then
///          [K/8][16 rows][4 bytes as stored: element 2j in the low half of byte j]
enum class WeightKind : std::uint8_t { kBF16, kFP16, kFP32, kMXFP4 };

/// Nothing for a format that the CPU does not execute.
std::optional<WeightKind> weight_kind(const formats::WeightFormat& format);

/// "bf16, fp16, fp32, mxfp4": for refusals.
const char* supported_weights();

struct PanelLayout {
  WeightKind kind = WeightKind::kBF16;
  std::int64_t k = 0;
  std::size_t panel_bytes = 0;   ///< from one panel to the next
  std::size_t value_offset = 0;  ///< in a panel; MXFP4 has its scales before

  /// `k` >= 1, a multiple of 32 for MXFP4.
  static PanelLayout make(WeightKind kind, std::int64_t k);
};

std::int64_t panel_count(std::int64_t n);
inline const std::byte* panel_data(const PackedWeight& weight, const PanelLayout& layout, std::int64_t expert,
                                   std::int64_t panel) {
  return static_cast<const std::byte*>(weight.bytes.data) +
         static_cast<std::size_t>(expert) * weight.expert_stride_bytes +
         static_cast<std::size_t>(panel) * layout.panel_bytes;
}

/// Host memory aligned to 64 bytes.
DeviceBuffer allocate_host(std::size_t bytes);

/// Into `to` when it has memory, else into new memory. Throws `Error{kInvalidArgument}` when the source's
/// shape does not match, a row stride is too short, or `to` is too small or not aligned to 64 bytes.
PackedWeight pack_gemm(const WeightSource& source, ThreadPool& pool, DeviceBuffer to = {});

/// w13: panels alternate, 16 rows of gate, the same 16 rows of up. w2: as a GEMM.
PackedExperts pack_experts(const formats::WeightFormat& format, std::int64_t hidden,
                           std::int64_t intermediate, std::span<const ExpertSource> sources,
                           std::span<const float> bias13, std::span<const float> bias2, ThreadPool& pool);

/// Rows in checkpoint layout: the inverse of packing. `values` holds n rows one after the other, `scales`
/// likewise (empty where the format has none).
struct UnpackedRows {
  std::vector<std::byte> values;
  std::vector<std::byte> scales;
};
/// Panel rows [first_row, first_row + rows) of one expert in packed order.
UnpackedRows unpack_rows(const PackedWeight& weight, std::int64_t expert, std::int64_t first_row,
                         std::int64_t rows);

/// out[k] = the values of one row. Exact.
void dequantize_row(const PackedWeight& weight, std::int64_t expert, std::int64_t row, float* out);

}  // namespace sabrewing::kernels::cpu
