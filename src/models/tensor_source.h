#pragma once

#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace sabrewing::models {

/// Where a model's tensors come from while it loads: a checkpoint, or random values of the same shapes.
class TensorSource {
 public:
  virtual ~TensorSource() = default;

  /// The stored dtype of a tensor: of the file, or the first of `accepted` where values are made up.
  /// Throws `kNotFound` for an absent tensor.
  virtual DType dtype_of(const std::string& name, std::initializer_list<DType> accepted) const = 0;
  virtual bool has(const std::string& name) const = 0;

  /// The tensor, counted as consumed; it must have this shape and one of these dtypes. Errors
  /// (`kNotFound`, `kCorrupt`) name the tensor and what was expected.
  virtual TensorView take(const std::string& name, const Shape& shape,
                          std::initializer_list<DType> accepted) = 0;

  /// The caller has copied what it needs of `part` of a taken tensor: its memory may go before `release`.
  virtual void discard(std::span<const std::byte> /*part*/) {}

  /// The caller has copied what it needs of `tensor`.
  virtual void release(const TensorView& tensor) = 0;

  /// Every tensor was consumed once or matches one of `ignored` ("*" stands for any run of characters);
  /// anything else is `kCorrupt` with the names.
  virtual void finish(const std::vector<std::string>& ignored) = 0;
};

/// FP32 values of a small tensor (norms, biases, sinks), taken and released.
std::vector<float> take_floats(TensorSource& source, const std::string& name, const Shape& shape);

}  // namespace sabrewing::models
