#include "kernels/cuda/gemm/device_packer.h"

#include <algorithm>
#include <cmath>

#include "formats/numeric/bit_stream.h"
#include "kernels/cuda/gemm/launch_size.h"
#include "kernels/cuda/gemm/plane_layout.h"

namespace sabrewing::embedded {
extern const EmbeddedFile kCudaPackDevice[];
extern const std::size_t kCudaPackDeviceCount;
}  // namespace sabrewing::embedded

namespace sabrewing::kernels::cuda {

namespace {

using formats::ElementType;
using formats::WeightFormat;
using formats::ZeroPoint;

device::PackNumber number_of(ElementType type) {
  if (type == formats::kFP32) return device::PackNumber::kFP32;
  if (type == formats::kFP16) return device::PackNumber::kFP16;
  if (type == formats::kBF16) return device::PackNumber::kBF16;
  return type == formats::kE8M0 ? device::PackNumber::kE8M0 : device::PackNumber::kE4M3;
}

std::int64_t columns_of(const WeightFormat& format, std::int64_t k) { return format.scale_grid(1, k).k; }

const unsigned char* bytes_of(const std::byte* from) { return reinterpret_cast<const unsigned char*>(from); }

/// Bytes of `rows` rows of so many bytes each, `stride` apart.
std::size_t extent(std::int64_t rows, std::int64_t stride, std::size_t row_bytes) {
  return rows == 0 ? 0 : static_cast<std::size_t>((rows - 1) * stride) + row_bytes;
}

}  // namespace

Feasibility can_pack_on_device(const WeightSource& source, const WeightLayout& layout) {
  if (source.parts.size() > static_cast<std::size_t>(device::kMaxPackParts))
    return Feasibility::no(fmt::format("{} parts: at most {}", source.parts.size(), device::kMaxPackParts));
  if (source.n() < 1 || source.k < 1)
    return Feasibility::no(fmt::format("empty weight: {} by {}", source.n(), source.k));
  if (layout.group != 0 && source.format.block.n <= 1 && source.k % layout.group != 0)
    return Feasibility::no(fmt::format("K {} is not a multiple of the group {}", source.k, layout.group));
  if ((source.n() + 63) / 64 > kMaxGridY)
    return Feasibility::no(fmt::format("{} rows: at most {}", source.n(), kMaxGridY * 64));
  return Feasibility::yes();
}

device::PackLayout pack_layout(const WeightFormat& format, const WeightLayout& layout) {
  device::PackLayout l{};
  l.encoding = static_cast<device::PackEncoding>(layout.encoding);
  l.scales = static_cast<device::PackScales>(layout.scales);
  l.slab_k = layout.slab_k;
  l.words = layout.words;
  l.scale_words = layout.scale_words;
  l.group = layout.group;
  l.segment = layout.segment;
  l.lane_bits = 8 * operand_bytes(layout.operand);
  l.ledger = layout.ledger;
  l.swizzled = layout.swizzled ? 1 : 0;
  l.stored_scale = number_of(layout.stored_scale);
  l.bits = format.element.bits;
  l.infinite = format.element == formats::kE4M3 ? 0x7f : format.element == formats::kE5M2 ? 0x7c : 256;
  l.scale = number_of(*format.scale);
  l.zeros = static_cast<device::PackZeros>(format.zero_point);
  l.top_exponent =
      format.element.is_integer() ? format.element.bits : std::ilogb(formats::max_value(format.element));
  if (layout.encoding == WeightLayout::Encoding::kPlanes) {
    const PlaneCodes codes = plane_codes(format, layout);
    l.code_mask = codes.mask;
    l.sign_low = codes.sign_low ? 1 : 0;
    l.rebias = codes.rebias;
    l.zero_word = codes.zero_word;
  }
  return l;
}

device::PackParams pack_params(const WeightSource& source, const WeightLayout& layout,
                               const PackedShape& shape) {
  if (const Feasibility feasible = can_pack_on_device(source, layout); !feasible)
    fail(ErrorCode::kInvalidArgument, "[pack] {}", feasible.reason);
  device::PackParams p{};
  for (std::size_t i = 0; i < source.parts.size(); ++i) {
    const WeightRows& rows = source.parts[i];
    p.parts[i] = {bytes_of(rows.values),       bytes_of(rows.scales),
                  bytes_of(rows.zeros),        rows.row_stride,
                  rows.scale_row_stride,       rows.zero_row_stride,
                  static_cast<int>(rows.rows), static_cast<int>(rows.rows_per_scale)};
  }
  p.factor_offset = static_cast<long long>(shape.factor_offset);
  p.n = static_cast<int>(shape.n);
  p.k = static_cast<int>(shape.k);
  p.slabs = static_cast<int>(shape.slabs);
  p.row_blocks = static_cast<int>(shape.row_blocks);
  p.columns = static_cast<int>(columns_of(source.format, shape.k));
  p.second_scale = source.second_scale;
  return p;
}

jit::KernelSource packer_source(const device::PackLayout& l, jit::Architecture architecture) {
  static const auto kHeaders = std::make_shared<const jit::HeaderSet>(
      std::span(embedded::kCudaPackDevice, embedded::kCudaPackDeviceCount), "device/");
  const auto number = [](auto value) { return static_cast<int>(value); };
  jit::KernelSource source;
  source.name = fmt::format("pack weights of {} bits", l.bits);
  source.source = fmt::format(
      "#include \"pack.cuh\"\nusing namespace sabrewing::device;\n"
      "constexpr PackLayout kLayout{{.encoding = PackEncoding({}), .scales = PackScales({}), .slab_k = {}, "
      ".words = {}, .scale_words = {}, .zero_word = {}, .group = {}, .segment = {}, .lane_bits = {}, "
      ".ledger = {}, .stored_scale = PackNumber({}), .bits = {}, .code_mask = {}, .sign_low = {}, "
      ".infinite = {}, .scale = PackNumber({}), .zeros = PackZeros({}), .top_exponent = {}, .rebias = {}, "
      ".swizzled = {}}};\n",
      number(l.encoding), number(l.scales), l.slab_k, l.words, l.scale_words, l.zero_word, l.group, l.segment,
      l.lane_bits, l.ledger, number(l.stored_scale), l.bits, l.code_mask, l.sign_low, l.infinite,
      number(l.scale), number(l.zeros), l.top_exponent, l.rebias, l.swizzled);
  for (const char* name : {"pack_scan", "pack_words"})
    source.source += fmt::format(
        "extern \"C\" __global__ void __launch_bounds__({}) {}(const __grid_constant__ PackParams params) "
        "{{\n  sabrewing::device::{}(params, kLayout);\n}}\n",
        device::kPackThreads, name, name);
  source.headers = kHeaders;
  source.architecture = architecture;
  return source;
}

DevicePacker::DevicePacker(jit::DevicePtr device, jit::Compiler& compiler, const WeightFormat& format,
                           const WeightLayout& layout)
    : device_(std::move(device)), format_(format), layout_(layout) {
  const jit::KernelSource source = packer_source(pack_layout(format, layout), device_->info().architecture);
  const auto compiled = compiler.compile(source);
  const jit::Module module(device_, compiled->cubin, source.name);
  scan_ = module.kernel("pack_scan", "pack: scales");
  words_ = module.kernel("pack_words", "pack: words");
}

std::size_t DevicePacker::scratch_bytes(std::int64_t n) {
  return static_cast<std::size_t>(n) * sizeof(std::int32_t) + 2 * sizeof(std::uint32_t);
}

void DevicePacker::enqueue(const WeightSource& source, void* out, void* scratch,
                           jit::StreamHandle stream) const {
  SABREWING_CHECK(source.format == format_, kInvalidArgument, "[pack] the source is {}, the kernels pack {}",
                  formats::to_string(source.format), formats::to_string(format_));
  const PackedShape shape = PackedShape::of(layout_, source.n(), source.k);
  device::PackParams params = pack_params(source, layout_, shape);
  params.out = static_cast<unsigned char*>(out);
  params.status = static_cast<unsigned int*>(scratch);
  params.row_lowered = reinterpret_cast<int*>(params.status + 2);
  jit::set_bytes(params.status, 0, 2 * sizeof(std::uint32_t), stream);
  // The layout ends with the factors; bytes before them that belong to no slab are zeros.
  const std::size_t slabs = static_cast<std::size_t>(shape.row_blocks * shape.slabs) * layout_.slab_bytes();
  jit::set_bytes(params.out + slabs, 0, shape.factor_offset - slabs, stream);
  const auto blocks = [](std::int64_t a, std::int64_t b) { return static_cast<unsigned>(ceil_div(a, b)); };
  jit::LaunchConfig config;
  config.stream = stream;
  config.block = {device::kPackThreads, 1, 1};
  config.grid = {blocks(shape.n, device::kPackThreads / 32), 1, 1};
  jit::launch(scan_, config, params);
  config.grid = {blocks(shape.slabs * layout_.slab_k, device::kPackTileColumns),
                 static_cast<unsigned>(shape.row_blocks), 1};
  jit::launch(words_, config, params);
}

void DevicePacker::pack(const WeightSource& source, void* out, jit::StreamHandle stream) const {
  const WeightFormat& format = source.format;
  if (const Feasibility feasible = can_pack_on_device(source, layout_); !feasible)
    fail(ErrorCode::kInvalidArgument, "[pack] {}", feasible.reason);
  const auto columns = static_cast<std::size_t>(columns_of(format, source.k));
  const std::size_t value_bytes =
      formats::packed_bytes(static_cast<std::size_t>(source.k), format.element.bits);
  const std::size_t scale_bytes = columns * format.scale->bits / 8;
  const std::size_t zero_bytes = format.zero_point == ZeroPoint::kInteger
                                     ? formats::packed_bytes(columns, format.element.bits)
                                     : scale_bytes;
  WeightSource on_device = source;
  std::vector<jit::DeviceBuffer> buffers;
  const auto upload = [&](const std::byte*& from, std::size_t bytes) {
    if (from == nullptr) return;
    buffers.emplace_back(device_, bytes);
    jit::copy_to_device(buffers.back().data(), {from, bytes}, stream);
    from = buffers.back().as<std::byte>();
  };
  for (WeightRows& rows : on_device.parts) {
    const std::int64_t scale_rows = (rows.rows + rows.rows_per_scale - 1) / rows.rows_per_scale;
    upload(rows.values, extent(rows.rows, rows.row_stride, value_bytes));
    upload(rows.scales, extent(scale_rows, rows.scale_row_stride, scale_bytes));
    upload(rows.zeros, extent(scale_rows, rows.zero_row_stride, zero_bytes));
  }
  const jit::DeviceBuffer scratch(device_, scratch_bytes(source.n()));
  enqueue(on_device, out, scratch.data(), stream);
  std::uint32_t status[2] = {};
  jit::copy_to_host(std::as_writable_bytes(std::span(status)), scratch.data(), stream);
  jit::synchronize(stream);
  if (status[1] == 0) return;
  // The host says what is wrong.
  pack_weight(source, layout_);
  fail(ErrorCode::kInternal, "[pack] the device refuses a {} weight of {} by {} that the host packs",
       formats::to_string(format), source.n(), source.k);
}

}  // namespace sabrewing::kernels::cuda
