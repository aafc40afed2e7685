// Portable inner loops. Multiply and add are rounded separately.

#include <cstring>

#include "kernels/cpu/panel_kernels.h"

namespace sabrewing::kernels::cpu {
namespace {

constexpr float kE2M1Values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                   -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
constexpr int kE2M1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};
constexpr int kRows = kPanelRows;

float from_bits(std::uint32_t bits) {
  float value = 0;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

std::uint32_t to_bits(float value) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

template <typename T>
T load(const std::byte* from) {
  T value{};
  std::memcpy(&value, from, sizeof(value));
  return value;
}

float e8m0(std::byte code) {
  const auto exponent = static_cast<std::uint32_t>(code);
  if (exponent == 0) return from_bits(0x00400000);
  return from_bits(exponent == 255 ? 0x7fc00000 : exponent << 23);
}

float half_to_float(std::uint32_t half) {
  const std::uint32_t sign = (half & 0x8000) << 16;
  const std::uint32_t exponent = half >> 10 & 31;
  const std::uint32_t mantissa = half & 0x3ff;
  if (exponent == 31) return from_bits(sign | 0x7f800000 | mantissa << 13);
  if (exponent == 0) return (sign != 0 ? -1.0f : 1.0f) * static_cast<float>(mantissa) * 0x1p-24f;
  return from_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

/// column(panel, scales, i, values): element i of K of each row of a panel.
struct BF16 {
  static void column(const std::byte* panel, const std::byte*, std::int64_t i, float* values) {
    const std::byte* at = panel + (i / 2) * kRows * 4 + (i % 2) * 2;
    for (int r = 0; r < kRows; ++r)
      values[r] = from_bits(std::uint32_t{load<std::uint16_t>(at + r * 4)} << 16);
  }
};

struct FP16 {
  static void column(const std::byte* panel, const std::byte*, std::int64_t i, float* values) {
    for (int r = 0; r < kRows; ++r)
      values[r] = half_to_float(load<std::uint16_t>(panel + (i * kRows + r) * 2));
  }
};

struct FP32 {
  static void column(const std::byte* panel, const std::byte*, std::int64_t i, float* values) {
    std::memcpy(values, panel + i * kRows * 4, kRows * sizeof(float));
  }
};

struct MXFP4 {
  static void column(const std::byte* panel, const std::byte* scales, std::int64_t i, float* values) {
    const std::byte* codes = panel + (i / 8) * kRows * 4 + (i % 8) / 2;
    for (int r = 0; r < kRows; ++r) {
      const auto pair = static_cast<unsigned>(codes[r * 4]);
      values[r] = kE2M1Values[i % 2 == 0 ? pair & 15 : pair >> 4] * e8m0(scales[i / kGroup * kRows + r]);
    }
  }
};

template <typename Format>
void run_f32(const PanelTask& task) {
  const std::int64_t stride = task.out_stride;
  for (std::int64_t m = 0; m < task.row_count; ++m)
    for (int c = 0; c < task.panels * kRows; ++c) task.out[m * stride + c] = 0;
  for (int p = 0; p < task.panels; ++p) {
    const std::byte* panel = task.weights + static_cast<std::size_t>(p) * task.panel_stride;
    const std::byte* scales = task.scales + static_cast<std::size_t>(p) * task.panel_stride;
    for (std::int64_t i = 0; i < task.k; ++i) {
      float w[kRows];
      Format::column(panel, scales, i, w);
      for (std::int64_t m = 0; m < task.row_count; ++m) {
        const float a = load<float>(task.rows[m] + i * 4);
        float* out = task.out + m * stride + p * kRows;
        for (int r = 0; r < kRows; ++r) out[r] += w[r] * a;
      }
    }
  }
}

void run_int8(const PanelTask& task) {
  const std::int64_t groups = task.k / kGroup;
  const std::int64_t stride = task.out_stride;
  for (std::int64_t m = 0; m < task.row_count; ++m)
    for (int c = 0; c < task.panels * kRows; ++c) task.out[m * stride + c] = 0;
  for (int p = 0; p < task.panels; ++p) {
    const std::byte* panel = task.weights + static_cast<std::size_t>(p) * task.panel_stride;
    const std::byte* scales = task.scales + static_cast<std::size_t>(p) * task.panel_stride;
    for (std::int64_t g = 0; g < groups; ++g) {
      std::int8_t codes[kRows][kGroup];
      for (int r = 0; r < kRows; ++r) {
        for (int i = 0; i < kGroup; ++i) {
          const std::byte pair = panel[((g * 4 + i / 8) * kRows + r) * 4 + i % 8 / 2];
          const int code = kE2M1Doubled[static_cast<unsigned>(pair) >> (i % 2 * 4) & 15];
          codes[r][i / 8 * 8 + i % 2 * 4 + i % 8 / 2] = static_cast<std::int8_t>(code);
        }
      }
      for (std::int64_t m = 0; m < task.row_count; ++m) {
        const std::byte* a = task.rows[m] + g * kInt8GroupBytes;
        const auto a_scale = load<float>(a + kGroup);
        float* out = task.out + m * stride + p * kRows;
        for (int r = 0; r < kRows; ++r) {
          int sum = 0;
          for (int i = 0; i < kGroup; ++i) sum += codes[r][i] * static_cast<std::int8_t>(a[i]);
          out[r] += static_cast<float>(sum) * (e8m0(scales[g * kRows + r]) * a_scale);
        }
      }
    }
  }
}

void quantize_int8(const float* x, std::int64_t first_group, std::int64_t groups, std::byte* row) {
  for (std::int64_t i = 0; i < groups; ++i, x += kGroup) {
    std::byte* to = row + (first_group + i) * kInt8GroupBytes;
    std::uint32_t largest = 0;
    for (int j = 0; j < kGroup; ++j) {
      const std::uint32_t magnitude = to_bits(x[j]) & 0x7fffffff;
      largest = magnitude > largest ? magnitude : largest;
    }
    float scale = from_bits(largest) * (1.0f / 254);
    float inverse = 127.0f / from_bits(largest);
    if (from_bits(largest) < 0x1p-119f) scale = inverse = 0;
    if (largest >= 0x7f800000) {
      scale = from_bits(0x7fc00000);
      inverse = 0;
    }
    std::int32_t sum = 0;
    for (int j = 0; j < kGroup; ++j) {
      // Ties to even: the sum has no fraction bits left.
      const float rounded = x[j] * inverse + kInt8Magic;
      const int code = inverse == 0 ? 0 : static_cast<int>(to_bits(rounded) - 0x4b400000);
      to[j / 8 * 8 + j % 2 * 4 + j % 8 / 2] = static_cast<std::byte>(code);
      sum += code;
    }
    const float excess = kInt8Magic + static_cast<float>(12 * sum);
    std::memcpy(to + kGroup, &scale, sizeof(scale));
    std::memcpy(to + kGroup + 4, &excess, sizeof(excess));
  }
}

}  // namespace

PanelKernels scalar_panel_kernels() {
  PanelKernels kernels;
  kernels.name = "scalar";
  kernels.bf16_f32 = run_f32<BF16>;
  kernels.fp16_f32 = run_f32<FP16>;
  kernels.fp32_f32 = run_f32<FP32>;
  kernels.mxfp4_f32 = run_f32<MXFP4>;
  kernels.mxfp4_int8 = run_int8;
  kernels.quantize_int8 = quantize_int8;
  return kernels;
}

}  // namespace sabrewing::kernels::cpu
