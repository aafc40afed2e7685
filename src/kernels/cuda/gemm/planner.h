#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jit/device.h"
#include "kernels/cuda/gemm/kernel_shape.h"

namespace sabrewing::kernels::cuda {

/// What the cost model knows of a device.
struct DeviceModel {
  jit::Architecture architecture;
  int multiprocessors = 132;
  int shared_bytes_per_multiprocessor = 228 * 1024;
  int max_shared_bytes_per_block = 227 * 1024;

  static DeviceModel of(const jit::DeviceInfo& info);
};

/// The problem a kernel is chosen for.
struct GemmProblem {
  KernelFormats formats;  ///< `scale_after` is decided by the planner
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k = 0;
  bool exact_scales = false;  ///< only kernels that keep group scales in FP32
  int promote = 128;  ///< columns of FP8 products that the matrix instruction may sum; 0: all, less exact
};

struct Candidate {
  KernelShape shape;
  bool scale_after = false;
  double predicted_us = 0;
  std::string note;  ///< for people
};

/// Predicted time of one call, microseconds, launches overlapping.
double predict_us(const DeviceModel& device, const GemmProblem& problem, const KernelShape& shape);

/// Kernels that can run, fastest predicted first, at most `limit`.
std::vector<Candidate> candidates(const DeviceModel& device, const GemmProblem& problem, std::size_t limit);

}  // namespace sabrewing::kernels::cuda
