#include "models/linear.h"

#include <cstring>

#include "core/error.h"
#include "formats/numeric/float16.h"

namespace sabrewing::models {
namespace {

constexpr std::initializer_list<DType> kPlain{DType::kBF16, DType::kF16, DType::kF32};

formats::WeightFormat plain_format(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return formats::WeightFormat::fp16();
    case DType::kF32:
      return formats::WeightFormat::fp32();
    default:
      return formats::WeightFormat::bf16();
  }
}

}  // namespace

formats::WeightFormat linear_format(const formats::Scheme& scheme, const TensorSource& tensors,
                                    const std::string& module) {
  if (const auto format = scheme.configured(module))
    fail(ErrorCode::kUnsupported,
         "[load] {}: quantization_config makes it {}, which this version reads for fused "
         "experts only; list it in modules_to_not_convert",
         module, formats::to_string(*format));
  return plain_format(tensors.dtype_of(module + ".weight", kPlain));
}

LinearTensors take_linear(const formats::Scheme& scheme, TensorSource& tensors, const std::string& module,
                          std::int64_t n, std::int64_t k) {
  LinearTensors linear;
  linear.format = linear_format(scheme, tensors, module);
  const TensorView weight = tensors.take(module + ".weight", {n, k}, kPlain);
  linear.rows = {weight.bytes.data(), k * static_cast<std::int64_t>(size_of(weight.dtype)), nullptr, 0, n};
  linear.held = {weight};
  return linear;
}

std::vector<float> take_floats(TensorSource& source, const std::string& name, const Shape& shape) {
  const TensorView tensor = source.take(name, shape, kPlain);
  std::vector<float> values(tensor.bytes.size() / size_of(tensor.dtype));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::byte* at = tensor.bytes.data() + i * size_of(tensor.dtype);
    if (tensor.dtype == DType::kF32) {
      std::memcpy(&values[i], at, sizeof(float));
      continue;
    }
    std::uint16_t bits = 0;
    std::memcpy(&bits, at, sizeof(bits));
    values[i] = tensor.dtype == DType::kF16 ? formats::fp16_to_float(bits) : formats::bf16_to_float(bits);
  }
  source.release(tensor);
  return values;
}

}  // namespace sabrewing::models
