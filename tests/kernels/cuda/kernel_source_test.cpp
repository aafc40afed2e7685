#include <gtest/gtest.h>

#include "jit/nvrtc_compiler.h"
#include "kernels/cuda/bench/random_weight.h"
#include "kernels/cuda/gemm/kernel_shape.h"

namespace sabrewing::kernels::cuda {
namespace {

using Family = KernelShape::Family;

struct Case {
  std::string name;
  KernelShape shape;
  std::string format;
  bool scale_after = false;
  DType output = DType::kBF16;
  std::string architecture = "sm_90a";
  std::string activation = "bf16";
  Accuracy accuracy = Accuracy::kDefault;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.shape.to_string() << ' ' << c.format; }

std::vector<Case> cases() {
  const KernelShape big{Family::kWgmma, 256, 1, 2, 3, 1, 1, 1};
  const KernelShape middle{Family::kWgmma, 64, 1, 2, 4, 4, 2, 1};
  const KernelShape few{Family::kMma, 8, 1, 8, 4, 1, 4, 1};
  const KernelShape wide{Family::kMma, 16, 4, 4, 4, 4, 1, 1};
  const KernelShape portable{Family::kMma, 64, 4, 2, 2, 1, 1, 1};
  std::vector<Case> list;
  for (const std::string format : {"mxfp4", "int4g128", "int4g64", "int4row", "fp8row"}) {
    list.push_back({"large_" + format, big, format});
    list.push_back({"middle_" + format, middle, format});
    const bool after = format == "int4g128" || format == "int4g64";
    list.push_back({"few_" + format, few, format, after});
    list.push_back({"wide_" + format, wide, format, after});
    list.push_back({"portable_" + format, portable, format, after});
  }
  list.push_back({"large_fp32_output", big, "mxfp4", false, DType::kF32});
  list.push_back({"middle_fp16_output", middle, "mxfp4", false, DType::kF16});
  for (const std::string architecture : {"sm_80", "sm_86", "sm_89", "sm_100a", "sm_103a", "sm_120a"})
    list.push_back({"portable_" + architecture, portable, "mxfp4", false, DType::kBF16, architecture});
  const auto add = [&](const std::string& name, const KernelShape& shape, const std::string& format,
                       const std::string& activation, const std::string& architecture, DType output) {
    const bool after = weight_layout(format_by_name(format), activation_by_name(activation)).decoder.empty();
    list.push_back({name, shape, format, after, output, architecture, activation});
  };
  KernelShape fp8 = portable;
  fp8.promote = 128;
  add("planes_sm_80", portable, "uint3:g32:fp16:zp", "fp16", "sm_80", DType::kF16);
  add("int8_sm_80", portable, "int4:g128:bf16", "int8", "sm_80", DType::kBF16);
  add("fp8_sm_89", fp8, "mxfp4", "fp8", "sm_89", DType::kBF16);
  add("fp8_sm_100a", fp8, "fp8block", "fp8g128", "sm_100a", DType::kF32);
  add("nvfp4_sm_120a", portable, "nvfp4", "bf16", "sm_120a", DType::kBF16);
  KernelShape fast = big;  // no promotion: fp8 sums as the instruction keeps them
  fast.tokens = 128;
  add("fast_fp8", fast, "fp8row", "fp8", "sm_90a", DType::kF32);
  KernelShape folded = big;
  folded.tokens = 128;
  folded.promote = 512;
  add("folded_fp8", folded, "mxfp4", "fp8", "sm_90a", DType::kBF16);
  folded = few;
  folded.promote = 128;
  add("few_folded_fp8", folded, "mxfp4", "fp8", "sm_90a", DType::kBF16);
  folded = fp8;
  folded.tokens = 32;
  add("folded_mxfp8_sm_89", folded, "mxfp4", "mxfp8", "sm_89", DType::kBF16);
  add("planes_bf16", middle, "int4:g32:bf16", "bf16", "sm_90a", DType::kBF16);
  add("planes_fp16", few, "float6e3m2:g64:fp16", "fp16", "sm_90a", DType::kBF16);
  add("int8", {Family::kWgmma, 128, 1, 2, 3, 1, 1, 1}, "int8:row:fp32", "int8", "sm_90a", DType::kBF16);
  add("mxfp8", {Family::kWgmma, 128, 1, 2, 3, 1, 1, 1}, "mxfp4", "mxfp8", "sm_90a", DType::kBF16);
  add("deep_mxfp8", {Family::kWgmma, 64, 1, 2, 3, 2, 1, 2}, "mxfp8", "mxfp8", "sm_90a", DType::kF32);
  add("block_fp8", {Family::kWgmma, 128, 1, 2, 6, 1, 1, 1, 512, 2}, "fp8block", "fp8g128", "sm_90a",
      DType::kBF16);
  add("deep_block_fp8", {Family::kWgmma, 128, 1, 2, 3, 1, 1, 2, 512}, "fp8block", "fp8g128", "sm_90a",
      DType::kBF16);
  add("folded_group_fp8", {Family::kWgmma, 128, 1, 2, 4, 1, 1, 2, 512, 2}, "mxfp4", "fp8g128", "sm_90a",
      DType::kBF16);
  add("few_group_fp8", {Family::kWgmma, 8, 1, 1, 4, 4, 1, 2}, "int3:g64:bf16", "fp8g128", "sm_90a",
      DType::kBF16);
  add("group_int8", {Family::kWgmma, 96, 1, 2, 3, 1, 1, 2}, "int6:g128:fp32", "int8g128", "sm_90a",
      DType::kBF16);
  add("tokens_first_block_fp8", {Family::kWgmma, 256, 2, 2, 4, 1, 1, 1, 512, 2, true}, "fp8block", "fp8g128",
      "sm_90a", DType::kBF16);
  add("tokens_first_fp32", {Family::kWgmma, 128, 3, 2, 4, 1, 1, 1, 512, 1, true}, "fp8row", "fp8g128",
      "sm_90a", DType::kF32);
  add("tokens_first_int8", {Family::kWgmma, 256, 1, 2, 4, 1, 1, 1, 0, 2, true}, "int8:row:fp32", "int8g128",
      "sm_90a", DType::kF16);
  fp8 = {Family::kWgmma, 64, 1, 2, 3, 4, 1, 2, 256};
  for (const std::string activation : {"fp8", "fp8g128"}) {
    add("halves_mxfp4_" + activation, {Family::kWgmma, 256, 1, 2, 4, 1, 1, 1, 128, 2}, "mxfp4", activation,
        "sm_90a", DType::kBF16);
    add("halves_int4_" + activation, {Family::kWgmma, 256, 1, 2, 4, 1, 1, 1, 128, 2}, "int4:g128:bf16",
        activation, "sm_90a", DType::kF32);
  }
  add("halves_int6_int8", {Family::kWgmma, 224, 1, 2, 4, 1, 1, 1}, "int6:g128:fp32", "int8", "sm_90a",
      DType::kBF16);
  add("deep_halves_fp8", {Family::kWgmma, 192, 1, 2, 3, 1, 1, 2, 128}, "int4:g128:bf16", "fp8", "sm_90a",
      DType::kBF16);
  add("shared_fp8", {Family::kWgmma, 128, 1, 2, 4, 1, 1, 1, 512, 2}, "fp8row", "fp8", "sm_90a", DType::kBF16);
  add("shared_int4", {Family::kWgmma, 128, 2, 2, 4, 1, 1, 1, 0, 2}, "int4g128", "bf16", "sm_90a",
      DType::kBF16);
  add("split_fp8", fp8, "fp8row", "fp8", "sm_90a", DType::kF16);
  return list;
}

class KernelSourceCompiles : public ::testing::TestWithParam<Case> {};

TEST_P(KernelSourceCompiles, WithoutSpills) {
  static jit::Compiler compiler;
  if (const Feasibility feasible = compiler.available(); !feasible) GTEST_SKIP() << feasible.reason;
  const Case& c = GetParam();
  const formats::ActivationFormat activation = activation_by_name(c.activation);
  const KernelFormats formats{weight_layout(format_by_name(c.format), activation, c.accuracy), activation,
                              c.output, c.scale_after, false};
  const auto compiled =
      compiler.compile(kernel_source(c.shape, formats, jit::Architecture::parse(c.architecture)));
  const jit::KernelResources& resources = compiled->function("sabrewing_gemm").resources;
  EXPECT_EQ(resources.spill_store_bytes, 0);
  EXPECT_EQ(resources.spill_load_bytes, 0);
  EXPECT_EQ(resources.stack_bytes, 0);
  EXPECT_EQ(compiled->warnings, "");
}

INSTANTIATE_TEST_SUITE_P(Cuda, KernelSourceCompiles, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

TEST(KernelSource, RefusalsNameTheRule) {
  const KernelFormats formats{weight_layout(format_by_name("mxfp4")), formats::ActivationFormat::bf16(),
                              DType::kBF16, false, false};
  EXPECT_FALSE(
      can_generate({Family::kWgmma, 256, 1, 2, 4, 1, 1, 1}, formats, jit::Architecture::parse("sm_80")));
  EXPECT_FALSE(
      can_generate({Family::kWgmma, 24, 1, 2, 4, 1, 1, 1}, formats, jit::Architecture::parse("sm_90a")));
  EXPECT_FALSE(
      can_generate({Family::kWgmma, 256, 1, 2, 8, 1, 1, 1}, formats, jit::Architecture::parse("sm_90a")));
  EXPECT_FALSE(
      can_generate({Family::kMma, 16, 4, 4, 4, 4, 1, 1}, formats, jit::Architecture::parse("sm_80")));
  const formats::ActivationFormat fp8 = activation_by_name("fp8");
  const KernelFormats quantized{weight_layout(format_by_name("fp8row"), fp8), fp8, DType::kBF16, false,
                                false};
  EXPECT_FALSE(
      can_generate({Family::kMma, 16, 4, 4, 4, 1, 1, 1}, quantized, jit::Architecture::parse("sm_80")));
  EXPECT_TRUE(
      can_generate({Family::kMma, 16, 4, 4, 4, 1, 1, 1}, quantized, jit::Architecture::parse("sm_89")));
  const formats::ActivationFormat mx = activation_by_name("mxfp8");
  const KernelFormats groups{weight_layout(format_by_name("mxfp8"), mx), mx, DType::kBF16, true, false};
  EXPECT_TRUE(
      can_generate({Family::kWgmma, 128, 1, 2, 3, 1, 1, 1}, groups, jit::Architecture::parse("sm_90a")));
  EXPECT_FALSE(
      can_generate({Family::kWgmma, 128, 1, 2, 3, 1, 1, 2}, groups, jit::Architecture::parse("sm_90a")));
  const KernelShape deep{Family::kWgmma, 64, 1, 2, 3, 2, 1, 2};  // a rank without a stage would wait for ever
  EXPECT_FALSE(can_launch(deep, groups, 64, 256, 2, 227 * 1024));
  EXPECT_TRUE(can_launch(deep, groups, 64, 512, 4, 227 * 1024));
  KernelFormats mismatched = formats;
  mismatched.activation = fp8;
  EXPECT_FALSE(
      can_generate({Family::kMma, 16, 4, 4, 4, 1, 1, 1}, mismatched, jit::Architecture::parse("sm_90a")));
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
