#pragma once

#include <filesystem>

#include "formats/checkpoint/checkpoint.h"
#include "models/tensor_source.h"

namespace sabrewing::models {

/// The tensors of a model folder, audited: each is taken once.
class CheckpointSource final : public TensorSource {
 public:
  explicit CheckpointSource(const std::filesystem::path& folder) : checkpoint_(folder), audit_(checkpoint_) {}

  const formats::Checkpoint& checkpoint() const { return checkpoint_; }

  DType dtype_of(const std::string& name, std::initializer_list<DType> accepted) const override;
  bool has(const std::string& name) const override { return checkpoint_.find(name) != nullptr; }
  TensorView take(const std::string& name, const Shape& shape,
                  std::initializer_list<DType> accepted) override;
  void discard(std::span<const std::byte> part) override { checkpoint_.release(part); }
  void release(const TensorView& tensor) override { checkpoint_.release(tensor.bytes); }
  void finish(const std::vector<std::string>& ignored) override;

 private:
  formats::Checkpoint checkpoint_;
  formats::TensorAudit audit_;
};

}  // namespace sabrewing::models
