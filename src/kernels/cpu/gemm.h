#pragma once

#include <cstdint>

#include "core/thread_pool.h"
#include "kernels/cpu/gemm_operand.h"
#include "kernels/cpu/tier.h"
#include "kernels/gemm.h"

namespace sabrewing::kernels::cpu {

/// Matrix products of the CPU backend. Activations are F32 or BF16 matrices; the format that the inner
/// product sees (int8 groups, BF16) is made from them once per call. Each output is one chain of additions
/// over K, so that it depends neither on the other rows nor on blocking nor on the thread count.
class Gemm {
 public:
  /// `pool` outlives this and its plans.
  Gemm(CpuTier tier, const CpuFeatures& features, ThreadPool& pool);

  Feasibility can_implement(const GemmDesc& desc) const;
  formats::ActivationFormat preferred_activation(const formats::WeightFormat& weight,
                                                 Accuracy accuracy) const;
  /// Throws `Error{kUnsupported}` with the reason of `can_implement`.
  GemmPlanPtr plan(const GemmDesc& desc) const;
  /// Bytes of a packed weight.
  std::size_t packed_bytes(const GemmPlan& plan) const;
  /// Into `to` when it has memory (64-byte aligned, at least `packed_bytes`).
  PackedWeight pack(const GemmPlan& plan, const WeightSource& source, DeviceBuffer to = {}) const;
  /// Throws `Error{kInvalidArgument}` when operands and plan disagree. `args.workspace` is 64-byte aligned.
  void run(const GemmPlan& plan, const GemmArgs& args) const;
  /// out[i] = row ids[i] of `table`; `out` is F32 or BF16 (count of ids, K). Throws on an id outside the
  /// table.
  void embed(const GemmPlan& plan, const PackedWeight& table, const std::int32_t* ids,
             const Matrix& out) const;

 private:
  PanelKernels kernels_;
  const OpsKernels* ops_;
  CpuFeatures features_;
  ThreadPool& pool_;
};

}  // namespace sabrewing::kernels::cpu
