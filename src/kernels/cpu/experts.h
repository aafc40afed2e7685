#pragma once

#include <span>

#include "core/thread_pool.h"
#include "kernels/cpu/gemm_operand.h"
#include "kernels/cpu/tier.h"
#include "kernels/moe.h"

namespace sabrewing::kernels::cpu {

/// Mixture of experts of the CPU backend: tokens are sorted by expert; one task list over all experts
/// computes gate, up and their activation for 32 intermediate columns at a time, a second one the down
/// projection, and each token sums its experts in the order of its list. Results depend neither on the other
/// tokens nor on the thread count.
class Experts {
 public:
  /// `pool` outlives this and its plans.
  Experts(CpuTier tier, const CpuFeatures& features, ThreadPool& pool);

  Feasibility can_implement(const ExpertsDesc& desc) const;
  /// Throws `Error{kUnsupported}` with the reason of `can_implement`.
  ExpertsPlanPtr plan(const ExpertsDesc& desc) const;
  PackedExperts pack(const ExpertsPlan& plan, std::span<const ExpertSource> sources,
                     std::span<const float> bias13, std::span<const float> bias2) const;
  /// Throws `Error{kInvalidArgument}` when operands and plan disagree or an id is below -1 or too large.
  /// `args.workspace` is 64-byte aligned.
  void run(const ExpertsPlan& plan, const ExpertsArgs& args) const;

 private:
  PanelKernels kernels_;
  const OpsKernels* ops_;
  CpuFeatures features_;
  ThreadPool& pool_;
};

}  // namespace sabrewing::kernels::cpu
