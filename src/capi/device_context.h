#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "kernels/gemm.h"

namespace sabrewing::capi {

/// Matrix products of one device. Every call but the constructor's happens inside a `Current`.
class DeviceContext {
 public:
  virtual ~DeviceContext() = default;

  /// "cpu", "cuda:0": weights may be used by plans of the same device.
  virtual const std::string& device() const = 0;
  virtual std::string description() const = 0;

  virtual Feasibility can_implement(const kernels::GemmDesc& desc) const = 0;
  virtual formats::ActivationFormat preferred_activation(const formats::WeightFormat& weight,
                                                         kernels::Accuracy accuracy) const = 0;
  virtual kernels::GemmPlanPtr plan(const kernels::GemmDesc& desc) = 0;
  virtual std::size_t packed_bytes(const kernels::GemmPlan& plan) const = 0;
  /// Into `to` when it has memory.
  virtual kernels::PackedWeight pack(const kernels::GemmPlan& plan, const kernels::WeightSource& source,
                                     kernels::DeviceBuffer to) = 0;
  /// Into `to` when it has memory.
  virtual kernels::PackedWeight copy(const kernels::PackedWeight& weight, kernels::DeviceBuffer to) = 0;
  /// Throws `Error{kInvalidArgument}` for memory that is not this device's.
  virtual void check_memory(const void* pointer, const char* what) const = 0;
  virtual void check_host_memory(const void* pointer, const char* what) const = 0;
  /// Whether quantized activations are handed over as such, with their scales.
  virtual bool takes_quantized() const = 0;
  virtual void enqueue(const kernels::GemmPlan& plan, const kernels::GemmArgs& args, void* stream,
                       bool overlap) = 0;

  /// Makes what the calling thread needs current; `leave` puts back what `enter` gives.
  virtual void* enter() const { return nullptr; }
  virtual void leave(void*) const noexcept {}
};

/// The device is current while this lives.
class Current {
 public:
  explicit Current(const DeviceContext& context) : context_(context), before_(context.enter()) {}
  ~Current() { context_.leave(before_); }
  Current(const Current&) = delete;
  Current& operator=(const Current&) = delete;

 private:
  const DeviceContext& context_;
  void* before_;
};

struct CpuContextOptions {
  std::string tier;  ///< empty: the best
  int threads = 0;   ///< 0: every processor of this process
};
std::shared_ptr<DeviceContext> make_cpu_context(const CpuContextOptions& options);

struct CudaContextOptions {
  int ordinal = 0;
  std::string nvrtc_path;     ///< empty: the usual places
  bool default_cache = true;  ///< the user's folder
  std::string cache_folder;   ///< without `default_cache`; empty: none
};
/// Throws `Error{kDevice}` without a usable driver.
std::shared_ptr<DeviceContext> make_cuda_context(const CudaContextOptions& options);

}  // namespace sabrewing::capi
