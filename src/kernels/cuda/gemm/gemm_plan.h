#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/gemm/gemm_kernel.h"
#include "kernels/cuda/gemm/planner.h"
#include "kernels/cuda/gemm/tuning.h"

namespace sabrewing::kernels::cuda {

/// How activations are stored; INT4 and FP4 ones as the INT8 numbers they are multiplied as.
DType activation_dtype(formats::ElementType type);

/// The candidate that plans take for M up to `m`: the tuned one, which has its time, else the cost model's
/// first. The note says what was slower. Throws `Error{kUnsupported}` when there is none.
Candidate choose_kernel(const DeviceModel& device, const GemmDesc& desc, const WeightLayout& layout,
                        std::int64_t m, const TuningTable* tuning);

/// A plan of the CUDA backend: one loaded kernel for each interval of M.
class CudaGemmPlan : public GemmPlan {
 public:
  struct Interval {
    std::int64_t up_to = 0;  ///< largest M, the last interval's kernel serves every larger one too
    Candidate choice;
    std::shared_ptr<const GemmKernel> kernel;
  };

  CudaGemmPlan(const GemmDesc& desc, WeightLayout layout, std::vector<Interval> intervals);

  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  std::string kernel_name() const override;
  std::string explain() const override;

  const WeightLayout& layout() const { return layout_; }
  const Interval& interval(std::int64_t m) const;

  /// Allocates nothing, compiles nothing and does not synchronise. `overlap` as in `GemmKernel::enqueue`.
  /// Throws `Error{kInvalidArgument}` naming the operand that does not suit the plan.
  void enqueue(const GemmArgs& args, jit::StreamHandle stream, bool overlap) const;

 private:
  WeightLayout layout_;
  std::vector<Interval> intervals_;
};

/// Makes plans for one device. Kernels that several plans need are compiled and loaded once.
class GemmPlanner {
 public:
  /// `tuning`: choices to prefer to the cost model's; may be null.
  GemmPlanner(jit::DevicePtr device, std::shared_ptr<jit::Compiler> compiler,
              std::shared_ptr<const TuningTable> tuning = nullptr);
  ~GemmPlanner();

  Feasibility can_implement(const GemmDesc& desc) const;

  /// Compiles what the plan needs. Throws `Error{kUnsupported}` with the reason of `can_implement`.
  std::shared_ptr<const CudaGemmPlan> plan(const GemmDesc& desc);

  /// Packs a source in host memory, into `to` when it has memory; complete when it returns. Larger weights
  /// are packed on the device, which holds a copy of the source meanwhile.
  PackedWeight pack(const CudaGemmPlan& plan, const WeightSource& source, kernels::DeviceBuffer to = {});

  /// A weight whose packed bytes are in `packed` already.
  static PackedWeight wrap(const CudaGemmPlan& plan, kernels::DeviceBuffer packed);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sabrewing::kernels::cuda
