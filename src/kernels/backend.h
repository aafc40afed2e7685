#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "kernels/attention.h"
#include "kernels/gemm.h"
#include "kernels/moe.h"

namespace sabrewing::kernels {

/// Bytes of a device's own memory; other processes may hold some of it.
struct DeviceMemory {
  std::size_t free = 0;
  std::size_t total = 0;
};

/// The operations a model is made of, on one device. A model file calls nothing else, so it runs on every
/// backend. Operations are issued in order and may still run when they return; `synchronize` waits.
/// One caller at a time.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;         ///< "cpu", "cuda"
  virtual std::string description() const = 0;  ///< one line: device, tier, threads
  virtual DType activation_dtype() const = 0;   ///< of everything between operations but the residual (FP32)
  virtual DType cache_dtype(Accuracy accuracy) const = 0;

  /// Nothing where weights and cache lie in the machine's memory.
  virtual std::optional<DeviceMemory> memory() const = 0;
  // Contents are undefined until written.
  virtual DeviceBuffer allocate(std::size_t bytes) = 0;
  virtual void copy_in(void* to, const void* from_host, std::size_t bytes) = 0;
  virtual void copy_out(void* to_host, const void* from, std::size_t bytes) = 0;
  virtual void synchronize() = 0;

  // Matrix products.
  virtual Feasibility can_implement(const GemmDesc& desc) const = 0;
  /// The activation format of the fastest kernel for this weight that keeps `accuracy`.
  virtual formats::ActivationFormat preferred_activation(const formats::WeightFormat& weight,
                                                         Accuracy accuracy) const = 0;
  virtual GemmPlanPtr plan(const GemmDesc& desc) = 0;
  virtual PackedWeight pack(const GemmPlan& plan, const WeightSource& source) = 0;
  virtual void gemm(const GemmPlan& plan, const GemmArgs& args) = 0;

  // Mixture of experts.
  virtual Feasibility can_implement(const ExpertsDesc& desc) const = 0;
  virtual ExpertsPlanPtr plan(const ExpertsDesc& desc) = 0;
  /// `bias13` (experts, 2I; gate then up) and `bias2` (experts, hidden) are FP32 host values, empty without
  /// bias.
  virtual PackedExperts pack(const ExpertsPlan& plan, std::span<const ExpertSource> sources,
                             std::span<const float> bias13, std::span<const float> bias2) = 0;
  virtual void route(const RouterArgs& args) = 0;
  virtual void experts(const ExpertsPlan& plan, const ExpertsArgs& args) = 0;

  // Everything else. FP32 arithmetic.
  /// out[i] = row ids[i] of `table`, a packed (vocabulary, hidden) weight; `out` is the FP32 residual.
  virtual void embed(const GemmPlan& plan, const PackedWeight& table, const std::int32_t* ids,
                     Matrix out) = 0;
  /// out = x * rsqrt(mean(x^2) + epsilon) * weight over groups of `weight_size` columns (a head, or the row).
  virtual void rms_norm(Matrix x, const float* weight, std::int64_t weight_size, float epsilon,
                        Matrix out) = 0;
  virtual void add(Matrix residual, Matrix x) = 0;  ///< residual += x
  virtual void glu(const GluArgs& args) = 0;
  virtual void rope(const RopeArgs& args, const Batch& batch) = 0;
  virtual std::size_t attention_workspace_bytes(const AttentionArgs& args, const Batch& batch) const = 0;
  virtual void attention(const AttentionArgs& args, const Batch& batch) = 0;
  /// out[i] = x[rows[i]]
  virtual void gather_rows(Matrix x, const std::int32_t* rows, Matrix out) = 0;
};

}  // namespace sabrewing::kernels
