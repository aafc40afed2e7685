#include <gtest/gtest.h>

#include "jit/nvrtc_compiler.h"
#include "kernels/cuda/bench/random_weight.h"
#include "kernels/cuda/gemm/kernel_shape.h"

namespace sabrewing::kernels::cuda {
namespace {

using Family = KernelShape::Family;

TEST(CoveringSet, CompilesForHopperWithoutSpillsOrWarnings) {
  jit::Compiler compiler;
  if (const Feasibility feasible = compiler.available(); !feasible) GTEST_SKIP() << feasible.reason;
  const auto architecture = jit::Architecture::parse("sm_90a");
  std::vector<jit::KernelSource> sources;
  for (const CoveredPair& pair : covering_set()) {
    const formats::ActivationFormat activation = activation_by_name(pair.activation);
    const WeightLayout layout = weight_layout(format_by_name(pair.format), activation, pair.accuracy);
    const KernelFormats formats{layout, activation, DType::kBF16, layout.decoder.empty(), false};
    const bool fp8 = layout.operand == Operand::kE4M3 || layout.operand == Operand::kE5M2;
    std::vector<KernelShape> shapes{{Family::kWgmma, 128, 1, 2, 3, 1, 1, 1},
                                    {Family::kMma, 16, 4, 2, 2, 2, 1, 1}};
    const auto promoted = [&](KernelShape shape) {
      const bool often = shape.family == Family::kMma || shape.tokens == 256;
      shape.promote = fp8 ? often ? 128 : 512 : 0;
      return shape;
    };
    if (operand_bytes(layout.operand) == 1)  // two sets of sums
      for (const int tokens : {192, 256}) {
        const KernelShape shape{Family::kWgmma, tokens, 1, 2, 3, 1, 1, 1};
        if (layout.swizzled || can_generate(promoted(shape), formats, architecture)) shapes.push_back(shape);
      }
    for (KernelShape shape : shapes) {
      shape = promoted(shape);
      while (shape.tokens > 32 && !can_generate(shape, formats, architecture)) shape.tokens /= 2;
      sources.push_back(kernel_source(shape, formats, architecture));
    }
  }
  const std::vector<jit::CompileOutcome> outcomes = compiler.compile_all(sources);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    SCOPED_TRACE(sources[i].name);
    ASSERT_NE(outcomes[i].kernels, nullptr) << outcomes[i].error;
    const jit::KernelResources& resources = outcomes[i].kernels->function("sabrewing_gemm").resources;
    EXPECT_EQ(resources.spill_store_bytes, 0);
    EXPECT_EQ(resources.spill_load_bytes, 0);
    EXPECT_EQ(resources.stack_bytes, 0);
    EXPECT_EQ(outcomes[i].kernels->warnings, "");
  }
}

}  // namespace
}  // namespace sabrewing::kernels::cuda
