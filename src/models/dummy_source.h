#pragma once

#include <cstdint>
#include <map>

#include "core/buffer.h"
#include "models/tensor_source.h"

namespace sabrewing::models {

/// Random valid tensors of whatever is asked for, deterministic in (seed, name): small weights, scales
/// that keep activations finite. Each tensor lives until it is released.
class DummySource final : public TensorSource {
 public:
  explicit DummySource(std::uint64_t seed) : seed_(seed) {}

  DType dtype_of(const std::string& name, std::initializer_list<DType> accepted) const override;
  bool has(const std::string& name) const override;
  TensorView take(const std::string& name, const Shape& shape,
                  std::initializer_list<DType> accepted) override;
  void release(const TensorView& tensor) override;
  void finish(const std::vector<std::string>& ignored) override;

 private:
  std::uint64_t seed_;
  std::map<const std::byte*, HostBuffer> held_;
};

}  // namespace sabrewing::models
