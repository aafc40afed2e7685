#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "jit/device.h"
#include "kernels/cuda/gemm/kernel_shape.h"
#include "kernels/gemm.h"

namespace sabrewing::kernels::cuda {

/// What times hold for. Measured: a product's name says nothing of a part of a card or of a lowered limit.
struct DeviceClass {
  std::string architecture;  ///< "sm_90a"
  int multiprocessors = 0;
  double copy_tb_per_s = 0;  ///< bytes read and written by copies of device memory

  /// The same architecture and multiprocessors, and rates within 15 %.
  bool matches(const DeviceClass& other) const;
};

/// Copies 256 MiB a few times.
DeviceClass measure_device_class(const jit::DevicePtr& device);

/// The fastest candidate of one interval of M.
struct TunedChoice {
  std::string kernel;  ///< `KernelShape::to_string`
  bool scale_after = false;
  double us = 0;
  std::vector<std::pair<std::string, double>> slower;  ///< the other candidates and their times
};

/// Choices by problem, of one device class.
class TuningTable {
 public:
  DeviceClass device;

  /// `m` is the upper end of an interval. Null when it was not tuned.
  const TunedChoice* find(const GemmDesc& desc, std::int64_t m) const;
  void put(const GemmDesc& desc, std::int64_t m, TunedChoice choice);
  /// Takes over what `other` has, also where this has a choice.
  void update(const TuningTable& other);
  std::size_t size() const { return choices_.size(); }

 private:
  friend std::string tuning_json(const std::vector<TuningTable>& tables);
  friend std::vector<TuningTable> parse_tuning(std::string_view json, std::string_view what);

  struct Key {
    std::string formats;  ///< "mxfp4 by bf16 to BF16", with " exact" for accuracies that keep scales in FP32
    std::int64_t n, k, m;
    auto operator<=>(const Key&) const = default;
  };
  static Key key(const GemmDesc& desc, std::int64_t m);
  std::map<Key, TunedChoice> choices_;
};

/// {"version": 1, "tables": [{"device": {...}, "choices": [...]}]}
std::string tuning_json(const std::vector<TuningTable>& tables);
/// Throws `Error{kCorrupt}` naming `what` and the field.
std::vector<TuningTable> parse_tuning(std::string_view json, std::string_view what);

/// $SABREWING_TUNING, else tuning.json beside the folder of compiled kernels; nothing without either.
std::optional<std::filesystem::path> default_tuning_file();

/// What is known for the device: the presets compiled in, and over them the file's choices; a file that
/// cannot be read is logged. Null when there is nothing for its architecture and number of multiprocessors;
/// only else is the device measured.
std::shared_ptr<const TuningTable> load_tuning(const jit::DevicePtr& device,
                                               const std::optional<std::filesystem::path>& file);

/// Adds the table to the file: choices of the same class are updated, others stay. Written whole or not at
/// all.
void store_tuning(const std::filesystem::path& file, const TuningTable& table);

}  // namespace sabrewing::kernels::cuda
