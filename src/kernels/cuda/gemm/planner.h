#pragma once

#include <cstdint>
#include <span>
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
  int promote = 512;  ///< columns of FP8 products that the matrix instruction may sum; 0: all, less exact
};

struct Candidate {
  KernelShape shape;
  bool scale_after = false;
  double predicted_us = 0;
  double tuned_us = 0;  ///< 0: not timed
  std::string note;     ///< for people
};

/// A kernel is chosen for the upper end of each interval of M.
std::span<const std::int64_t> gemm_intervals();

/// Predicted time of one call, microseconds, launches overlapping.
double predict_us(const DeviceModel& device, const GemmProblem& problem, const KernelShape& shape);

/// Kernels that can run, fastest predicted first, at most `limit`.
std::vector<Candidate> candidates(const DeviceModel& device, const GemmProblem& problem, std::size_t limit);
inline constexpr std::size_t kEveryCandidate = 100000;

/// The kernel families that `candidates` leaves out, with the reason; empty when it has both.
std::string families_left_out(const DeviceModel& device, const GemmProblem& problem);

/// The problem of a plan's interval.
GemmProblem gemm_problem(const GemmDesc& desc, const WeightLayout& layout, std::int64_t m);

}  // namespace sabrewing::kernels::cuda
