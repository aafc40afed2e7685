#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <vector>

#include "kernels/cpu/ops.h"
#include "kernels/cpu/tier.h"

namespace sabrewing::kernels::cpu {

/// Every tier of this machine with one and with three threads.
struct OpsCase {
  CpuTier tier;
  int threads;
};

inline std::vector<OpsCase> ops_cases() {
  std::vector<OpsCase> cases;
  for (const CpuTier tier : {CpuTier::kScalar, CpuTier::kAvx2, CpuTier::kAvx512})
    if (supports(cpu_features(), tier))
      for (const int threads : {1, 3}) cases.push_back({tier, threads});
  return cases;
}

class OpsTest : public testing::TestWithParam<OpsCase> {
 protected:
  std::vector<float> random(std::size_t count, float scale = 1) {
    std::normal_distribution<float> normal(0, scale);
    std::vector<float> values(count);
    for (float& value : values) value = normal(generator_);
    return values;
  }

  ThreadPool pool_{GetParam().threads};
  Ops ops_{pool_, GetParam().tier};
  std::mt19937 generator_{7};
};

inline std::string ops_case_name(const testing::TestParamInfo<OpsCase>& info) {
  return std::string(to_string(info.param.tier)) + "_" + std::to_string(info.param.threads);
}

/// A float matrix whose rows lie `gap` elements apart beyond their end, with guards between and after them.
class GuardedMatrix {
 public:
  GuardedMatrix(std::int64_t rows, std::int64_t cols, std::int64_t gap = 3)
      : rows_(rows),
        cols_(cols),
        stride_(cols + gap),
        data_(static_cast<std::size_t>(rows * stride_ + gap + 1), kGuard) {}

  GuardedMatrix(std::int64_t rows, std::int64_t cols, const std::vector<float>& values)
      : GuardedMatrix(rows, cols) {
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < cols; ++j) at(i, j) = values[static_cast<std::size_t>(i * cols + j)];
  }

  Matrix view() { return {data_.data(), DType::kF32, rows_, cols_, stride_}; }
  float& at(std::int64_t i, std::int64_t j) { return data_[static_cast<std::size_t>(i * stride_ + j)]; }
  std::span<const float> row(std::int64_t i) {
    return std::span<const float>(data_).subspan(static_cast<std::size_t>(i * stride_),
                                                 static_cast<std::size_t>(cols_));
  }

  void expect_guards() {
    for (std::size_t i = 0; i < data_.size(); ++i) {
      const auto column = static_cast<std::int64_t>(i) % stride_;
      const auto line = static_cast<std::int64_t>(i) / stride_;
      if (column >= cols_ || line >= rows_) {
        ASSERT_EQ(data_[i], kGuard) << "row " << line << " column " << column;
      }
    }
  }

 private:
  static constexpr float kGuard = -12345.5f;
  std::int64_t rows_;
  std::int64_t cols_;
  std::int64_t stride_;
  std::vector<float> data_;
};

inline void expect_row_near(std::span<const float> actual, const std::vector<double>& expected,
                            double relative, double absolute) {
  ASSERT_EQ(actual.size(), expected.size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(actual[i], expected[i], relative * std::abs(expected[i]) + absolute) << "column " << i;
}

inline bool same_bits(std::span<const float> a, std::span<const float> b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size_bytes()) == 0);
}

}  // namespace sabrewing::kernels::cpu
