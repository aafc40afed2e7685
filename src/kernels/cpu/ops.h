#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "core/thread_pool.h"
#include "kernels/attention.h"
#include "kernels/cpu/ops_kernels.h"
#include "kernels/cpu/tier.h"
#include "kernels/moe.h"

namespace sabrewing::kernels::cpu {

/// The operations of backend.h that are not matrix products, on host memory. Activations are FP32, the
/// cache FP32 or BF16; other types are `kUnsupported`, mismatched shapes `kInvalidArgument`. A row's result
/// depends on that row alone: neither on the other rows nor on the number of threads, and attention not on
/// how a prompt is cut into steps or on the block size of the cache.
class Ops {
 public:
  /// `pool` must outlive this.
  Ops(ThreadPool& pool, CpuTier tier);

  void rms_norm(Matrix x, const float* weight, std::int64_t weight_size, float epsilon, Matrix out);
  void add(Matrix residual, Matrix x);
  void glu(const GluArgs& args);
  void rope(const RopeArgs& args, const Batch& batch);
  /// Ties go to the lowest index; an id is always in [0, experts), whatever the logits are.
  void route(const RouterArgs& args);
  void gather_rows(Matrix x, const std::int32_t* rows, Matrix out);

  std::size_t attention_workspace_bytes(const AttentionArgs& args, const Batch& batch) const;
  /// `args.workspace` is 64-byte aligned.
  void attention(const AttentionArgs& args, const Batch& batch);

 private:
  float* scratch(int worker, std::int64_t floats);
  void for_rows(std::int64_t rows, std::int64_t values_per_row,
                const std::function<void(std::int64_t row, int worker)>& body);
  void write_cache(const AttentionArgs& args, const Batch& batch);

  ThreadPool& pool_;
  const OpsKernels& kernels_;
  std::vector<std::vector<float>> scratch_;  // one per worker
};

}  // namespace sabrewing::kernels::cpu
