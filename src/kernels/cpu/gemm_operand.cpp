#include "kernels/cpu/gemm_operand.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "formats/numeric/float16.h"

namespace sabrewing::kernels::cpu {
namespace {

const formats::ActivationFormat kInt16Groups =
    formats::ActivationFormat::per_group(formats::ElementType::integer(16), kGroup, formats::kFP32);
const formats::ActivationFormat kInt8Groups =
    formats::ActivationFormat::per_group(formats::ElementType::integer(8), kGroup, formats::kFP32);

std::size_t round_up(std::size_t value, std::size_t to) { return (value + to - 1) / to * to; }

PanelKernel f32_kernel(WeightKind kind, const PanelKernels& kernels) {
  switch (kind) {
    case WeightKind::kBF16:
      return kernels.bf16_f32;
    case WeightKind::kFP16:
      return kernels.fp16_f32;
    case WeightKind::kFP32:
      return kernels.fp32_f32;
    case WeightKind::kMXFP4:
      return kernels.mxfp4_f32;
  }
  return nullptr;
}

const char* weight_name(WeightKind kind) {
  switch (kind) {
    case WeightKind::kBF16:
      return "bf16";
    case WeightKind::kFP16:
      return "fp16";
    case WeightKind::kFP32:
      return "fp32";
    case WeightKind::kMXFP4:
      return "mxfp4";
  }
  return "";
}

}  // namespace

PanelKernels select_panel_kernels(CpuTier tier, const CpuFeatures& features) {
  SABREWING_CHECK(supports(features, tier), kUnsupported, "[cpu tier] {} is not available here",
                  to_string(tier));
#if defined(__x86_64__)
  if (tier == CpuTier::kAvx2) return avx2_panel_kernels();
  if (tier == CpuTier::kAvx512) {
    PanelKernels kernels = avx512_panel_kernels();
    if (features.avx512_bf16) kernels.bf16_bf16 = avx512_bf16_dot_kernel();
    return kernels;
  }
#endif
  return scalar_panel_kernels();
}

formats::ActivationFormat preferred_activation(const formats::WeightFormat& weight, Accuracy accuracy,
                                               const CpuFeatures& features, const PanelKernels& kernels) {
  if (accuracy != Accuracy::kExact) {
    if (weight == formats::WeightFormat::mxfp4()) return kInt8Groups;
    const bool dot = features.fast_bf16_dot && kernels.bf16_bf16 != nullptr;
    if (weight == formats::WeightFormat::bf16()) {
      if (dot) return formats::ActivationFormat::bf16();
      if (kernels.bf16_int16 != nullptr) return kInt16Groups;
    }
  }
  return formats::ActivationFormat::fp32();
}

Feasibility Operand::check(const formats::WeightFormat& weight, const formats::ActivationFormat& activation,
                           Accuracy accuracy, std::int64_t k, const PanelKernels& kernels) {
  const std::optional<WeightKind> kind = weight_kind(weight);
  if (!kind)
    return Feasibility::no(
        fmt::format("the CPU executes {} weights, not {}", supported_weights(), formats::to_string(weight)));
  if (k < 1) return Feasibility::no(fmt::format("K of {} is not positive", k));
  if (*kind == WeightKind::kMXFP4 && k % kGroup != 0)
    return Feasibility::no(fmt::format("mxfp4: K of {} is not a multiple of {}", k, kGroup));
  if (activation == formats::ActivationFormat::fp32()) return Feasibility::yes();
  if (accuracy == Accuracy::kExact)
    return Feasibility::no(
        fmt::format("exact arithmetic takes fp32 activations, not {}", formats::to_string(activation)));
  if (activation == formats::ActivationFormat::bf16() && *kind == WeightKind::kBF16)
    return Feasibility::yes();
  if (activation == kInt16Groups && *kind == WeightKind::kBF16 && kernels.bf16_int16 != nullptr)
    return Feasibility::yes();
  if (activation == kInt8Groups && *kind == WeightKind::kMXFP4) return Feasibility::yes();
  return Feasibility::no(fmt::format(
      "{} weights take {}fp32 activations on the CPU, not {}", weight_name(*kind),
      *kind == WeightKind::kBF16    ? (kernels.bf16_int16 != nullptr ? "bf16, int16 g32 or " : "bf16 or ")
      : *kind == WeightKind::kMXFP4 ? "int8 g32 or "
                                    : "",
      formats::to_string(activation)));
}

Operand::Operand(const formats::WeightFormat& weight, const formats::ActivationFormat& activation,
                 std::int64_t k, const PanelKernels& kernels, const OpsKernels& ops)
    : kernels_(kernels), ops_(&ops), layout_(PanelLayout::make(weight_kind(weight).value(), k)) {
  const auto columns = static_cast<std::size_t>(k);
  kernel_ = f32_kernel(layout_.kind, kernels);
  row_bytes_ = columns * sizeof(float);
  if (activation == kInt8Groups) {
    mode_ = Mode::kInt8;
    kernel_ = kernels.mxfp4_int8;
    row_bytes_ = columns / kGroup * kInt8GroupBytes;
  } else if (activation == kInt16Groups) {
    mode_ = Mode::kInt16;
    kernel_ = kernels.bf16_int16;
    row_bytes_ = (columns + kGroup - 1) / kGroup * kInt16GroupBytes;
  } else if (activation == formats::ActivationFormat::bf16()) {
    mode_ = Mode::kF32Rounded;
    if (kernels.bf16_bf16 != nullptr) {
      mode_ = Mode::kBF16;
      kernel_ = kernels.bf16_bf16;
      row_bytes_ = columns * 2;
    }
  }
  row_bytes_ = round_up(row_bytes_, 64);
}

std::string Operand::describe() const {
  const char* activation = "fp32";
  if (mode_ == Mode::kInt8) activation = "int8 g32";
  if (mode_ == Mode::kInt16) activation = "int16 g32";
  if (mode_ == Mode::kBF16) activation = "bf16";
  if (mode_ == Mode::kF32Rounded) activation = "bf16 (fp32 multiply-add)";
  return fmt::format("cpu_{} {} x {}", kernels_.name, weight_name(layout_.kind), activation);
}

void Operand::stage(const Matrix& x, std::int64_t row, float* scratch, std::byte* to) const {
  if (x.dtype == DType::kF32) {
    stage_part(x.row<float>(row), 0, layout_.k, to);
    return;
  }
  load_row(x, row, scratch);
  stage_part(scratch, 0, layout_.k, to);
}

void Operand::stage_part(const float* x, std::int64_t first, std::int64_t count, std::byte* to) const {
  const auto begin = static_cast<std::size_t>(first);
  const auto size = static_cast<std::size_t>(count);
  switch (mode_) {
    case Mode::kF32:
      std::memcpy(to + begin * sizeof(float), x, size * sizeof(float));
      break;
    case Mode::kF32Rounded: {
      auto* values = reinterpret_cast<float*>(to) + begin;
      for (std::size_t i = 0; i < size; ++i) values[i] = formats::bf16_to_float(formats::float_to_bf16(x[i]));
      break;
    }
    case Mode::kBF16: {
      auto* values = reinterpret_cast<std::uint16_t*>(to) + begin;
      ops_->to_bf16(x, count, values);
      if (first + count == layout_.k && layout_.k % 2 != 0) values[size] = 0;
      break;
    }
    case Mode::kInt16: {
      const std::int64_t whole = count / kGroup;
      kernels_.quantize_int16(x, first / kGroup, whole, to);
      if (count % kGroup != 0) {
        float last[kGroup] = {};
        std::memcpy(last, x + whole * kGroup, static_cast<std::size_t>(count % kGroup) * sizeof(float));
        kernels_.quantize_int16(last, first / kGroup + whole, 1, to);
      }
      break;
    }
    case Mode::kInt8:
      kernels_.quantize_int8(x, first / kGroup, count / kGroup, to);
      break;
  }
}

void for_chunks(ThreadPool& pool, std::int64_t count,
                const std::function<void(std::int64_t index, int worker)>& task) {
  constexpr std::int64_t kNeighbours = 4;
  constexpr std::int64_t kChunksPerThread = 16;
  const std::int64_t size =
      std::clamp<std::int64_t>(count / (pool.threads() * kChunksPerThread), 1, kNeighbours);
  pool.parallel_for((count + size - 1) / size, [&](std::int64_t chunk, int worker) {
    for (std::int64_t index = chunk * size; index < std::min(count, (chunk + 1) * size); ++index)
      task(index, worker);
  });
}

void load_row(const Matrix& x, std::int64_t row, float* to) {
  if (x.dtype == DType::kF32) {
    std::memcpy(to, x.row<float>(row), static_cast<std::size_t>(x.cols) * sizeof(float));
    return;
  }
  const auto* from = x.row<std::uint16_t>(row);
  for (std::int64_t i = 0; i < x.cols; ++i) to[i] = formats::bf16_to_float(from[i]);
}

void store_row(const float* from, const Matrix& c, std::int64_t row, std::int64_t first, std::int64_t count) {
  if (c.dtype == DType::kF32) {
    std::memcpy(c.row<float>(row) + first, from, static_cast<std::size_t>(count) * sizeof(float));
    return;
  }
  auto* to = c.row<std::uint16_t>(row) + first;
  for (std::int64_t i = 0; i < count; ++i) to[i] = formats::float_to_bf16(from[i]);
}

void check_matrix(const Matrix& x, std::int64_t rows, std::int64_t cols, const char* what) {
  SABREWING_CHECK(x.rows == rows && x.cols == cols && (x.rows <= 1 || x.row_stride >= x.cols),
                  kInvalidArgument, "[cpu] {} is ({}, {}) with row stride {}: ({}, {}) expected", what,
                  x.rows, x.cols, x.row_stride, rows, cols);
  SABREWING_CHECK(x.dtype == DType::kF32 || x.dtype == DType::kBF16, kInvalidArgument,
                  "[cpu] {} is {}: F32 or BF16 expected", what, to_string(x.dtype));
  SABREWING_CHECK(rows == 0 || x.data != nullptr, kInvalidArgument, "[cpu] {} has no data", what);
}

}  // namespace sabrewing::kernels::cpu
