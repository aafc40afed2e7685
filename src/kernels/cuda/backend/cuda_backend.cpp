#include "kernels/cuda/backend/cuda_backend.h"

#include "core/log.h"
#include "jit/cubin_cache.h"
#include "kernels/cuda/backend/ops.h"
#include "kernels/cuda/backend/products.h"

namespace sabrewing::kernels::cuda {

namespace {

class CudaBackend final : public Backend {
 public:
  CudaBackend(const jit::DevicePtr& device, DType activation)
      : context_{device, jit::Stream(device), jit::Compiler({std::nullopt, jit::CubinCache::open_default()}),
                 activation},
        unit_(context_, ops_source(activation, device->info().architecture)),
        ops_(context_, unit_),
        products_(context_, unit_) {}

  ~CudaBackend() override {
    // Memory that the caller frees next may still be in use; a fault was or will be reported by another call.
    try {
      synchronize();
    } catch (const Error& error) {
      log(LogLevel::kDebug, "at the end of the backend: {}", error.what());
    }
  }

  std::string name() const override { return "cuda"; }
  std::string description() const override {
    const jit::DeviceInfo& info = context_.device->info();
    return fmt::format("cuda {}, {} {}, {} activations", info.ordinal, info.name,
                       info.architecture.to_string(), to_string(context_.activation));
  }
  DType activation_dtype() const override { return context_.activation; }
  DType cache_dtype(Accuracy) const override { return cache_type(context_.activation); }

  std::optional<DeviceMemory> memory() const override {
    const jit::Device::Memory memory = context_.device->memory();
    return DeviceMemory{memory.free, memory.total};
  }
  DeviceBuffer allocate(std::size_t bytes) override { return context_.allocate(bytes); }
  void copy_in(void* to, const void* from_host, std::size_t bytes) override {
    context_.device->make_current();
    jit::copy_to_device(to, {static_cast<const std::byte*>(from_host), bytes}, context_.stream);
  }
  void copy_out(void* to_host, const void* from, std::size_t bytes) override {
    context_.device->make_current();
    jit::copy_to_host({static_cast<std::byte*>(to_host), bytes}, from, context_.stream);
  }
  void synchronize() override {
    context_.device->make_current();
    context_.stream.synchronize();
  }

  Feasibility can_implement(const GemmDesc& desc) const override { return products_.can_implement(desc); }
  formats::ActivationFormat preferred_activation(const formats::WeightFormat&,
                                                 Accuracy accuracy) const override {
    const bool floats = accuracy == Accuracy::kExact || context_.activation == DType::kF32;
    return floats ? formats::ActivationFormat::fp32() : formats::ActivationFormat::bf16();
  }
  GemmPlanPtr plan(const GemmDesc& desc) override {
    context_.device->make_current();
    return products_.plan(desc);
  }
  PackedWeight pack(const GemmPlan& plan, const WeightSource& source) override {
    context_.device->make_current();
    return products_.pack(plan, source);
  }
  void gemm(const GemmPlan& plan, const GemmArgs& args) override {
    context_.device->make_current();
    products_.gemm(plan, args);
  }

  Feasibility can_implement(const ExpertsDesc& desc) const override { return products_.can_implement(desc); }
  ExpertsPlanPtr plan(const ExpertsDesc& desc) override {
    context_.device->make_current();
    return products_.plan(desc);
  }
  PackedExperts pack(const ExpertsPlan& plan, std::span<const ExpertSource> sources,
                     std::span<const float> bias13, std::span<const float> bias2) override {
    context_.device->make_current();
    return products_.pack(plan, sources, bias13, bias2);
  }
  void route(const RouterArgs& args) override {
    context_.device->make_current();
    ops_.route(args);
  }
  void experts(const ExpertsPlan& plan, const ExpertsArgs& args) override {
    context_.device->make_current();
    products_.experts(plan, args);
  }

  void embed(const GemmPlan& plan, const PackedWeight& table, const std::int32_t* ids, Matrix out) override {
    context_.device->make_current();
    products_.embed(plan, table, ids, out);
  }
  void rms_norm(Matrix x, const float* weight, std::int64_t weight_size, float epsilon, Matrix out) override {
    context_.device->make_current();
    ops_.rms_norm(x, weight, weight_size, epsilon, out);
  }
  void add(Matrix residual, Matrix x) override {
    context_.device->make_current();
    ops_.add(residual, x);
  }
  void glu(const GluArgs& args) override {
    context_.device->make_current();
    ops_.glu(args);
  }
  void rope(const RopeArgs& args, const Batch& batch) override {
    context_.device->make_current();
    ops_.rope(args, batch);
  }
  std::size_t attention_workspace_bytes(const AttentionArgs&, const Batch&) const override { return 0; }
  void attention(const AttentionArgs& args, const Batch& batch) override {
    context_.device->make_current();
    ops_.attention(args, batch);
  }
  void gather_rows(Matrix x, const std::int32_t* rows, Matrix out) override {
    context_.device->make_current();
    ops_.gather_rows(x, rows, out);
  }

 private:
  Context context_;
  KernelUnit unit_;
  Ops ops_;
  Products products_;
};

}  // namespace

Feasibility cuda_usable(const CudaBackendOptions& options) {
  const Feasibility driver = jit::driver_available();
  if (!driver) return driver;
  try {
    const int devices = jit::device_count();
    if (options.ordinal < 0 || options.ordinal >= devices)
      return Feasibility::no(
          fmt::format("there is no GPU {}: this machine has {}", options.ordinal, devices));
    const auto device = jit::Device::open(options.ordinal);
    if (device->info().compute_major < 8)
      return Feasibility::no(fmt::format("{} has compute capability {}.{}; 8.0 is needed",
                                         device->info().name, device->info().compute_major,
                                         device->info().compute_minor));
  } catch (const Error& error) {
    return Feasibility::no(error.what());
  }
  return Feasibility::yes();
}

std::unique_ptr<Backend> make_cuda_backend(const CudaBackendOptions& options) {
  const Feasibility usable = cuda_usable(options);
  SABREWING_CHECK(usable.ok, kDevice, "{}", usable.reason);
  return std::make_unique<CudaBackend>(jit::Device::open(options.ordinal),
                                       options.accuracy == Accuracy::kExact ? DType::kF32 : DType::kBF16);
}

}  // namespace sabrewing::kernels::cuda
