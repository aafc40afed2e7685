#pragma once

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "sabrewing/sabrewing.h"

namespace sabrewing::testing {

template <typename T>
T sized() {
  T value{};
  value.struct_size = sizeof(T);
  return value;
}

inline sabrewing_element_type element(const char* name) {
  sabrewing_element_type type{};
  EXPECT_EQ(sabrewing_parse_element_type(name, &type), SABREWING_OK) << sabrewing_last_error();
  return type;
}

inline sabrewing_weight_format mxfp4() {
  auto format = sized<sabrewing_weight_format>();
  format.element = element("float4e2m1");
  format.scale = element("float8e8m0");
  format.block_n = 1;
  format.block_k = 32;
  return format;
}

inline sabrewing_weight_format plain(const char* name) {
  auto format = sized<sabrewing_weight_format>();
  format.element = element(name);
  return format;
}

inline std::uint16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline float from_bf16(std::uint16_t bits) { return std::bit_cast<float>(std::uint32_t{bits} << 16); }

/// A random matrix as a checkpoint stores it, with its values by the formats' definitions.
struct StoredWeight {
  std::int64_t n = 0;
  std::int64_t k = 0;
  std::vector<std::uint8_t> values;
  std::vector<std::uint8_t> scales;
  std::vector<double> numbers;

  sabrewing_weight_rows rows() const {
    auto part = sized<sabrewing_weight_rows>();
    part.values = values.data();
    part.values_bytes = values.size();
    part.scales = scales.empty() ? nullptr : scales.data();
    part.scales_bytes = scales.size();
    part.rows = n;
    return part;
  }
};

inline StoredWeight random_mxfp4(std::int64_t n, std::int64_t k) {
  static constexpr double kTable[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  StoredWeight weight{n, k, {}, {}, {}};
  std::mt19937 random(7);
  for (std::int64_t i = 0; i < n * k / 2; ++i) weight.values.push_back(static_cast<std::uint8_t>(random()));
  for (std::int64_t i = 0; i < n * k / 32; ++i)
    weight.scales.push_back(static_cast<std::uint8_t>(120 + random() % 10));
  for (std::int64_t i = 0; i < n * k; ++i) {
    const int code = weight.values[static_cast<std::size_t>(i / 2)] >> (i % 2 * 4) & 15;
    const double scale = std::exp2(weight.scales[static_cast<std::size_t>(i / 32)] - 127);
    weight.numbers.push_back((code & 8 ? -1 : 1) * kTable[code & 7] * scale);
  }
  return weight;
}

inline StoredWeight random_bf16(std::int64_t n, std::int64_t k) {
  StoredWeight weight{n, k, {}, {}, {}};
  std::mt19937 random(9);
  std::normal_distribution<float> normal;
  for (std::int64_t i = 0; i < n * k; ++i) {
    const std::uint16_t bits = to_bf16(normal(random));
    weight.values.push_back(static_cast<std::uint8_t>(bits));
    weight.values.push_back(static_cast<std::uint8_t>(bits >> 8));
    weight.numbers.push_back(from_bf16(bits));
  }
  return weight;
}

inline std::vector<float> random_floats(std::int64_t count) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> out(static_cast<std::size_t>(count));
  for (float& x : out) x = normal(random);
  return out;
}

struct Free {
  void operator()(void* pointer) const { std::free(pointer); }
};
using Aligned = std::unique_ptr<void, Free>;
inline Aligned aligned(std::size_t bytes) {
  return Aligned(std::aligned_alloc(256, (bytes + 255) / 256 * 256 + 256));
}

class CapiTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto desc = sized<sabrewing_context_desc>();
    desc.device = "cpu";
    desc.threads = 2;
    ASSERT_EQ(sabrewing_context_create(&desc, &context_), SABREWING_OK) << sabrewing_last_error();
    format_ = mxfp4();
    desc_ = sized<sabrewing_gemm_desc>();
    desc_.weight = &format_;
    desc_.n = 40;
    desc_.k = 96;
    desc_.max_m = 16;
    desc_.output = SABREWING_F32;
  }
  void TearDown() override {
    EXPECT_EQ(sabrewing_weight_destroy(weight_), SABREWING_OK);
    EXPECT_EQ(sabrewing_plan_destroy(plan_), SABREWING_OK);
    EXPECT_EQ(sabrewing_context_destroy(context_), SABREWING_OK);
  }

  void make_plan() {
    ASSERT_EQ(sabrewing_plan_create(context_, &desc_, &plan_), SABREWING_OK) << sabrewing_last_error();
  }
  int pack(const sabrewing_weight_rows& part, void* buffer = nullptr, std::size_t bytes = 0) {
    auto source = sized<sabrewing_weight_source>();
    source.parts = &part;
    source.part_count = 1;
    return sabrewing_weight_pack(plan_, &source, buffer, bytes, &weight_);
  }
  /// A plan, its weight, and arguments for `m` rows that work.
  void make_call(const StoredWeight& stored, std::int64_t m) {
    make_plan();
    ASSERT_EQ(pack(stored.rows()), SABREWING_OK) << sabrewing_last_error();
    a_ = random_floats(m * desc_.k);
    c_.assign(static_cast<std::size_t>(m * desc_.n), -1.0f);
    args_ = sized<sabrewing_gemm_args>();
    args_.a = a_.data();
    args_.a_dtype = SABREWING_F32;
    args_.b = weight_;
    args_.c = c_.data();
    args_.m = m;
    ASSERT_EQ(sabrewing_plan_workspace_bytes(plan_, m, &args_.workspace_bytes), SABREWING_OK);
    workspace_ = aligned(args_.workspace_bytes);
    args_.workspace = workspace_.get();
  }
  int run() { return sabrewing_gemm_enqueue(plan_, &args_, nullptr); }

  sabrewing_context* context_ = nullptr;
  sabrewing_plan* plan_ = nullptr;
  sabrewing_weight* weight_ = nullptr;
  sabrewing_weight_format format_{};
  sabrewing_gemm_desc desc_{};
  sabrewing_gemm_args args_{};
  std::vector<float> a_;
  std::vector<float> c_;
  Aligned workspace_;
};

/// `call` gives `status`, and a message that has `part`.
#define EXPECT_REFUSED(call, status, part)                                                                  \
  do {                                                                                                      \
    EXPECT_EQ(call, status) << sabrewing_last_error();                                                      \
    EXPECT_NE(std::string(sabrewing_last_error()).find(part), std::string::npos) << sabrewing_last_error(); \
  } while (false)

}  // namespace sabrewing::testing
