#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"
#include "models/architecture.h"
#include "models/spec.h"
#include "models/tensor_source.h"

namespace sabrewing::models {

/// Called while loading with the bytes of checkpoint consumed so far.
using LoadProgress = std::function<void(std::size_t consumed_bytes)>;

/// One module group of a model: what `inspect` prints.
struct ModuleReport {
  std::string group;       ///< "attention qkv", "experts", "lm_head"
  std::string format;      ///< "bf16", "mxfp4"
  std::string kernel;      ///< from the plan
  std::int64_t count = 0;  ///< matrices
  std::size_t bytes = 0;   ///< as stored
};

/// The memory of one layer's cache: `blocks` of the given shape, keys then values.
struct KvLayer {
  kernels::KvCacheView view;
  kernels::DeviceBuffer keys;
  kernels::DeviceBuffer values;
};

/// A pre-norm decoder bound to a backend. Loading packs every weight once; `forward` allocates nothing.
/// One caller at a time.
class Decoder {
 public:
  /// Plans every operation. Throws `kUnsupported` with the module's name where the backend has no kernel.
  Decoder(DecoderSpec spec, kernels::Backend& backend, kernels::Accuracy accuracy);
  ~Decoder();

  const DecoderSpec& spec() const { return spec_; }
  kernels::Backend& backend() { return backend_; }

  /// Chooses formats and kernels from names and dtypes alone; no weight is read.
  std::vector<ModuleReport> plan_modules(TensorSource& tensors);

  /// Takes every tensor, packs it and audits the source.
  void load(TensorSource& tensors, const LoadProgress& progress);

  /// Bytes that loading will hold, known after `plan_modules`; the padding of packed weights comes on top.
  std::size_t planned_weight_bytes() const { return planned_weight_bytes_; }
  /// Bytes held by packed weights.
  std::size_t weight_bytes() const { return weight_bytes_; }

  /// The cache shape of layer `layer`.
  kernels::KvCacheDesc cache_desc(std::int64_t block_size) const;

  /// Bytes of scratch for a step of up to `max_tokens` tokens in `max_sequences` sequences over contexts of
  /// up to `max_context`, `max_logit_rows` of which give logits.
  struct Limits {
    std::int64_t max_tokens = 0;
    std::int64_t max_sequences = 1;
    std::int64_t max_context = 0;
    std::int64_t max_logit_rows = 1;
  };
  std::size_t workspace_bytes(const Limits& limits) const;
  /// Allocates that scratch. Call once, after `load`.
  void reserve(const Limits& limits);

  /// Runs one step. `logit_rows` (device memory, `logit_count` entries) are rows of the batch; the result
  /// is FP32 (logit_count, vocabulary) in the backend's memory, valid until the next step. Where they are
  /// fewer than the tokens, the last layer runs for them alone once its cache is written.
  kernels::Matrix forward(const kernels::Batch& batch, const std::vector<KvLayer>& cache,
                          const std::int32_t* logit_rows, std::int64_t logit_count);

 private:
  struct Linear;
  struct Layer;
  struct Scratch;

  Linear make_linear(const std::string& what, formats::WeightFormat format, std::int64_t n, std::int64_t k,
                     bool bias, DType output) const;
  void plan_layers(const TensorSource& tensors);
  Scratch layout_scratch(const Limits& limits, std::byte* base) const;
  formats::WeightFormat module_format(const TensorSource& tensors,
                                      const std::vector<std::string>& modules) const;
  void load_linear(Linear& linear, TensorSource& tensors, const std::vector<std::string>& modules,
                   const std::vector<std::int64_t>& rows);
  void load_experts(Layer& layer, TensorSource& tensors, std::int64_t index);
  kernels::DeviceBuffer upload(const std::vector<float>& values);
  void run_linear(const Linear& linear, kernels::Matrix a, kernels::Matrix c, const Scratch& scratch);
  /// What follows attention, for the rows of `hidden`.
  void finish_layer(const Layer& layer, kernels::Matrix attended, kernels::Matrix hidden, const Scratch& s);

  DecoderSpec spec_;
  kernels::Backend& backend_;
  kernels::Accuracy accuracy_;
  const Architecture& architecture_;
  bool planned_ = false;
  std::size_t planned_weight_bytes_ = 0;
  std::size_t weight_bytes_ = 0;
  std::unique_ptr<Linear> embedding_;
  std::unique_ptr<Linear> head_;  ///< null when tied
  std::vector<std::unique_ptr<Layer>> layers_;
  kernels::DeviceBuffer final_norm_;
  kernels::DeviceBuffer inverse_frequency_;
  Limits limits_;
  kernels::DeviceBuffer arena_;
  std::unique_ptr<Scratch> scratch_;  ///< inside the arena
};

}  // namespace sabrewing::models
