#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/checkpoint/safetensors.h"

namespace sabrewing::formats {

/// The weight_map of a model.safetensors.index.json: tensor name to shard file, relative to the index.
/// Throws `Error{kCorrupt}` unless each shard is a *.safetensors file inside the folder by its name.
std::map<std::string, std::string> parse_weight_map(std::string_view text, std::string_view what);

/// The tensors of a model folder, mapped: model.safetensors, else the shards that
/// model.safetensors.index.json names, else the only *.safetensors file there is. Move-only; immutable.
class Checkpoint {
 public:
  /// Throws `Error{kNotFound}` for an absent folder, file or shard, `Error{kIo}` for one that cannot be
  /// read, `Error{kCorrupt}` for a damaged one, and when the index and the shards disagree about a tensor.
  explicit Checkpoint(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const std::vector<SafetensorsFile>& files() const { return files_; }
  const TensorMap& tensors() const { return tensors_; }

  /// Nothing when there is no such tensor. Valid as long as the checkpoint.
  const TensorView* find(std::string_view name) const;

  /// Lets the system drop the pages of a tensor, or of a part of one, that is not needed any more; reading
  /// it again is slow but right.
  void release(std::span<const std::byte> range) const;

 private:
  void open_shards(const std::filesystem::path& index);

  std::filesystem::path folder_;
  std::vector<SafetensorsFile> files_;
  TensorMap tensors_;
};

/// Keeps account of which tensors of a checkpoint were used, so that nothing is dropped or read twice
/// unnoticed. Not thread-safe. The checkpoint must outlive it.
class TensorAudit {
 public:
  explicit TensorAudit(const Checkpoint& checkpoint) : checkpoint_(checkpoint) {}

  const Checkpoint& checkpoint() const { return checkpoint_; }

  /// The tensor, marked as consumed. Throws `Error{kNotFound}` when it is absent and `Error{kInternal}` when
  /// it was consumed before.
  const TensorView& take(std::string_view name);

  /// The same, but nothing when absent.
  const TensorView* take_optional(std::string_view name);

  /// Declares that tensors whose name matches need not be consumed; '*' stands for any run of characters.
  void ignore(std::string pattern) { ignored_.push_back(std::move(pattern)); }

  /// Names of the tensors neither consumed nor ignored, sorted.
  std::vector<std::string> surplus() const;

  /// Throws `Error{kCorrupt}` with the number and the first names of `surplus()` unless it is empty.
  void finish() const;

 private:
  const Checkpoint& checkpoint_;
  std::set<std::string, std::less<>> taken_;
  std::vector<std::string> ignored_;
};

}  // namespace sabrewing::formats
