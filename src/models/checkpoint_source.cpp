#include "models/checkpoint_source.h"

#include <algorithm>

#include "core/error.h"

namespace sabrewing::models {

DType CheckpointSource::dtype_of(const std::string& name, std::initializer_list<DType>) const {
  const TensorView* tensor = checkpoint_.find(name);
  SABREWING_CHECK(tensor != nullptr, kNotFound, "[load] {}: tensor {} is missing",
                  checkpoint_.folder().string(), name);
  return tensor->dtype;
}

TensorView CheckpointSource::take(const std::string& name, const Shape& shape,
                                  std::initializer_list<DType> accepted) {
  const TensorView& tensor = audit_.take(name);
  SABREWING_CHECK(tensor.shape == shape, kCorrupt,
                  "[load] {}: tensor {} has shape {}, config.json asks for {}", checkpoint_.folder().string(),
                  name, tensor.shape.to_string(), shape.to_string());
  if (std::find(accepted.begin(), accepted.end(), tensor.dtype) == accepted.end()) {
    std::string names;
    for (const DType dtype : accepted) names += (names.empty() ? "" : ", ") + std::string(to_string(dtype));
    fail(ErrorCode::kCorrupt, "[load] {}: tensor {} has dtype {}, expected {}", checkpoint_.folder().string(),
         name, to_string(tensor.dtype), names);
  }
  return tensor;
}

void CheckpointSource::finish(const std::vector<std::string>& ignored) {
  for (const std::string& pattern : ignored) audit_.ignore(pattern);
  audit_.finish();
}

}  // namespace sabrewing::models
