#include <cstring>
#include <mutex>
#include <utility>

#include "capi/device_context.h"
#include "core/thread_pool.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/tier.h"

namespace sabrewing::capi {
namespace {

namespace cpu = kernels::cpu;

class CpuContext final : public DeviceContext {
 public:
  CpuContext(cpu::CpuTier tier, int threads)
      : tier_(tier), pool_(threads), gemm_(tier, cpu::cpu_features(), pool_) {}

  const std::string& device() const override { return device_; }
  std::string description() const override {
    return fmt::format("cpu {}, {} thread{}, {}", cpu::to_string(tier_), pool_.threads(),
                       pool_.threads() == 1 ? "" : "s", cpu::cpu_features().brand);
  }
  Feasibility can_implement(const kernels::GemmDesc& desc) const override {
    return gemm_.can_implement(desc);
  }
  formats::ActivationFormat preferred_activation(const formats::WeightFormat& weight,
                                                 kernels::Accuracy accuracy) const override {
    return gemm_.preferred_activation(weight, accuracy);
  }
  kernels::GemmPlanPtr plan(const kernels::GemmDesc& desc) override { return gemm_.plan(desc); }
  std::size_t packed_bytes(const kernels::GemmPlan& plan) const override { return gemm_.packed_bytes(plan); }
  kernels::PackedWeight pack(const kernels::GemmPlan& plan, const kernels::WeightSource& source,
                             kernels::DeviceBuffer to) override {
    const std::lock_guard lock(mutex_);
    return gemm_.pack(plan, source, std::move(to));
  }
  kernels::PackedWeight copy(const kernels::PackedWeight& weight, kernels::DeviceBuffer to) override {
    if (to.data == nullptr) to = cpu::allocate_host(weight.expert_stride_bytes);
    std::memcpy(to.data, weight.bytes.data, weight.expert_stride_bytes);
    kernels::PackedWeight copied = weight;
    copied.bytes = std::move(to);
    return copied;
  }
  void check_memory(const void*, const char*) const override {}
  void check_host_memory(const void*, const char*) const override {}
  bool takes_quantized() const override { return false; }
  void enqueue(const kernels::GemmPlan& plan, const kernels::GemmArgs& args, void* stream, bool) override {
    SABREWING_CHECK(stream == nullptr, kInvalidArgument, "[gemm] stream: a CPU context has none, pass null");
    const std::lock_guard lock(mutex_);
    gemm_.run(plan, args);
  }

 private:
  std::string device_ = "cpu";
  cpu::CpuTier tier_;
  std::mutex mutex_;  // the pool takes one caller at a time
  ThreadPool pool_;
  cpu::Gemm gemm_;
};

}  // namespace

std::shared_ptr<DeviceContext> make_cpu_context(const CpuContextOptions& options) {
  const int threads = options.threads == 0 ? available_processors() : options.threads;
  return std::make_shared<CpuContext>(cpu::select_tier(options.tier), threads);
}

}  // namespace sabrewing::capi
