#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "core/thread_pool.h"
#include "formats/scheme/weight_format.h"
#include "kernels/cpu/ops_kernels.h"
#include "kernels/cpu/pack.h"
#include "kernels/cpu/panel_kernels.h"
#include "kernels/cpu/tier.h"
#include "kernels/gemm.h"
#include "kernels/matrix.h"

namespace sabrewing::kernels::cpu {

/// The inner loops of `tier`, which `features` must support.
PanelKernels select_panel_kernels(CpuTier tier, const CpuFeatures& features);

/// The activation format that the fastest kernel of `accuracy` reads: FP32; int8 in groups of 32 for MXFP4;
/// for BF16 weights, BF16 where the processor's BF16 dot product is its fastest, else int16 in groups of 32
/// where there is such a kernel.
formats::ActivationFormat preferred_activation(const formats::WeightFormat& weight, Accuracy accuracy,
                                               const CpuFeatures& features, const PanelKernels& kernels);

/// What a panel kernel reads as its activations, and how a row gets there.
class Operand {
 public:
  enum class Mode : std::uint8_t {
    kF32,         ///< as it is
    kF32Rounded,  ///< rounded to BF16, kept as FP32
    kBF16,        ///< rounded to BF16
    kInt8,        ///< PanelKernels::quantize_int8
    kInt16,       ///< PanelKernels::quantize_int16
  };

  /// The rule that is broken where the kernels cannot compute this product.
  static Feasibility check(const formats::WeightFormat& weight, const formats::ActivationFormat& activation,
                           Accuracy accuracy, std::int64_t k, const PanelKernels& kernels);
  /// For a product that `check` allows.
  Operand(const formats::WeightFormat& weight, const formats::ActivationFormat& activation, std::int64_t k,
          const PanelKernels& kernels, const OpsKernels& ops);

  Mode mode() const { return mode_; }
  std::size_t row_bytes() const { return row_bytes_; }  ///< a multiple of 64
  const PanelLayout& layout() const { return layout_; }
  PanelKernel kernel() const { return kernel_; }
  std::string describe() const;  ///< "cpu_avx512 mxfp4 x int8 g32"

  /// Whether rows of `x` can be read where they are.
  bool reads_in_place(const Matrix& x) const { return mode_ == Mode::kF32 && x.dtype == DType::kF32; }
  /// Converts row `row` of `x` (F32 or BF16, k columns) to `to` (row_bytes). `scratch` holds k floats.
  void stage(const Matrix& x, std::int64_t row, float* scratch, std::byte* to) const;
  /// Converts columns [first, first + count) of a row; `first` and, but for the row's end, `count` are
  /// multiples of kGroup.
  void stage_part(const float* x, std::int64_t first, std::int64_t count, std::byte* to) const;

 private:
  PanelKernels kernels_;
  const OpsKernels* ops_;
  PanelLayout layout_;
  Mode mode_ = Mode::kF32;
  std::size_t row_bytes_ = 0;
  PanelKernel kernel_ = nullptr;
};

/// Bytes handed out one after the other, each part at a multiple of 64. Over a null base it only counts.
class WorkspaceCursor {
 public:
  explicit WorkspaceCursor(void* base) : base_(static_cast<std::byte*>(base)) {}
  template <typename T>
  T* take(std::size_t count) {
    T* part = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (count * sizeof(T) + 63) / 64 * 64;
    return part;
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

/// `task(index, worker)` for each index in [0, count). A worker takes a few neighbours at a time where there
/// are many: a panel kernel fetches ahead what lies behind its own panels.
void for_chunks(ThreadPool& pool, std::int64_t count,
                const std::function<void(std::int64_t index, int worker)>& task);

/// Row `row` of an F32 or BF16 matrix as floats.
void load_row(const Matrix& x, std::int64_t row, float* to);
/// Columns [first, first + count) of row `row`, rounded where the matrix is BF16.
void store_row(const float* from, const Matrix& c, std::int64_t row, std::int64_t first, std::int64_t count);

/// Throws `Error{kInvalidArgument}` unless `x` is an F32 or BF16 matrix of this shape.
void check_matrix(const Matrix& x, std::int64_t rows, std::int64_t cols, const char* what);

}  // namespace sabrewing::kernels::cpu
