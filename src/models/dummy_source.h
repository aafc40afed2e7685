#pragma once

#include <cstdint>
#include <map>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "models/tensor_source.h"

namespace sabrewing::models {

/// Random valid tensors of whatever is asked for, deterministic in (seed, name): small weights, scales
/// that keep activations finite. Each tensor lives until it is released.
class DummySource final : public TensorSource {
 public:
  /// Fills tensors with `threads` threads, which does not change them.
  DummySource(std::uint64_t seed, int threads) : seed_(seed), pool_(threads) {}

  DType dtype_of(const std::string& name, std::initializer_list<DType> accepted) const override;
  bool has(const std::string& name) const override;
  TensorView take(const std::string& name, const Shape& shape,
                  std::initializer_list<DType> accepted) override;
  void discard(std::span<const std::byte> part) override;
  void release(const TensorView& tensor) override;
  void finish(const std::vector<std::string>& ignored) override;

 private:
  std::uint64_t seed_;
  ThreadPool pool_;
  std::map<const std::byte*, HostBuffer> held_;
};

}  // namespace sabrewing::models
