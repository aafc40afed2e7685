#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/error.h"
#include "formats/scheme/weight_format.h"
#include "jit/launch.h"
#include "jit/nvrtc_compiler.h"
#include "kernels/matrix.h"

namespace sabrewing::kernels::cuda {

/// What the parts of one backend share.
struct Context {
  jit::DevicePtr device;
  jit::Stream stream;
  jit::Compiler compiler;
  DType activation;  ///< BF16, or FP32 for exact accuracy

  DeviceBuffer allocate(std::size_t bytes) const;
  /// Grid and block with the backend's stream.
  jit::LaunchConfig config(std::int64_t grid_x, std::int64_t grid_y, unsigned block) const;
};

/// The device type of activations: "Bf16" or "float".
std::string_view device_type(DType dtype);

/// The cache's type beside these activations.
DType cache_type(DType activation);

/// The translation unit with everything but matrix products.
jit::KernelSource ops_source(DType activation, jit::Architecture architecture);

/// The device type that reads a weight stored in rows, or why there is none.
struct RowWeight {
  Feasibility feasible;
  std::string_view decoder;
};
RowWeight row_weight(const formats::WeightFormat& format);

/// The translation unit with the matrix products of one weight format. Throws `Error{kUnsupported}`.
jit::KernelSource linear_source(const formats::WeightFormat& format, DType activation,
                                jit::Architecture architecture);
/// The kernel of it with this output, "linear<Bf16Weight, Bf16, float, false>".
std::string linear_expression(std::string_view decoder, DType activation, DType output, bool gated);

/// A compiled and loaded translation unit.
class KernelUnit {
 public:
  KernelUnit(Context& context, const jit::KernelSource& source);

  /// By the expression of the source, which is also its name in launch records.
  jit::Kernel kernel(std::string_view expression) const;

 private:
  std::shared_ptr<const jit::CompiledKernels> compiled_;
  jit::Module module_;
};

}  // namespace sabrewing::kernels::cuda
