#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "formats/numeric/float16.h"
#include "kernels/cuda/backend/cuda_backend.h"

namespace sabrewing::kernels::cuda {

/// Runs once with BF16 and once with FP32 activations; skipped without a GPU.
class CudaOps : public testing::TestWithParam<Accuracy> {
 protected:
  // Compiling and loading once per accuracy is enough.
  static std::unique_ptr<Backend>& shared_backend(Accuracy accuracy) {
    static std::unique_ptr<Backend> backends[3];
    return backends[static_cast<int>(accuracy)];
  }

  void SetUp() override {
    const CudaBackendOptions options{0, GetParam()};
    if (const Feasibility usable = cuda_usable(options); !usable) GTEST_SKIP() << usable.reason;
    auto& backend = shared_backend(GetParam());
    if (!backend) backend = make_cuda_backend(options);
    backend_ = backend.get();
    act_ = backend_->activation_dtype();
  }
  static void TearDownTestSuite() {
    for (const Accuracy accuracy : {Accuracy::kDefault, Accuracy::kExact}) shared_backend(accuracy).reset();
  }

  bool is_exact() const { return act_ == DType::kF32; }
  /// Relative error of one rounding to the activation type, and of FP32 sums.
  double rounding() const { return is_exact() ? 3e-6 : 1.0 / 256 + 3e-6; }
  double rounding(DType dtype) const { return dtype == DType::kF32 ? 3e-6 : 1.0 / 256 + 3e-6; }

  std::vector<float> random(std::size_t count, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(count);
    for (float& value : values) value = normal(generator_);
    return values;
  }
  /// What activations can hold.
  std::vector<float> activations(std::size_t count, float scale = 1) {
    std::vector<float> values = random(count, scale);
    if (!is_exact())
      for (float& value : values) value = formats::bf16_to_float(formats::float_to_bf16(value));
    return values;
  }

  template <typename T>
  DeviceBuffer upload(const std::vector<T>& values) {
    DeviceBuffer buffer = backend_->allocate(values.size() * sizeof(T));
    backend_->copy_in(buffer.data, values.data(), values.size() * sizeof(T));
    return buffer;
  }
  template <typename T>
  std::vector<T> download(const void* from, std::size_t count) {
    std::vector<T> values(count);
    backend_->copy_out(values.data(), from, count * sizeof(T));
    backend_->synchronize();
    return values;
  }

  /// A device matrix with `gap` guard elements after each row.
  struct Operand {
    DeviceBuffer buffer;
    Matrix view;
  };
  static constexpr float kGuard = -12352.0f;  // a BF16 value

  Operand operand(DType dtype, std::int64_t rows, std::int64_t cols, std::span<const float> values = {},
                  std::int64_t gap = 8) {
    const std::int64_t stride = cols + gap;
    std::vector<float> all(static_cast<std::size_t>(rows * stride), kGuard);
    if (!values.empty())
      for (std::int64_t i = 0; i < rows; ++i)
        std::copy_n(values.begin() + i * cols, cols, all.begin() + i * stride);
    Operand result;
    if (dtype == DType::kF32) {
      result.buffer = upload(all);
    } else {
      std::vector<std::uint16_t> bits;
      for (const float value : all) bits.push_back(formats::float_to_bf16(value));
      result.buffer = upload(bits);
    }
    result.view = {result.buffer.data, dtype, rows, cols, stride};
    return result;
  }
  Operand operand(std::int64_t rows, std::int64_t cols, std::span<const float> values = {}) {
    return operand(act_, rows, cols, values);
  }

  /// The values, row by row; fails when a guard was written.
  std::vector<float> read(const Operand& from) {
    const Matrix& m = from.view;
    const auto count = static_cast<std::size_t>(m.rows * m.row_stride);
    std::vector<float> all;
    if (m.dtype == DType::kF32) {
      all = download<float>(m.data, count);
    } else {
      for (const std::uint16_t bits : download<std::uint16_t>(m.data, count))
        all.push_back(formats::bf16_to_float(bits));
    }
    std::vector<float> values;
    for (std::int64_t i = 0; i < m.rows; ++i) {
      const auto row = all.begin() + i * m.row_stride;
      values.insert(values.end(), row, row + m.cols);
      for (std::int64_t j = m.cols; j < m.row_stride; ++j)
        EXPECT_EQ(row[j], kGuard) << "guard of row " << i << ", column " << j;
    }
    return values;
  }

  static void expect_near(std::span<const float> actual, std::span<const double> expected, double relative,
                          double absolute) {
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(actual[i], expected[i], relative * std::abs(expected[i]) + absolute) << "value " << i;
  }
  static bool same_bits(std::span<const float> a, std::span<const float> b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
  }

  Backend* backend_ = nullptr;
  DType act_ = DType::kBF16;
  std::mt19937 generator_{7};
};

inline std::string accuracy_name(const testing::TestParamInfo<Accuracy>& info) {
  return info.param == Accuracy::kExact ? "fp32" : "bf16";
}

}  // namespace sabrewing::kernels::cuda
