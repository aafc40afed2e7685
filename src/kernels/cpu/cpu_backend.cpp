#include "kernels/cpu/cpu_backend.h"

#include <cstring>

#include "core/thread_pool.h"
#include "kernels/cpu/experts.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/ops.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/tier.h"

namespace sabrewing::kernels::cpu {
namespace {

class CpuBackend final : public Backend {
 public:
  CpuBackend(int threads, CpuTier tier)
      : tier_(tier),
        pool_(threads),
        gemm_(tier, cpu_features(), pool_),
        experts_(tier, cpu_features(), pool_),
        ops_(pool_, tier) {}

  std::string name() const override { return "cpu"; }
  std::string description() const override {
    return fmt::format("cpu {}, {} thread{}, {}", to_string(tier_), pool_.threads(),
                       pool_.threads() == 1 ? "" : "s", cpu_features().brand);
  }
  DType activation_dtype() const override { return DType::kF32; }
  DType cache_dtype(Accuracy accuracy) const override {
    return accuracy == Accuracy::kExact ? DType::kF32 : DType::kBF16;
  }

  std::optional<DeviceMemory> memory() const override { return std::nullopt; }
  DeviceBuffer allocate(std::size_t bytes) override { return allocate_host(bytes); }
  void copy_in(void* to, const void* from_host, std::size_t bytes) override { copy(to, from_host, bytes); }
  void copy_out(void* to_host, const void* from, std::size_t bytes) override { copy(to_host, from, bytes); }
  void synchronize() override {}

  Feasibility can_implement(const GemmDesc& desc) const override { return gemm_.can_implement(desc); }
  formats::ActivationFormat preferred_activation(const formats::WeightFormat& weight,
                                                 Accuracy accuracy) const override {
    return gemm_.preferred_activation(weight, accuracy);
  }
  GemmPlanPtr plan(const GemmDesc& desc) override { return gemm_.plan(desc); }
  PackedWeight pack(const GemmPlan& plan, const WeightSource& source) override {
    return gemm_.pack(plan, source);
  }
  void gemm(const GemmPlan& plan, const GemmArgs& args) override { gemm_.run(plan, args); }

  Feasibility can_implement(const ExpertsDesc& desc) const override { return experts_.can_implement(desc); }
  ExpertsPlanPtr plan(const ExpertsDesc& desc) override { return experts_.plan(desc); }
  PackedExperts pack(const ExpertsPlan& plan, std::span<const ExpertSource> sources,
                     std::span<const float> bias13, std::span<const float> bias2) override {
    return experts_.pack(plan, sources, bias13, bias2);
  }
  void route(const RouterArgs& args) override { ops_.route(args); }
  void experts(const ExpertsPlan& plan, const ExpertsArgs& args) override { experts_.run(plan, args); }

  void embed(const GemmPlan& plan, const PackedWeight& table, const std::int32_t* ids, Matrix out) override {
    gemm_.embed(plan, table, ids, out);
  }
  void rms_norm(Matrix x, const float* weight, std::int64_t weight_size, float epsilon, Matrix out) override {
    ops_.rms_norm(x, weight, weight_size, epsilon, out);
  }
  void add(Matrix residual, Matrix x) override { ops_.add(residual, x); }
  void glu(const GluArgs& args) override { ops_.glu(args); }
  void rope(const RopeArgs& args, const Batch& batch) override { ops_.rope(args, batch); }
  std::size_t attention_workspace_bytes(const AttentionArgs& args, const Batch& batch) const override {
    return ops_.attention_workspace_bytes(args, batch);
  }
  void attention(const AttentionArgs& args, const Batch& batch) override { ops_.attention(args, batch); }
  void gather_rows(Matrix x, const std::int32_t* rows, Matrix out) override {
    ops_.gather_rows(x, rows, out);
  }

 private:
  static void copy(void* to, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }

  CpuTier tier_;
  ThreadPool pool_;
  Gemm gemm_;
  Experts experts_;
  Ops ops_;
};

}  // namespace

std::unique_ptr<Backend> make_cpu_backend(const CpuBackendOptions& options) {
  SABREWING_CHECK(options.threads >= 0, kInvalidArgument, "[cpu] thread count {} is negative",
                  options.threads);
  const CpuTier tier = select_tier(options.tier);
  return std::make_unique<CpuBackend>(options.threads == 0 ? available_processors() : options.threads, tier);
}

}  // namespace sabrewing::kernels::cpu
