#include "kernels/cuda/gemm/kernel_shape.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace sabrewing::embedded {
extern const EmbeddedFile kCudaDevice[];
extern const std::size_t kCudaDeviceCount;
}  // namespace sabrewing::embedded

namespace sabrewing::kernels::cuda {

namespace {

using Family = KernelShape::Family;

std::shared_ptr<const jit::HeaderSet> device_headers() {
  static const auto kHeaders = std::make_shared<const jit::HeaderSet>(
      std::span(embedded::kCudaDevice, embedded::kCudaDeviceCount), "device/");
  return kHeaders;
}

std::string_view output_type(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return "Bf16Output";
    case DType::kF16:
      return "F16Output";
    default:
      return "F32Output";
  }
}

/// WGMMA with A from registers. The instruction names every accumulator register, so its text depends on the
/// number of tokens.
std::string wgmma_function(int tokens) {
  const int registers = tokens / 2;
  std::string list, outputs;
  for (int i = 0; i < registers; ++i) {
    list += fmt::format("{}%{}", i > 0 ? ", " : "", i);
    outputs += fmt::format("{}\"+f\"(d[{}])", i > 0 ? ", " : "", i);
  }
  return fmt::format(
      "  SW_DEVICE static void mma(float (&d)[{0}], const u32 (&a)[4], u64 b) {{\n"
      "    asm volatile(\"wgmma.mma_async.sync.aligned.m64n{1}k16.f32.bf16.bf16 {{{2}}}, "
      "{{%{0}, %{3}, %{4}, %{5}}}, %{6}, 1, 1, 1, 0;\"\n"
      "      : {7}\n      : \"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3]), \"l\"(b));\n  }}\n",
      registers, tokens, list, registers + 1, registers + 2, registers + 3, registers + 4, outputs);
}

}  // namespace

int KernelShape::threads() const {
  if (family == Family::kMma) return 32 * blocks * groups;
  return 128 * groups + 128;
}

std::string KernelShape::to_string() const {
  if (family == Family::kWgmma)
    return fmt::format("wgmma {}x{} b{} s{} d{} k{} r{}", tokens, features(), blocks, stages, depth, split,
                       resident);
  return fmt::format("mma {}x{} w{} a{} k{} r{}", tokens, features(), groups, stages, split, resident);
}

Feasibility can_generate(const KernelShape& shape, const KernelFormats& formats,
                         jit::Architecture architecture) {
  if (formats.activation != DType::kBF16)
    return Feasibility::no(
        fmt::format("no kernel for {} activations", sabrewing::to_string(formats.activation)));
  if (formats.weight.encoding == WeightLayout::Encoding::kPlanes)
    return Feasibility::no("no kernel reads this packed layout");
  if (shape.family == Family::kWgmma) {
    if (architecture.number != 90) return Feasibility::no("WGMMA needs sm_90a");
    if (formats.scale_after)
      return Feasibility::no("the WGMMA kernel multiplies group scales into the weights");
    if (shape.tokens > 256 || shape.tokens < 8 || (shape.tokens != 8 && shape.tokens % 16 != 0))
      return Feasibility::no(fmt::format("{} tokens: 8, or a multiple of 16 up to 256", shape.tokens));
    if (shape.depth * formats.weight.slab_k > 128)
      return Feasibility::no("a stage holds at most 128 columns");
    if (shape.tokens / 2 * shape.blocks > 160)
      return Feasibility::no(fmt::format("{} accumulators do not fit", shape.tokens / 2 * shape.blocks));
    const int bytes = shared_bytes(shape, formats, shape.tokens, 1 << 20);
    if (bytes > 227 * 1024) return Feasibility::no(fmt::format("{} bytes of shared memory", bytes));
  } else {
    if (shape.tokens % 8 != 0 || shape.tokens > 64)
      return Feasibility::no("tokens: a multiple of 8 up to 64");
    if (formats.scale_after && formats.weight.decoder_after.empty())
      return Feasibility::no("this weight format has no group scales to apply after the sums");
    if (shape.split > 1 && architecture.number < 90) return Feasibility::no("cluster splits need SM90");
    if (shape.threads() > 1024) return Feasibility::no(fmt::format("{} threads", shape.threads()));
  }
  return Feasibility::yes();
}

int shared_bytes(const KernelShape& shape, const KernelFormats& formats, int rows, int slabs) {
  const WeightLayout& layout = formats.weight;
  if (shape.family == Family::kWgmma) {
    const int row_blocks = shape.blocks * shape.groups;
    const int stage = shape.depth * (layout.slab_k / 64 * shape.tokens * 128 +
                                     row_blocks * static_cast<int>(layout.slab_bytes()));
    const bool transposes = shape.split == 1 && formats.output != DType::kF32;
    const int ring = shape.stages * (stage + 16) + (transposes ? 4 * shape.groups * 512 : 0);
    const int partial = shape.split > 1 ? shape.tokens * (64 * row_blocks + 4) * 4 : 0;
    return std::max(ring, partial);
  }
  const int unit_slabs = 128 / layout.slab_k;
  const int chunk_units = shape.groups * shape.stages;
  const int units = (slabs + unit_slabs - 1) / unit_slabs;
  const int buffers = (units + shape.split - 1) / shape.split > chunk_units ? 2 : 1;
  const int tokens = std::min(rows, shape.tokens) * (chunk_units * 256 + 16);
  const int ring = shape.blocks * shape.groups * shape.stages *
                   (2 * layout.words * 128 + unit_slabs * 128 * layout.scale_words);
  const int partial = shape.groups * shape.tokens * (shape.features() + 4) * 4;
  return std::max(ring + buffers * tokens, partial);
}

jit::KernelSource kernel_source(const KernelShape& shape, const KernelFormats& formats,
                                jit::Architecture architecture) {
  if (const Feasibility feasible = can_generate(shape, formats, architecture); !feasible)
    fail(ErrorCode::kUnsupported, "[gemm] {}: {}", shape.to_string(), feasible.reason);
  const std::string& decoder = formats.scale_after ? formats.weight.decoder_after : formats.weight.decoder;
  std::string text;
  if (shape.family == Family::kWgmma) {
    text = fmt::format(
        "#include \"gemm_wgmma.cuh\"\n"
        "using namespace sabrewing::device;\n"
        "struct Config {{\n"
        "  static constexpr int kTokens = {}, kBlocks = {}, kGroups = {}, kStages = {}, kDepth = {};\n"
        "  static constexpr int kSplit = {};\n"
        "  static constexpr bool kEveryLaneArrives = {};\n"
        "  using Decoder = {};\n  using Output = {};\n{}}};\n"
        "extern \"C\" __global__ void __launch_bounds__(WgmmaLayout<Config>::kThreads, {}) sabrewing_gemm(\n"
        "    const __grid_constant__ TensorMap x_map, const __grid_constant__ GemmParams params) {{\n"
        "  gemm_wgmma<Config>(x_map, params);\n}}\n",
        shape.tokens, shape.blocks, shape.groups, shape.stages, shape.depth, shape.split,
        formats.race_checkable, decoder, output_type(formats.output), wgmma_function(shape.tokens),
        shape.resident);
  } else {
    text = fmt::format(
        "#include \"gemm_mma.cuh\"\n"
        "using namespace sabrewing::device;\n"
        "struct Config {{\n"
        "  static constexpr int kTokenTiles = {}, kWarpsN = {}, kWarpsK = {}, kAhead = {}, kSplit = {};\n"
        "  using Decoder = {};\n  using Output = {};\n}};\n"
        "extern \"C\" __global__ void __launch_bounds__(MmaLayout<Config>::kThreads, {}) sabrewing_gemm(\n"
        "    const __grid_constant__ GemmParams params) {{\n"
        "  gemm_mma<Config>(params);\n}}\n",
        shape.tokens / 8, shape.blocks, shape.groups, shape.stages, shape.split, decoder,
        output_type(formats.output), shape.resident);
  }
  jit::KernelSource source;
  source.name = fmt::format("gemm {} {} {}", shape.to_string(), decoder, output_type(formats.output));
  source.source = std::move(text);
  source.headers = device_headers();
  source.architecture = architecture;
  return source;
}

}  // namespace sabrewing::kernels::cuda
