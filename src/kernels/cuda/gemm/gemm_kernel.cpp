#include "kernels/cuda/gemm/gemm_kernel.h"

#include <algorithm>

#include "jit/tensor_map.h"
#include "kernels/cuda/gemm/launch_size.h"

namespace sabrewing::kernels::cuda {

namespace {

using Family = KernelShape::Family;

jit::TensorMap activation_map(const GemmOperands& operands, int tokens, int bytes) {
  // As `jit::encode_tensor_map`, without its vectors: this runs at every launch.
  const std::uint64_t extents[2] = {static_cast<std::uint64_t>(operands.shape.k),
                                    static_cast<std::uint64_t>(operands.m)};
  const std::uint64_t strides[1] = {static_cast<std::uint64_t>(operands.x_stride * bytes)};
  const std::uint32_t box[2] = {static_cast<std::uint32_t>(128 / bytes), static_cast<std::uint32_t>(tokens)};
  const jit::TensorMapType type = bytes == 2 ? jit::TensorMapType::kBF16 : jit::TensorMapType::kU8;
  const std::uint32_t element_strides[2] = {1, 1};
  jit::TensorMap map;
  SABREWING_DRIVER(tensor_map_encode_tiled(&map, static_cast<int>(type), 2, const_cast<void*>(operands.x),
                                           extents, strides, box, element_strides, 0,
                                           static_cast<int>(jit::TensorMapSwizzle::k128B),
                                           static_cast<int>(jit::TensorMapPromotion::k128B), 0));
  return map;
}

}  // namespace

GemmKernel::GemmKernel(const jit::DevicePtr& device, jit::Compiler& compiler, const KernelShape& shape,
                       KernelFormats formats)
    : shape_(shape), formats_(std::move(formats)) {
  const jit::KernelSource source = kernel_source(shape_, formats_, device->info().architecture);
  const auto compiled = compiler.compile(source);
  multiprocessors_ = device->info().multiprocessors;
  max_shared_bytes_ = device->info().max_shared_bytes_per_block;
  const jit::Module module(device, compiled->cubin, source.name);
  kernel_ = module.kernel("sabrewing_gemm", source.name);
  const int most =
      shape_.family == Family::kWgmma ? shared_bytes(shape_, formats_, shape_.tokens, 1) : max_shared_bytes_;
  if (most > 48 * 1024) kernel_.set_max_dynamic_shared_bytes(most);
}

Feasibility GemmKernel::can_run(const GemmOperands& operands) const {
  const int vector = 16 / operand_bytes(formats_.weight.operand);
  if (!is_aligned(operands.x, 16) || operands.x_stride % vector != 0 || operands.shape.k % vector != 0)
    return Feasibility::no(fmt::format(
        "activation rows must begin at multiples of 16 bytes, and K be a multiple of {}", vector));
  if (formats_.activation.scale && operands.x_scale == nullptr)
    return Feasibility::no("quantized activations need their scales");
  return can_launch(shape_, formats_, operands.m, operands.shape.k, operands.shape.slabs, max_shared_bytes_);
}

void GemmKernel::enqueue(const GemmOperands& operands, jit::StreamHandle stream, bool overlap) const {
  if (operands.m == 0) return;
  const auto token_tiles = static_cast<int>(ceil_div(operands.m, shape_.tokens));
  const auto feature_tiles = static_cast<int>(ceil_div(operands.shape.n, shape_.features() * shape_.share));
  GemmParams params;
  params.weight = operands.weight;
  if (operands.has_factors)
    params.channel_scale = reinterpret_cast<const float*>(static_cast<const std::byte*>(operands.weight) +
                                                          operands.shape.factor_offset);
  params.bias = operands.bias;
  params.x = operands.x;
  params.y = operands.y;
  params.x_stride = operands.x_stride;
  params.y_stride = operands.y_stride;
  params.x_scale = operands.x_scale;
  params.x_scale_stride = static_cast<std::int32_t>(operands.x_scale_stride);
  params.m = static_cast<std::int32_t>(operands.m);
  params.n = static_cast<std::int32_t>(operands.shape.n);
  params.k = static_cast<std::int32_t>(operands.shape.k);
  params.slabs = static_cast<std::int32_t>(operands.shape.slabs);
  params.row_blocks = static_cast<std::int32_t>(operands.shape.row_blocks);
  params.token_tiles = token_tiles;
  params.feature_tiles = feature_tiles;
  params.token_group = std::clamp(operands.token_group, 1, token_tiles);
  params.aligned = is_aligned(operands.y, 16) && operands.y_stride % 8 == 0;
  params.stream_weights = token_tiles == 1;

  jit::LaunchConfig config;
  config.block = {static_cast<unsigned>(shape_.threads()), 1, 1};
  config.cluster = {static_cast<unsigned>(shape_.split * shape_.share), 1, 1};
  config.stream = stream;
  config.programmatic_serialization = overlap;
  config.dynamic_shared_bytes = static_cast<unsigned>(
      shared_bytes(shape_, formats_, static_cast<int>(std::min<std::int64_t>(operands.m, shape_.tokens)),
                   static_cast<int>(operands.shape.slabs)));
  if (shape_.family == Family::kWgmma) {
    const int tiles = token_tiles * feature_tiles;
    const int blocks = shape_.split > 1 ? tiles * shape_.split
                                        : std::min(tiles, multiprocessors_ / shape_.share) * shape_.share;
    config.grid = {static_cast<unsigned>(blocks), 1, 1};
    // An only tile loads just the rows that exist: rows out of bounds take longer than others, and what lies
    // there in shared memory is multiplied into sums that nobody stores.
    const int rows = shape_.share > 1 ? shape_.tokens / shape_.share
                                      : static_cast<int>(std::min<std::int64_t>(operands.m, shape_.tokens));
    params.box_bytes =
        shape_.depth * formats_.weight.slab_k * operand_bytes(formats_.weight.operand) * rows * shape_.share;
    jit::launch(kernel_, config, activation_map(operands, rows, operand_bytes(formats_.weight.operand)),
                params);
  } else {
    config.grid = {static_cast<unsigned>(feature_tiles * shape_.split), static_cast<unsigned>(token_tiles),
                   1};
    jit::launch(kernel_, config, params);
  }
}

}  // namespace sabrewing::kernels::cuda
