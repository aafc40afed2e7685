#include "capi/device_context.h"
#include "core/log.h"
#include "jit/cubin_cache.h"
#include "jit/device.h"
#include "jit/nvrtc_compiler.h"
#include "kernels/cuda/gemm/gemm_plan.h"

namespace sabrewing::capi {
namespace {

namespace cuda = kernels::cuda;

jit::CompilerOptions compiler_options(const CudaContextOptions& options) {
  jit::CompilerOptions compiler;
  if (!options.nvrtc_path.empty()) compiler.nvrtc_path = options.nvrtc_path;
  if (options.default_cache)
    compiler.cache = jit::CubinCache::open_default();
  else if (!options.cache_folder.empty())
    compiler.cache = std::make_shared<jit::CubinCache>(options.cache_folder);
  return compiler;
}

const cuda::CudaGemmPlan& own_plan(const kernels::GemmPlan& plan) {
  return static_cast<const cuda::CudaGemmPlan&>(plan);
}

/// The context that was current before `Device::open` made its own current, put back at the end.
class Restore {
 public:
  Restore() { SABREWING_DRIVER(context_get_current(&before_)); }
  ~Restore() { jit::driver().context_set_current(before_); }
  Restore(const Restore&) = delete;
  Restore& operator=(const Restore&) = delete;

 private:
  jit::ContextHandle before_ = nullptr;
};

class CudaContext final : public DeviceContext {
 public:
  explicit CudaContext(const CudaContextOptions& options)
      : device_(jit::Device::open(options.ordinal)),
        name_(fmt::format("cuda:{}", options.ordinal)),
        planner_(std::make_unique<cuda::GemmPlanner>(
            device_, std::make_shared<jit::Compiler>(compiler_options(options)),
            cuda::load_tuning(device_, cuda::default_tuning_file()))) {}

  ~CudaContext() override {
    // Modules are unloaded from the current context.
    try {
      const Current current(*this);
      planner_.reset();
    } catch (const Error& error) {
      log(LogLevel::kDebug, "at the end of {}: {}", name_, error.what());
    }
  }

  const std::string& device() const override { return name_; }
  std::string description() const override {
    const jit::DeviceInfo& info = device_->info();
    return fmt::format("{}, {} {}", name_, info.name, info.architecture.to_string());
  }
  Feasibility can_implement(const kernels::GemmDesc& desc) const override {
    return planner_->can_implement(desc);
  }
  formats::ActivationFormat preferred_activation(const formats::WeightFormat&,
                                                 kernels::Accuracy) const override {
    return formats::ActivationFormat::bf16();
  }
  kernels::GemmPlanPtr plan(const kernels::GemmDesc& desc) override { return planner_->plan(desc); }
  std::size_t packed_bytes(const kernels::GemmPlan& plan) const override {
    return cuda::PackedShape::of(own_plan(plan).layout(), plan.desc().n, plan.desc().k).bytes;
  }
  kernels::PackedWeight pack(const kernels::GemmPlan& plan, const kernels::WeightSource& source,
                             kernels::DeviceBuffer to) override {
    return planner_->pack(own_plan(plan), source, std::move(to));
  }
  kernels::PackedWeight copy(const kernels::PackedWeight& weight, kernels::DeviceBuffer to) override {
    if (to.data == nullptr) {
      const auto buffer = std::make_shared<jit::DeviceBuffer>(device_, weight.expert_stride_bytes);
      to = {buffer, buffer->data(), buffer->size()};
    }
    jit::copy_on_device(to.data, weight.bytes.data, weight.expert_stride_bytes, nullptr);
    jit::synchronize(nullptr);
    kernels::PackedWeight copied = weight;
    copied.bytes = std::move(to);
    return copied;
  }
  void check_memory(const void* pointer, const char* what) const override {
    SABREWING_CHECK(jit::is_device_pointer(pointer), kInvalidArgument,
                    "[gemm] {}: {} is no memory that {} can read", what, pointer, name_);
  }
  void check_host_memory(const void* pointer, const char* what) const override {
    SABREWING_CHECK(jit::is_host_pointer(pointer), kInvalidArgument,
                    "[pack] {}: {} is memory of a GPU; checkpoint bytes are read by the host", what, pointer);
  }
  bool takes_quantized() const override { return true; }
  void enqueue(const kernels::GemmPlan& plan, const kernels::GemmArgs& args, void* stream,
               bool overlap) override {
    own_plan(plan).enqueue(args, static_cast<jit::StreamHandle>(stream), overlap);
  }

  void* enter() const override {
    jit::ContextHandle before = nullptr;
    SABREWING_DRIVER(context_get_current(&before));
    device_->make_current();
    return before;
  }
  void leave(void* before) const noexcept override {
    jit::driver().context_set_current(static_cast<jit::ContextHandle>(before));
  }

 private:
  jit::DevicePtr device_;
  std::string name_;
  std::unique_ptr<cuda::GemmPlanner> planner_;
};

}  // namespace

std::shared_ptr<DeviceContext> make_cuda_context(const CudaContextOptions& options) {
  const Restore restore;
  return std::make_shared<CudaContext>(options);
}

}  // namespace sabrewing::capi
