#pragma once

#include <string>
#include <vector>

#include "formats/scheme/scheme.h"
#include "kernels/weight.h"
#include "models/tensor_source.h"

namespace sabrewing::models {

/// One linear layer's weight as stored. The views stay valid until released.
struct LinearTensors {
  formats::WeightFormat format;
  kernels::WeightRows rows;
  std::vector<TensorView> held;
};

/// The format of `module`'s weight: what the scheme says, or the dtype of `module`.weight. Throws naming
/// the module where the scheme has no reader for linear layers.
formats::WeightFormat linear_format(const formats::Scheme& scheme, const TensorSource& tensors,
                                    const std::string& module);

/// Takes the (n, k) weight of `module`.
LinearTensors take_linear(const formats::Scheme& scheme, TensorSource& tensors, const std::string& module,
                          std::int64_t n, std::int64_t k);

}  // namespace sabrewing::models
