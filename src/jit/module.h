#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

#include "jit/device.h"
#include "jit/kernel_source.h"

namespace sabrewing::jit {

/// Figures of a loaded kernel, as the driver reports them.
struct KernelAttributes {
  int registers = 0;
  int local_bytes = 0;   ///< per thread: stack frame and register spills
  int shared_bytes = 0;  ///< static
  int max_threads_per_block = 0;
};

struct LaunchConfig;

/// A function of a loaded module, cheap to copy; keeps its module and device alive.
class Kernel {
 public:
  Kernel() = default;

  FunctionHandle handle() const { return function_; }
  /// What launch records and errors call this kernel; lives until the process ends.
  const std::string& label() const { return *label_; }
  const std::string* interned_label() const { return label_; }
  const DevicePtr& device() const { return device_; }

  const KernelAttributes& attributes() const { return attributes_; }
  /// Needed before a launch with more than 48 KiB of dynamic shared memory. Throws
  /// `Error{kInvalidArgument}` above the device's limit.
  void set_max_dynamic_shared_bytes(int bytes) const;
  /// Allows clusters of more than 8 blocks.
  void allow_large_clusters() const;
  /// Blocks of this size that fit on one multiprocessor.
  int blocks_per_multiprocessor(int block_threads, std::size_t dynamic_shared_bytes) const;
  /// Clusters of this configuration that run at once on the whole device.
  int max_active_clusters(const LaunchConfig& config) const;

 private:
  friend class Module;

  std::shared_ptr<void> module_;
  DevicePtr device_;
  FunctionHandle function_ = nullptr;
  const std::string* label_ = nullptr;
  KernelAttributes attributes_;
};

/// A cubin loaded into a device's context.
class Module {
 public:
  /// `name` describes the module in errors. Throws `Error{kDevice}` when the driver refuses the image, with
  /// the versions that usually explain it.
  Module(DevicePtr device, std::span<const std::byte> cubin, std::string name);

  /// The kernel with this lowered (mangled) name. `label` is what launch records call it; empty for the
  /// lowered name. Throws `Error{kNotFound}`.
  Kernel kernel(const std::string& lowered_name, std::string_view label = {}) const;

  struct Global {
    void* address;
    std::size_t bytes;
  };
  /// The `__device__` or `__constant__` variable with this lowered name.
  Global global(const std::string& lowered_name) const;

 private:
  DevicePtr device_;
  std::string name_;
  std::shared_ptr<void> module_;
};

/// Loads compiled code and takes one kernel of it, by expression or lowered name; launch records call it by
/// the name of the source. An empty `which` stands for the only kernel.
Kernel load_kernel(DevicePtr device, const CompiledKernels& compiled, std::string_view which = {});

}  // namespace sabrewing::jit
