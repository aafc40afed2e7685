#pragma once

#include <cstdint>
#include <functional>

#include "kernels/gemm.h"

namespace sabrewing::kernels {

enum class RouterScore {
  kSoftmaxThenTopK,  ///< softmax over all experts, top-k of it (Qwen3)
  kTopKThenSoftmax,  ///< top-k of the logits, softmax over those (gpt-oss)
};

/// Chooses `top_k` experts per token; ties go to the lowest index.
struct RouterArgs {
  Matrix logits;  ///< (M, experts), FP32
  int top_k = 0;
  RouterScore score = RouterScore::kSoftmaxThenTopK;
  bool renormalize = true;             ///< kSoftmaxThenTopK only: divide by the sum of the chosen
  std::int32_t* expert_ids = nullptr;  ///< (M, top_k)
  float* expert_weights = nullptr;     ///< (M, top_k)
};

enum class GluActivation {
  kSilu,           ///< silu(gate) * up
  kClampedSwiGlu,  ///< min(gate, l) * sigmoid(1.702 min(gate, l)) * (clamp(up, -l, l) + 1)
};

/// c(M, I) = act(gate, up) where gate_up(M, 2I) holds the gate in columns [0, I) and up in [I, 2I).
struct GluArgs {
  Matrix gate_up;
  Matrix c;
  GluActivation activation = GluActivation::kSilu;
  float limit = 0;  ///< kClampedSwiGlu only
};

/// y[m] = sum over the chosen experts e of weight * (W2_e act(W13_e x[m] + b13_e) + b2_e). An id of -1 means
/// "not here" and adds nothing. The sum runs in the order of the token's list, in FP32.
struct ExpertsDesc {
  formats::WeightFormat weight;
  std::int64_t experts = 0;
  std::int64_t hidden = 0;        ///< K of w13, N of w2
  std::int64_t intermediate = 0;  ///< I; w13 has 2I rows
  int top_k = 0;
  GluActivation activation = GluActivation::kSilu;
  float limit = 0;
  bool bias = false;
  Accuracy accuracy = Accuracy::kDefault;
};

/// An immutable decision for an ExpertsDesc.
class ExpertsPlan {
 public:
  virtual ~ExpertsPlan() = default;
  const ExpertsDesc& desc() const { return desc_; }
  virtual std::size_t workspace_bytes(std::int64_t max_m) const = 0;
  virtual std::string kernel_name() const = 0;

 protected:
  explicit ExpertsPlan(const ExpertsDesc& desc) : desc_(desc) {}

 private:
  ExpertsDesc desc_;
};

using ExpertsPlanPtr = std::shared_ptr<const ExpertsPlan>;

/// Where one expert's rows are; gate and up may interleave in one tensor (WeightRows strides).
struct ExpertSource {
  WeightRows gate;  ///< (I, K)
  WeightRows up;    ///< (I, K)
  WeightRows down;  ///< (K, I)
  /// Called on the caller's thread after the last read of these rows, as `WeightSource::done`. May be empty.
  std::function<void()> done = {};
};

/// All experts of a layer in the layout of their plan.
struct PackedExperts {
  PackedWeight w13;
  PackedWeight w2;
  DeviceBuffer bias13;  ///< FP32 (experts, 2I), gate then up; empty without bias
  DeviceBuffer bias2;   ///< FP32 (experts, hidden)
};

struct ExpertsArgs {
  Matrix x;                                  ///< (M, hidden)
  const std::int32_t* expert_ids = nullptr;  ///< (M, top_k)
  const float* expert_weights = nullptr;     ///< (M, top_k)
  const PackedExperts* weights = nullptr;
  Matrix y;  ///< (M, hidden), overwritten
  void* workspace = nullptr;
};

}  // namespace sabrewing::kernels
