#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"
#include "jit/kernel_source.h"
#include "kernels/cuda/gemm/weight_layout.h"

namespace sabrewing::kernels::cuda {

/// One compiled GEMM kernel, apart from its formats: a point of the tuning space.
struct KernelShape {
  enum class Family : std::uint8_t {
    kWgmma,  ///< device/gemm_wgmma.cuh: Hopper
    kMma,    ///< device/gemm_mma.cuh: SM80 and up; cluster splits from SM90
  };
  Family family = Family::kMma;
  int tokens = 8;    ///< of a tile
  int blocks = 1;    ///< kWgmma: blocks of 64 features of a warpgroup; kMma: warps along features
  int groups = 1;    ///< kWgmma: consumer warpgroups; kMma: warps along K
  int stages = 4;    ///< kWgmma: of the ring; kMma: slabs ahead in registers
  int split = 1;     ///< blocks of a cluster along K
  int resident = 1;  ///< blocks that share a multiprocessor, and so overlap with the next launch
  int depth = 1;     ///< kWgmma: slabs in a stage
  int promote = 0;   ///< columns whose sums the instruction keeps before FP32 takes them; 0: all
  int share = 1;     ///< kWgmma: blocks of a cluster along the features that load their tokens together
  /// kWgmma: operand A is 64 tokens of a part of them, operand B all `blocks` of 64 features.
  bool tokens_first = false;

  int features() const {
    return family == Family::kWgmma ? 64 * blocks * (tokens_first ? 1 : groups) : 16 * blocks;
  }
  int threads() const;
  /// "wgmma 64x128 b1 s6 d1 k2 r1", "wgmma 256x128 t b2 s4 d1 k1 r1 p128", "mma 8x16 w8 a8 k1 r2"
  std::string to_string() const;
  bool operator==(const KernelShape&) const = default;
};

/// What a kernel computes.
struct KernelFormats {
  WeightLayout weight;
  formats::ActivationFormat activation = formats::ActivationFormat::bf16();
  DType output = DType::kBF16;
  bool scale_after = false;  ///< group scales onto FP32 sums
  bool race_checkable =
      false;  ///< compute-sanitizer's racecheck sees no order behind one lane's arrival for a warp
};

/// Parts of a WGMMA kernel's tokens with sums beside the FP32 ones at a time: 2 where both would take more
/// registers than there are, and no sums go on from stage to stage. Weights that are decoded have fragments
/// of 128 columns for both parts.
int halves(const KernelShape& shape, const KernelFormats& formats);

Feasibility can_generate(const KernelShape& shape, const KernelFormats& formats,
                         jit::Architecture architecture);

/// Whether a generated kernel takes `rows` tokens and K = `k` in so many slabs on a device whose blocks have
/// `max_shared_bytes`.
Feasibility can_launch(const KernelShape& shape, const KernelFormats& formats, std::int64_t rows,
                       std::int64_t k, std::int64_t slabs, int max_shared_bytes);

/// Dynamic shared memory of a launch for `rows` tokens in a tile and `slabs` along K, bytes.
int shared_bytes(const KernelShape& shape, const KernelFormats& formats, int rows, int slabs);

/// The translation unit with one kernel, `sabrewing_gemm`.
jit::KernelSource kernel_source(const KernelShape& shape, const KernelFormats& formats,
                                jit::Architecture architecture);

}  // namespace sabrewing::kernels::cuda
