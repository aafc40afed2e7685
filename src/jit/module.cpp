#include "jit/module.h"

#include <utility>

#include "jit/launch.h"
#include "jit/launch_log.h"

namespace sabrewing::jit {

namespace {

int attribute(FunctionHandle function, FunctionAttribute which) {
  int value = 0;
  SABREWING_DRIVER(function_attribute(&value, static_cast<int>(which), function));
  return value;
}

ModuleHandle handle_of(const std::shared_ptr<void>& module) {
  return static_cast<ModuleHandle>(module.get());
}

}  // namespace

Module::Module(DevicePtr device, std::span<const std::byte> cubin, std::string name)
    : device_(std::move(device)), name_(std::move(name)) {
  SABREWING_CHECK(!cubin.empty(), kInvalidArgument, "[module] {} has no code", name_);
  ModuleHandle module = nullptr;
  const int result = driver().module_load(&module, cubin.data());
  if (result == result::kInvalidImage || result == result::kNoBinaryForGpu) {
    const int version = driver_version();
    fail(ErrorCode::kDevice,
         "[module] the driver (CUDA {}.{}) cannot load {} on {} ({}): it was compiled for another "
         "architecture "
         "or by a newer CUDA",
         version / 1000, version % 1000 / 10, name_, device_->info().name,
         device_->info().architecture.to_string());
  }
  check_driver(result, "module_load");
  module_ = std::shared_ptr<void>(
      module, [keep = device_](void* loaded) { driver().module_unload(static_cast<ModuleHandle>(loaded)); });
}

Kernel Module::kernel(const std::string& lowered_name, std::string_view label) const {
  Kernel kernel;
  const int result = driver().module_function(&kernel.function_, handle_of(module_), lowered_name.c_str());
  SABREWING_CHECK(result != result::kNotFound, kNotFound, "[module] {} has no kernel {}", name_,
                  lowered_name);
  check_driver(result, "module_function");
  kernel.module_ = module_;
  kernel.device_ = device_;
  kernel.label_ = intern(label.empty() ? std::string_view(lowered_name) : label);
  kernel.attributes_.registers = attribute(kernel.function_, FunctionAttribute::kRegisters);
  kernel.attributes_.local_bytes = attribute(kernel.function_, FunctionAttribute::kLocalBytes);
  kernel.attributes_.shared_bytes = attribute(kernel.function_, FunctionAttribute::kSharedBytes);
  kernel.attributes_.max_threads_per_block =
      attribute(kernel.function_, FunctionAttribute::kMaxThreadsPerBlock);
  return kernel;
}

Module::Global Module::global(const std::string& lowered_name) const {
  DeviceAddress address = 0;
  std::size_t bytes = 0;
  const int result = driver().module_global(&address, &bytes, handle_of(module_), lowered_name.c_str());
  SABREWING_CHECK(result != result::kNotFound, kNotFound, "[module] {} has no variable {}", name_,
                  lowered_name);
  check_driver(result, "module_global");
  return {reinterpret_cast<void*>(address), bytes};
}

Kernel load_kernel(DevicePtr device, const CompiledKernels& compiled, std::string_view which) {
  SABREWING_CHECK(!which.empty() || compiled.functions.size() == 1, kInvalidArgument,
                  "[module] {} has {} kernels: say which", compiled.name, compiled.functions.size());
  const CompiledKernels::Function& function =
      which.empty() ? compiled.functions.front() : compiled.function(which);
  return Module(std::move(device), compiled.cubin, compiled.name)
      .kernel(function.lowered_name, compiled.name);
}

void Kernel::set_max_dynamic_shared_bytes(int bytes) const {
  const int limit = device_->info().max_shared_bytes_per_block - attributes_.shared_bytes;
  SABREWING_CHECK(bytes >= 0 && bytes <= limit, kInvalidArgument,
                  "[kernel] {} wants {} bytes of dynamic shared memory, {} allows {}", label(), bytes,
                  device_->info().name, limit);
  SABREWING_DRIVER(
      set_function_attribute(function_, static_cast<int>(FunctionAttribute::kMaxDynamicSharedBytes), bytes));
}

void Kernel::allow_large_clusters() const {
  SABREWING_DRIVER(set_function_attribute(
      function_, static_cast<int>(FunctionAttribute::kNonPortableClusterSizeAllowed), 1));
}

int Kernel::blocks_per_multiprocessor(int block_threads, std::size_t dynamic_shared_bytes) const {
  int blocks = 0;
  SABREWING_DRIVER(occupancy_blocks(&blocks, function_, block_threads, dynamic_shared_bytes));
  return blocks;
}

int Kernel::max_active_clusters(const LaunchConfig& config) const {
  LaunchAttributeAbi attributes[kMaxLaunchAttributes];
  const LaunchConfigAbi abi = to_abi(config, attributes);
  int clusters = 0;
  SABREWING_DRIVER(occupancy_clusters(&clusters, function_, &abi));
  return clusters;
}

}  // namespace sabrewing::jit
