#pragma once

#include "kernels/cuda/bench/gemm_cell.h"
#include "kernels/cuda/gemm/activation_quantizer.h"

namespace sabrewing::kernels::cuda {

/// Random BF16 or FP16 activations on the device, with rows and groups of zeros, NaN and infinities, tiny and
/// huge numbers, and room for what a quantizer writes.
class QuantizeCell {
 public:
  QuantizeCell(BenchDevice& bench, const QuantizeDesc& desc, std::int64_t max_m);

  const ActivationQuantizer& quantizer() const { return quantizer_; }
  QuantizeArgs args(std::int64_t m) const;

  /// Runs twice between guard bytes and compares both runs with `formats::quantize_row`, byte for byte (NaN
  /// with NaN). Empty, or the first difference in words: row, column or group, what came out and what should
  /// have.
  std::string check(std::int64_t m);

  /// The time that memory of an H200 needs, microseconds.
  double floor_us(std::int64_t m) const;

 private:
  BenchDevice& bench_;
  ActivationQuantizer quantizer_;
  std::vector<std::uint16_t> input_;
  jit::DeviceBuffer x_, codes_, scales_;
};

struct QuantizeBenchOptions {
  std::vector<std::string> formats;  ///< names of `activation_by_name`
  std::vector<std::int64_t> k;
  std::vector<std::int64_t> m;
  DType input = DType::kBF16;
  int ordinal = 0;
  /// Called before each cell; false stops.
  std::function<bool(std::size_t step, std::size_t steps, const std::string& name)> progress;
};

struct QuantizeBenchRow {
  std::string format;
  std::int64_t k = 0;
  std::int64_t m = 0;
  double us = 0;         ///< launches overlapping
  double us_serial = 0;  ///< each kernel waits for the one before it
  double floor_us = 0;
  std::string difference;  ///< from the reference; empty when there is none
};

struct QuantizeBenchResult {
  std::string device;
  std::vector<QuantizeBenchRow> rows;
  std::vector<std::string> refusals;
  bool complete = true;
};

/// Checks and times quantizers: activations warm in the L2 cache where they fit, CUDA graphs, medians.
QuantizeBenchResult run_quantize_bench(const QuantizeBenchOptions& options);

/// {"machine": {...}, "rows": [{k, m, activations, us, us_serial, floor_us, difference}]}
std::string quantize_bench_json(const QuantizeBenchResult& result);

}  // namespace sabrewing::kernels::cuda
