#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/moe.h"

// The operations of backend.h as their definitions read, in double precision, without blocking: what the
// tests compare every backend with. Operands are dense rows; see backend.h for the meaning.
namespace sabrewing::kernels::reference {

std::vector<double> rms_norm(std::span<const float> x, std::span<const float> weight, double epsilon);

std::vector<double> glu(std::span<const float> gate_up, GluActivation activation, double limit);

/// One head of head_dim values at `position`. The angle is the FP32 product that the models define.
std::vector<double> rope(std::span<const float> head, std::int32_t position,
                         std::span<const float> inverse_frequency, double attention_factor);

struct Route {
  std::vector<std::int32_t> ids;
  std::vector<double> weights;
};
Route route(std::span<const float> logits, int top_k, RouterScore score, bool renormalize);

struct AttentionShape {
  std::int64_t q_heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t head_dim = 0;
  double scale = 1;
  std::int64_t window = 0;       ///< 0: none
  std::span<const float> sinks;  ///< (q_heads), or empty
};

/// The output row (q_heads * head_dim) of the query `q` at `position`; `k` and `v` are the sequence's rows
/// (at least position + 1, kv_heads * head_dim).
std::vector<double> attention(const AttentionShape& shape, std::span<const float> q, std::int64_t position,
                              std::span<const float> k, std::span<const float> v);

}  // namespace sabrewing::kernels::reference
