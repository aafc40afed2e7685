#include "kernels/cuda/gemm/activation_quantizer.h"

#include <algorithm>

#include "formats/quantize/activations.h"
#include "kernels/cuda/device/quantize_params.h"
#include "kernels/cuda/gemm/launch_size.h"

namespace sabrewing::embedded {
extern const EmbeddedFile kCudaQuantizeDevice[];
extern const std::size_t kCudaQuantizeDeviceCount;
}  // namespace sabrewing::embedded

namespace sabrewing::kernels::cuda {

namespace {

using formats::ActivationFormat;
using Granularity = ActivationFormat::Granularity;

// Vectors of 8 that a thread keeps, of few rows and of many. Few rows are spread over more threads.
constexpr int kFewVectors = 1;
constexpr int kManyTokenVectors = 4;
constexpr int kSomeGroupVectors = 2;
constexpr int kManyGroupVectors = 4;
constexpr int kMaxThreads = 1024;
constexpr int kRowsThreads = 768;  // of a block with several rows
constexpr int kGroupBlocks = 8;    // on a multiprocessor, with two vectors in a thread at most

std::shared_ptr<const jit::HeaderSet> quantize_headers() {
  static const auto kHeaders = std::make_shared<const jit::HeaderSet>(
      std::span(embedded::kCudaQuantizeDevice, embedded::kCudaQuantizeDeviceCount), "device/");
  return kHeaders;
}

bool is_fp8(formats::ElementType type) { return type == formats::kE4M3 || type == formats::kE5M2; }

std::string code_type(formats::ElementType type) {
  if (type == formats::kE4M3) return "E4M3Code";
  if (type == formats::kE5M2) return "E5M2Code";
  return type == formats::kE2M1 ? "Fp4Code" : fmt::format("IntCode<{}>", type.bits);
}

}  // namespace

jit::KernelSource quantizer_source(const ActivationFormat& format, DType input,
                                   jit::Architecture architecture) {
  const bool grouped = format.granularity == Granularity::kGroup;
  jit::KernelSource source;
  source.name = fmt::format("quantize {} to {}", to_string(input), formats::to_string(format));
  source.source = fmt::format(
      "#include \"quantize.cuh\"\nusing namespace sabrewing::device;\nusing Format = Quantizer<{}Input, {}, "
      "{}>;\n",
      input == DType::kBF16 ? "Bf16" : "F16", code_type(format.element), format.scale == formats::kE8M0);
  const auto add = [&](const char* name, const std::string& bounds, const std::string& kernel) {
    source.source += fmt::format(
        "extern \"C\" __global__ void __launch_bounds__({}) quantize_{}(const __grid_constant__ "
        "QuantizeParams params) {{\n  quantize_{}>(params);\n}}\n",
        bounds, name, kernel);
  };
  if (grouped) {
    for (const auto& [name, vectors] :
         {std::pair{"few", kFewVectors}, {"some", kSomeGroupVectors}, {"many", kManyGroupVectors}})
      add(name, std::to_string(device::kGroupTileThreads),
          fmt::format("groups<Format, {}, {}", format.group, vectors));
  } else {
    add("few", std::to_string(kMaxThreads), fmt::format("tokens<Format, {}, false", kFewVectors));
    // Registers for two such blocks on a multiprocessor; elsewhere the compiler would spill for them.
    add("some", fmt::format("{}{}", kRowsThreads, architecture.number == 90 ? ", 2" : ""),
        fmt::format("tokens<Format, {}, true", kManyTokenVectors));
    add("many", std::to_string(kMaxThreads), fmt::format("tokens<Format, {}, false", kManyTokenVectors));
  }
  source.headers = quantize_headers();
  source.architecture = architecture;
  return source;
}

Feasibility ActivationQuantizer::can_implement(const QuantizeDesc& desc, jit::Architecture architecture) {
  const std::string name = formats::to_string(desc.format);
  if (const Feasibility feasible = formats::can_quantize(desc.format); !feasible) return feasible;
  if (desc.input != DType::kBF16 && desc.input != DType::kF16)
    return Feasibility::no(
        fmt::format("{} input: CUDA kernels quantize BF16 and F16", to_string(desc.input)));
  if (desc.format.granularity == Granularity::kGroup && desc.format.group != 32 && desc.format.group != 64 &&
      desc.format.group != 128)
    return Feasibility::no(fmt::format("{} activations: groups of 32, 64 or 128 columns", name));
  if (is_fp8(desc.format.element) && architecture.number < 89)
    return Feasibility::no(fmt::format("{} activations need SM89", name));
  if (desc.k < 1 || desc.k > INT32_MAX - device::kGroupTileColumns || desc.k % 8 != 0)
    return Feasibility::no(fmt::format("K {}: a multiple of 8 below 2^31 is needed", desc.k));
  return Feasibility::yes();
}

ActivationQuantizer::ActivationQuantizer(const jit::DevicePtr& device, jit::Compiler& compiler,
                                         const QuantizeDesc& desc)
    : desc_(desc), multiprocessors_(device->info().multiprocessors) {
  const jit::Architecture architecture = device->info().architecture;
  if (const Feasibility feasible = can_implement(desc, architecture); !feasible)
    fail(ErrorCode::kUnsupported, "[quantize] {}", feasible.reason);
  const jit::KernelSource source = quantizer_source(desc.format, desc.input, architecture);
  const auto compiled = compiler.compile(source);
  const jit::Module module(device, compiled->cubin, source.name);
  few_ = module.kernel("quantize_few", source.name);
  some_ = module.kernel("quantize_some", source.name);
  many_ = module.kernel("quantize_many", source.name);
}

DType ActivationQuantizer::codes_dtype() const {
  if (desc_.format.element == formats::kE4M3) return DType::kF8E4M3;
  return desc_.format.element == formats::kE5M2 ? DType::kF8E5M2 : DType::kI8;
}

std::size_t ActivationQuantizer::scale_bytes(std::int64_t m) const {
  const std::int64_t columns =
      desc_.format.granularity == Granularity::kGroup ? ceil_div(desc_.k, desc_.format.group) : 1;
  return static_cast<std::size_t>(columns * m) * desc_.format.scale->bits / 8;
}

void ActivationQuantizer::enqueue(const QuantizeArgs& args, jit::StreamHandle stream, bool overlap) const {
  const std::int64_t m = args.x.rows;
  SABREWING_CHECK(m >= 0 && m <= INT32_MAX && args.codes.rows == m, kInvalidArgument,
                  "[quantize] x has {} rows, codes {}", m, args.codes.rows);
  SABREWING_CHECK(args.x.cols == desc_.k && args.codes.cols == desc_.k, kInvalidArgument,
                  "[quantize] x has {} columns, codes {}: {} expected", args.x.cols, args.codes.cols,
                  desc_.k);
  SABREWING_CHECK(args.x.dtype == desc_.input && args.codes.dtype == codes_dtype(), kInvalidArgument,
                  "[quantize] x is {}, codes {}: {} and {} expected", to_string(args.x.dtype),
                  to_string(args.codes.dtype), to_string(desc_.input), to_string(codes_dtype()));
  if (m == 0) return;
  SABREWING_CHECK(args.x.data != nullptr && args.codes.data != nullptr && args.scales != nullptr,
                  kInvalidArgument, "[quantize] null operand");
  SABREWING_CHECK(args.x.row_stride >= desc_.k && args.codes.row_stride >= desc_.k, kInvalidArgument,
                  "[quantize] rows of {} columns overlap", desc_.k);
  SABREWING_CHECK(
      is_aligned(args.x.data, 16) && is_aligned(args.codes.data, 8) && is_aligned(args.scales, 4) &&
          args.x.row_stride % 8 == 0 && args.codes.row_stride % 8 == 0,
      kInvalidArgument,
      "[quantize] rows of x must begin at multiples of 16 bytes, rows of codes at multiples of 8");
  device::QuantizeParams params{};
  params.x = args.x.data;
  params.codes = args.codes.data;
  params.scales = args.scales;
  params.x_stride = args.x.row_stride;
  params.codes_stride = args.codes.row_stride;
  params.m = static_cast<int>(m);
  params.k = static_cast<int>(desc_.k);
  jit::LaunchConfig config;
  config.stream = stream;
  config.programmatic_serialization = overlap;
  if (desc_.format.granularity == Granularity::kGroup) {
    const std::int64_t tiles = ceil_div(desc_.k, device::kGroupTileColumns);
    const auto blocks = [&](int vectors) { return tiles * ceil_div(m, device::kGroupTileRows * vectors); };
    const bool few = blocks(kFewVectors) <= kGroupBlocks * multiprocessors_;
    const bool some = !few && blocks(kSomeGroupVectors) <= kGroupBlocks * multiprocessors_;
    const std::int64_t rows = device::kGroupTileRows * (few    ? kFewVectors
                                                        : some ? kSomeGroupVectors
                                                               : kManyGroupVectors);
    SABREWING_CHECK(ceil_div(m, rows) <= kMaxGridY, kInvalidArgument, "[quantize] {} rows, at most {}", m,
                    kMaxGridY * rows);
    config.grid = {static_cast<unsigned>(tiles), static_cast<unsigned>(ceil_div(m, rows)), 1};
    config.block = {device::kGroupTileThreads, 1, 1};
    jit::launch(few ? few_ : some ? some_ : many_, config, params);
    return;
  }
  const std::int64_t vectors = desc_.k / 8;
  const bool few = m <= 2 * multiprocessors_ && vectors <= kMaxThreads;
  const std::int64_t threads = std::min<std::int64_t>(
      ceil_div(ceil_div(vectors, few ? kFewVectors : kManyTokenVectors), 32) * 32, kMaxThreads);
  const std::int64_t rows = ceil_div(m, multiprocessors_);
  const bool some = !few && rows * threads <= kRowsThreads;
  // A block on each multiprocessor takes all rows and leaves room for one of the next launch.
  const std::int64_t blocks = some ? std::min<std::int64_t>(m, multiprocessors_) : m;
  params.block_rows = static_cast<int>(m / blocks);
  params.longer_blocks = static_cast<int>(m % blocks);
  config.grid = {static_cast<unsigned>(blocks), 1, 1};
  config.block = {static_cast<unsigned>(threads), some ? static_cast<unsigned>(rows) : 1, 1};
  jit::launch(few ? few_ : some ? some_ : many_, config, params);
}

}  // namespace sabrewing::kernels::cuda
