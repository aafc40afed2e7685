#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>

#include "kernels/cuda/backend/kernel_unit.h"
#include "kernels/cuda/gemm/gemm_plan.h"
#include "kernels/gemm.h"
#include "kernels/moe.h"

namespace sabrewing::kernels::cuda {

/// The kernels of one weight format.
struct LinearKernels {
  std::string name;  ///< "rows bf16 x BF16"
  jit::Kernel to_activation;
  jit::Kernel to_float;
  jit::Kernel gated;
  jit::Kernel embed;
};

/// Dense and expert matrix products over weights stored in rows (plain_weight.h), in FP32 arithmetic with one
/// rounding: a row's result depends on that row alone. With BF16 activations, dense products of the formats
/// that rows do not take are `GemmPlanner`'s, whose kernels change with M. Kernels are compiled by `plan`;
/// the other calls allocate nothing and do not synchronise, except the packing.
class Products {
 public:
  Products(Context& context, const KernelUnit& ops);

  Feasibility can_implement(const GemmDesc& desc) const;
  GemmPlanPtr plan(const GemmDesc& desc);
  PackedWeight pack(const GemmPlan& plan, const WeightSource& source) const;
  void gemm(const GemmPlan& plan, const GemmArgs& args) const;
  void embed(const GemmPlan& plan, const PackedWeight& table, const std::int32_t* ids, Matrix out) const;

  Feasibility can_implement(const ExpertsDesc& desc) const;
  ExpertsPlanPtr plan(const ExpertsDesc& desc);
  PackedExperts pack(const ExpertsPlan& plan, std::span<const ExpertSource> sources,
                     std::span<const float> bias13, std::span<const float> bias2) const;
  void experts(const ExpertsPlan& plan, const ExpertsArgs& args) const;

 private:
  Feasibility check_weight(const formats::WeightFormat& weight, Accuracy accuracy, std::int64_t n,
                           std::int64_t k) const;
  std::shared_ptr<const LinearKernels> kernels(const formats::WeightFormat& weight);
  DeviceBuffer upload(std::span<const std::byte> bytes) const;

  Context& context_;
  /// Null with FP32 activations.
  std::unique_ptr<GemmPlanner> planner_;
  jit::Kernel group_;
  jit::Kernel combine_;
  std::map<std::string, std::shared_ptr<const LinearKernels>> kernels_;
};

}  // namespace sabrewing::kernels::cuda
