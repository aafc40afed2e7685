#include "kernels/cpu/pack.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "core/buffer.h"
#include "core/error.h"
#include "formats/numeric/dequantize.h"
#include "kernels/cpu/panel_kernels.h"

namespace sabrewing::kernels::cpu {
namespace {

constexpr std::uint32_t kPackVersion = 1;
constexpr std::int64_t kMaxDimension = std::int64_t{1} << 31;
constexpr std::size_t kRows = kPanelRows;

std::size_t round_up(std::size_t value, std::size_t to) { return (value + to - 1) / to * to; }

/// Bytes of one row's values in a checkpoint.
std::size_t row_bytes(WeightKind kind, std::int64_t k) {
  const auto columns = static_cast<std::size_t>(k);
  switch (kind) {
    case WeightKind::kBF16:
    case WeightKind::kFP16:
      return columns * 2;
    case WeightKind::kFP32:
      return columns * 4;
    case WeightKind::kMXFP4:
      return columns / 2;
  }
  return 0;
}

std::size_t row_scale_bytes(WeightKind kind, std::int64_t k) {
  return kind == WeightKind::kMXFP4 ? static_cast<std::size_t>(k) / kGroup : 0;
}

/// Bytes of a row that stay together in a panel.
std::size_t unit_bytes(WeightKind kind) { return kind == WeightKind::kFP16 ? 2 : 4; }

const char* layout_name(WeightKind kind) {
  switch (kind) {
    case WeightKind::kBF16:
      return "cpu_panel16_bf16";
    case WeightKind::kFP16:
      return "cpu_panel16_fp16";
    case WeightKind::kFP32:
      return "cpu_panel16_fp32";
    case WeightKind::kMXFP4:
      return "cpu_panel16_mxfp4";
  }
  return "";
}

template <std::size_t Unit>
void scatter_units(const std::byte* from, std::size_t bytes, std::byte* to) {
  std::size_t i = 0;
  for (; i + Unit <= bytes; i += Unit) std::memcpy(to + i * kRows, from + i, Unit);
  if (i < bytes) std::memcpy(to + i * kRows, from + i, bytes - i);
}

template <std::size_t Unit>
void gather_units(const std::byte* from, std::size_t bytes, std::byte* to) {
  std::size_t i = 0;
  for (; i + Unit <= bytes; i += Unit) std::memcpy(to + i, from + i * kRows, Unit);
  if (i < bytes) std::memcpy(to + i, from + i * kRows, bytes - i);
}

/// One row into its place of a zeroed panel.
void place_row(const PanelLayout& layout, const WeightRows& part, std::int64_t row, std::size_t lane,
               std::byte* panel) {
  const std::byte* values = part.values + row * part.row_stride;
  const std::size_t bytes = row_bytes(layout.kind, layout.k);
  const std::size_t unit = unit_bytes(layout.kind);
  std::byte* to = panel + layout.value_offset;
  if (unit == 2)
    scatter_units<2>(values, bytes, to + lane * 2);
  else
    scatter_units<4>(values, bytes, to + lane * 4);
  const std::size_t scales = row_scale_bytes(layout.kind, layout.k);
  if (scales != 0) scatter_units<1>(part.scales + row * part.scale_row_stride, scales, panel + lane);
}

void check_part(const PanelLayout& layout, const WeightRows& part, const char* what) {
  SABREWING_CHECK(part.rows >= 0 && part.rows <= kMaxDimension, kInvalidArgument, "[pack] {} has {} rows",
                  what, part.rows);
  if (part.rows == 0) return;
  const auto bytes = static_cast<std::int64_t>(row_bytes(layout.kind, layout.k));
  const auto scales = static_cast<std::int64_t>(row_scale_bytes(layout.kind, layout.k));
  SABREWING_CHECK(part.values != nullptr && (scales == 0 || part.scales != nullptr), kInvalidArgument,
                  "[pack] {} has no data", what);
  SABREWING_CHECK(part.rows == 1 || (part.row_stride >= bytes && part.scale_row_stride >= scales),
                  kInvalidArgument,
                  "[pack] {}: row strides of {} and {} bytes are shorter than a row ({} and {})", what,
                  part.row_stride, part.scale_row_stride, bytes, scales);
}

PackedWeight make_packed(const formats::WeightFormat& format, const PanelLayout& layout, std::int64_t n,
                         std::int64_t panels, std::int64_t experts, DeviceBuffer to = {}) {
  PackedWeight packed;
  packed.layout = layout_name(layout.kind);
  packed.version = kPackVersion;
  packed.format = format;
  packed.n = n;
  packed.k = layout.k;
  packed.padded_n = panels * kPanelRows;
  packed.padded_k = layout.kind == WeightKind::kBF16 ? (layout.k + 1) / 2 * 2 : layout.k;
  packed.experts = experts;
  packed.expert_stride_bytes = static_cast<std::size_t>(panels) * layout.panel_bytes;
  const std::size_t bytes = packed.expert_stride_bytes * static_cast<std::size_t>(experts);
  if (to.data != nullptr) {
    SABREWING_CHECK(to.bytes >= bytes && reinterpret_cast<std::uintptr_t>(to.data) % 64 == 0,
                    kInvalidArgument, "[pack] the buffer has {} bytes at {}: {} at a multiple of 64 expected",
                    to.bytes, to.data, bytes);
    packed.bytes = std::move(to);
  } else {
    packed.bytes = allocate_host(bytes);
  }
  return packed;
}

PanelLayout checked_layout(const formats::WeightFormat& format, std::int64_t k) {
  const std::optional<WeightKind> kind = weight_kind(format);
  SABREWING_CHECK(kind.has_value(), kUnsupported, "[pack] the CPU executes {} weights, not {}",
                  supported_weights(), formats::to_string(format));
  SABREWING_CHECK(k >= 1 && k <= kMaxDimension, kInvalidArgument, "[pack] K of {} is out of range", k);
  SABREWING_CHECK(*kind != WeightKind::kMXFP4 || k % kGroup == 0, kUnsupported,
                  "[pack] mxfp4: K of {} is not a multiple of {}", k, kGroup);
  return PanelLayout::make(*kind, k);
}

/// Panels of rows that come from a list of parts stacked along n.
void pack_panel(const PanelLayout& layout, std::span<const WeightRows> parts, std::int64_t first_row,
                std::byte* panel) {
  std::memset(panel, 0, layout.panel_bytes);
  for (std::size_t lane = 0; lane < kRows; ++lane) {
    std::int64_t row = first_row + static_cast<std::int64_t>(lane);
    for (const WeightRows& part : parts) {
      if (row < part.rows) {
        place_row(layout, part, row, lane, panel);
        break;
      }
      row -= part.rows;
    }
  }
}

/// How many pieces of `bytes` are packed before their source is reported done.
std::int64_t pieces_per_slab(std::size_t bytes) {
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(kStagingBytes / bytes));
}

/// Tells `source.done` of rows [first, end) of the stacked parts.
void report_done(const PanelLayout& layout, const WeightSource& source, std::int64_t first,
                 std::int64_t end) {
  const auto report = [&](const std::byte* data, std::int64_t stride, std::size_t row_bytes,
                          std::int64_t begin, std::int64_t count) {
    if (row_bytes > 0 && stride == static_cast<std::int64_t>(row_bytes))
      source.done({data + begin * stride, static_cast<std::size_t>(count) * row_bytes});
  };
  for (const WeightRows& part : source.parts) {
    const std::int64_t begin = std::clamp<std::int64_t>(first, 0, part.rows);
    const std::int64_t count = std::clamp<std::int64_t>(end, 0, part.rows) - begin;
    if (count > 0) {
      report(part.values, part.row_stride, row_bytes(layout.kind, layout.k), begin, count);
      report(part.scales, part.scale_row_stride, row_scale_bytes(layout.kind, layout.k), begin, count);
    }
    first -= part.rows;
    end -= part.rows;
  }
}

DeviceBuffer copy_floats(std::span<const float> values) {
  if (values.empty()) return {};
  DeviceBuffer buffer = allocate_host(values.size_bytes());
  std::memcpy(buffer.data, values.data(), values.size_bytes());
  return buffer;
}

}  // namespace

std::optional<WeightKind> weight_kind(const formats::WeightFormat& format) {
  if (format == formats::WeightFormat::bf16()) return WeightKind::kBF16;
  if (format == formats::WeightFormat::fp16()) return WeightKind::kFP16;
  if (format == formats::WeightFormat::fp32()) return WeightKind::kFP32;
  if (format == formats::WeightFormat::mxfp4()) return WeightKind::kMXFP4;
  return std::nullopt;
}

const char* supported_weights() { return "bf16, fp16, fp32 and mxfp4"; }

PanelLayout PanelLayout::make(WeightKind kind, std::int64_t k) {
  PanelLayout layout;
  layout.kind = kind;
  layout.k = k;
  layout.value_offset = round_up(row_scale_bytes(kind, k) * kRows, 64);
  layout.panel_bytes =
      layout.value_offset + round_up(round_up(row_bytes(kind, k), unit_bytes(kind)) * kRows, 64);
  return layout;
}

std::int64_t panel_count(std::int64_t n) { return (n + kPanelRows - 1) / kPanelRows; }

DeviceBuffer allocate_host(std::size_t bytes) {
  auto owner = std::make_shared<HostBuffer>(bytes);
  DeviceBuffer buffer;
  buffer.data = owner->data();
  buffer.bytes = bytes;
  buffer.owner = std::move(owner);
  return buffer;
}

PackedWeight pack_gemm(const WeightSource& source, ThreadPool& pool, DeviceBuffer to) {
  const PanelLayout layout = checked_layout(source.format, source.k);
  for (const WeightRows& part : source.parts) check_part(layout, part, "weight");
  const std::int64_t n = source.n();
  SABREWING_CHECK(n >= 1 && n <= kMaxDimension, kInvalidArgument, "[pack] N of {} is out of range", n);
  const std::int64_t panels = panel_count(n);
  PackedWeight packed = make_packed(source.format, layout, n, panels, 1, std::move(to));
  auto* bytes = static_cast<std::byte*>(packed.bytes.data);
  const std::int64_t slab = pieces_per_slab(layout.panel_bytes);
  for (std::int64_t begin = 0; begin < panels; begin += slab) {
    const std::int64_t end = std::min(panels, begin + slab);
    pool.parallel_for(end - begin, [&](std::int64_t index, int) {
      const std::int64_t panel = begin + index;
      pack_panel(layout, source.parts, panel * kPanelRows,
                 bytes + static_cast<std::size_t>(panel) * layout.panel_bytes);
    });
    if (source.done) report_done(layout, source, begin * kPanelRows, end * kPanelRows);
  }
  return packed;
}

PackedExperts pack_experts(const formats::WeightFormat& format, std::int64_t hidden,
                           std::int64_t intermediate, std::span<const ExpertSource> sources,
                           std::span<const float> bias13, std::span<const float> bias2, ThreadPool& pool) {
  const PanelLayout layout13 = checked_layout(format, hidden);
  const PanelLayout layout2 = checked_layout(format, intermediate);
  for (const ExpertSource& source : sources) {
    check_part(layout13, source.gate, "expert gate");
    check_part(layout13, source.up, "expert up");
    check_part(layout2, source.down, "expert down");
    SABREWING_CHECK(
        source.gate.rows == intermediate && source.up.rows == intermediate && source.down.rows == hidden,
        kInvalidArgument, "[pack] expert rows are {}, {}, {}: {}, {}, {} expected", source.gate.rows,
        source.up.rows, source.down.rows, intermediate, intermediate, hidden);
  }
  const std::size_t experts = sources.size();
  const auto columns13 = static_cast<std::size_t>(2 * intermediate);
  SABREWING_CHECK(bias13.empty() || bias13.size() == experts * columns13, kInvalidArgument,
                  "[pack] {} values of gate and up bias, {} expected", bias13.size(), experts * columns13);
  SABREWING_CHECK(bias2.empty() || bias2.size() == experts * static_cast<std::size_t>(hidden),
                  kInvalidArgument, "[pack] {} values of down bias, {} expected", bias2.size(),
                  experts * static_cast<std::size_t>(hidden));

  const std::int64_t blocks13 = panel_count(intermediate);
  const std::int64_t panels2 = panel_count(hidden);
  PackedExperts packed;
  packed.w13 =
      make_packed(format, layout13, 2 * intermediate, 2 * blocks13, static_cast<std::int64_t>(experts));
  packed.w2 = make_packed(format, layout2, hidden, panels2, static_cast<std::int64_t>(experts));
  packed.bias13 = copy_floats(bias13);
  packed.bias2 = copy_floats(bias2);
  const std::int64_t per_expert = blocks13 + panels2;
  const std::int64_t slab = pieces_per_slab(packed.w13.expert_stride_bytes + packed.w2.expert_stride_bytes);
  const auto pack_block = [&](std::int64_t expert, std::int64_t block) {
    const ExpertSource& source = sources[static_cast<std::size_t>(expert)];
    if (block < blocks13) {
      auto* panel = const_cast<std::byte*>(panel_data(packed.w13, layout13, expert, 2 * block));
      pack_panel(layout13, {&source.gate, 1}, block * kPanelRows, panel);
      pack_panel(layout13, {&source.up, 1}, block * kPanelRows, panel + layout13.panel_bytes);
    } else {
      auto* panel = const_cast<std::byte*>(panel_data(packed.w2, layout2, expert, block - blocks13));
      pack_panel(layout2, {&source.down, 1}, (block - blocks13) * kPanelRows, panel);
    }
  };
  const auto count = static_cast<std::int64_t>(experts);
  for (std::int64_t begin = 0; begin < count; begin += slab) {
    const std::int64_t end = std::min(count, begin + slab);
    pool.parallel_for((end - begin) * per_expert, [&](std::int64_t index, int) {
      pack_block(begin + index / per_expert, index % per_expert);
    });
    for (std::int64_t expert = begin; expert < end; ++expert)
      if (const auto& done = sources[static_cast<std::size_t>(expert)].done) done();
  }
  return packed;
}

UnpackedRows unpack_rows(const PackedWeight& weight, std::int64_t expert, std::int64_t first_row,
                         std::int64_t rows) {
  const PanelLayout layout = checked_layout(weight.format, weight.k);
  SABREWING_CHECK(expert >= 0 && expert < weight.experts && first_row >= 0 && rows >= 0 &&
                      first_row + rows <= weight.padded_n,
                  kInvalidArgument, "[unpack] expert {} rows {} to {} are outside {} experts of {} rows",
                  expert, first_row, first_row + rows, weight.experts, weight.padded_n);
  const std::size_t bytes = row_bytes(layout.kind, layout.k);
  const std::size_t scales = row_scale_bytes(layout.kind, layout.k);
  UnpackedRows out;
  out.values.resize(bytes * static_cast<std::size_t>(rows));
  out.scales.resize(scales * static_cast<std::size_t>(rows));
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t row = first_row + i;
    const std::byte* panel = panel_data(weight, layout, expert, row / kPanelRows);
    const std::byte* from = panel + layout.value_offset;
    const auto lane = static_cast<std::size_t>(row % kPanelRows);
    std::byte* values = out.values.data() + static_cast<std::size_t>(i) * bytes;
    if (unit_bytes(layout.kind) == 2)
      gather_units<2>(from + lane * 2, bytes, values);
    else
      gather_units<4>(from + lane * 4, bytes, values);
    if (scales != 0)
      gather_units<1>(panel + lane, scales, out.scales.data() + static_cast<std::size_t>(i) * scales);
  }
  return out;
}

void dequantize_row(const PackedWeight& weight, std::int64_t expert, std::int64_t row, float* out) {
  const UnpackedRows stored = unpack_rows(weight, expert, row, 1);
  formats::dequantize_rows(weight.format, {stored.values, stored.scales}, weight.k, 0, 1,
                           {out, static_cast<std::size_t>(weight.k)});
}

}  // namespace sabrewing::kernels::cpu
