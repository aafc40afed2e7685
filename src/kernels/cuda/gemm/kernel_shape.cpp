#include "kernels/cuda/gemm/kernel_shape.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

namespace sabrewing::embedded {
extern const EmbeddedFile kCudaDevice[];
extern const std::size_t kCudaDeviceCount;
}  // namespace sabrewing::embedded

namespace sabrewing::kernels::cuda {

namespace {

using Family = KernelShape::Family;
using Granularity = formats::ActivationFormat::Granularity;

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

/// The name of an operand's type in instructions.
std::string_view instruction_type(Operand operand) {
  constexpr std::array<std::string_view, 5> kNames{"bf16", "f16", "e4m3", "e5m2", "s8"};
  return kNames[static_cast<std::size_t>(operand)];
}

/// What the instruction reads as the activation.
Operand activation_operand(formats::ElementType type) {
  if (type == formats::kBF16) return Operand::kBF16;
  if (type == formats::kFP16) return Operand::kFP16;
  if (type == formats::kE4M3) return Operand::kE4M3;
  return type == formats::kE5M2 ? Operand::kE5M2 : Operand::kInt8;
}

std::string mma_type(Operand weight, Operand activation) {
  switch (weight) {
    case Operand::kBF16:
      return "Bf16Mma";
    case Operand::kFP16:
      return "F16Mma";
    case Operand::kInt8:
      return "Int8Mma";
    default:
      return fmt::format("{}{}Mma", weight == Operand::kE4M3 ? "E4M3" : "E5M2",
                         activation == Operand::kE4M3 ? "E4M3" : "E5M2");
  }
}

std::string token_scale_type(const formats::ActivationFormat& activation) {
  switch (activation.granularity) {
    case Granularity::kNone:
      return "NoTokenScale";
    case Granularity::kTensor:
    case Granularity::kToken:
      return "PerTokenScale";
    case Granularity::kGroup:
      break;
  }
  return fmt::format("PerGroupScale<{}, {}>", activation.group, activation.scale == formats::kE8M0);
}

/// Whether FP32 sums beside the instruction's own are needed.
bool promotes(const KernelShape& shape, const KernelFormats& formats) {
  return formats.scale_after || shape.promote > 0 ||
         formats.activation.granularity == formats::ActivationFormat::Granularity::kGroup;
}

bool has_short_runs(const KernelShape& shape, const KernelFormats& formats) {
  return formats.scale_after || formats.activation.group > 0 || shape.promote == 128;
}

/// The most accumulator registers of a WGMMA kernel: two sets of them with FP32 sums beside, and zero points
/// or the scales of integer sums take registers too.
int most_accumulators(const KernelShape& shape, const KernelFormats& formats) {
  // Operands in shared memory leave the registers of fragments to the sums.
  if (formats.weight.swizzled)
    return !promotes(shape, formats) ? 160 : halves(shape, formats) == 2 ? 128 : 96;
  if (!promotes(shape, formats)) return 160;
  if (formats.weight.zero_after) return 16;
  if (halves(shape, formats) == 2) return 128;
  const bool segments = formats.weight.segment > 0 && formats.weight.segment < 128;
  const bool integers = formats.weight.operand == Operand::kInt8;
  const bool grouped = formats.activation.group > 0;
  if (integers && (segments || grouped)) return 48;
  if (segments || grouped) return 64;
  return formats.scale_after ? 80 : shape.share > 1 ? 96 : 88;
}

/// Scales in a stage of the WGMMA kernel of each token: one per group of columns.
int stage_scales(const KernelShape& shape, const KernelFormats& formats) {
  const auto group = static_cast<int>(formats.activation.group);
  return group > 0 ? shape.depth * formats.weight.slab_k / group : 0;
}

/// WGMMA with A from registers, or from shared memory by a descriptor. The instruction names every
/// accumulator register, so its text depends on the number of columns of B. `name` adds to the sums; with
/// `first` it replaces them unless its last argument is set.
std::string wgmma_function(std::string_view name, bool first, int columns, bool in_shared, Operand a_type,
                           Operand b_type) {
  const int registers = columns / 2;
  const bool integers = a_type == Operand::kInt8;
  std::string list, outputs;
  for (int i = 0; i < registers; ++i) {
    list += fmt::format("{}%{}", i > 0 ? ", " : "", i);
    outputs += fmt::format("{}\"+{}\"(d[{}])", i > 0 ? ", " : "", integers ? 'r' : 'f', i);
  }
  // Scale-d; then the factors of the operands, and for 16-bit ones that the second is not transposed.
  const std::string modes = fmt::format("{}{}{}", first ? "keep" : "1", integers ? "" : ", 1, 1",
                                        operand_bytes(a_type) == 2 ? ", 0" : "");
  const int words = in_shared ? 1 : 4;  // of A's operand
  const std::string a = in_shared ? fmt::format("%{}", registers)
                                  : fmt::format("{{%{}, %{}, %{}, %{}}}", registers, registers + 1,
                                                registers + 2, registers + 3);
  const std::string predicate =
      first ? fmt::format("{{ .reg .pred keep; setp.ne.b32 keep, %{}, 0; ", registers + words + 1) : "";
  return fmt::format(
      "  SW_DEVICE static void {name}({sum} (&d)[{registers}], {a_parameter}, u64 b{parameter}) {{\n"
      "    asm volatile(\"{predicate}wgmma.mma_async.sync.aligned.m64n{columns}k{depth}.{sum_type}."
      "{a_element}.{b_element} {{{list}}}, {a}, %{b}, {modes};{end}\"\n"
      "      : {outputs}\n      : {a_words}, \"l\"(b){argument});\n  }}\n",
      fmt::arg("name", name), fmt::arg("sum", integers ? "int" : "float"), fmt::arg("registers", registers),
      fmt::arg("a_parameter", in_shared ? "u64 a" : "const u32 (&a)[4]"),
      fmt::arg("parameter", first ? ", int keep" : ""), fmt::arg("predicate", predicate),
      fmt::arg("columns", columns), fmt::arg("depth", 32 / operand_bytes(a_type)),
      fmt::arg("sum_type", integers ? "s32" : "f32"), fmt::arg("a_element", instruction_type(a_type)),
      fmt::arg("b_element", instruction_type(b_type)), fmt::arg("list", list), fmt::arg("a", a),
      fmt::arg("b", registers + words), fmt::arg("modes", modes), fmt::arg("end", first ? " }" : ""),
      fmt::arg("outputs", outputs),
      fmt::arg("a_words", in_shared ? "\"l\"(a)" : "\"r\"(a[0]), \"r\"(a[1]), \"r\"(a[2]), \"r\"(a[3])"),
      fmt::arg("argument", first ? ", \"r\"(keep)" : ""));
}

}  // namespace

int KernelShape::threads() const {
  if (family == Family::kMma) return 32 * blocks * groups;
  return 128 * groups + 128;
}

std::string KernelShape::to_string() const {
  const std::string promoted = promote > 0 ? fmt::format(" p{}", promote) : "";
  if (family == Family::kWgmma)
    return fmt::format("wgmma {}x{}{} b{} s{} d{} k{} r{}{}{}", tokens, features(), tokens_first ? " t" : "",
                       blocks, stages, depth, split, resident, share > 1 ? fmt::format(" c{}", share) : "",
                       promoted);
  return fmt::format("mma {}x{} w{} a{} k{} r{}{}", tokens, features(), groups, stages, split, resident,
                     promoted);
}

int halves(const KernelShape& shape, const KernelFormats& formats) {
  if (shape.tokens_first) return shape.tokens / (64 * shape.groups);
  const WeightLayout& weight = formats.weight;
  const bool segments = formats.scale_after && weight.segment > 0 && weight.segment < 128;
  const bool grouped = formats.activation.group > 0 && formats.activation.group < 128;
  const bool whole_boxes = operand_bytes(weight.operand) == 1 && !segments && !grouped;
  const bool can_halve = weight.swizzled
                             ? shape.tokens > 192
                             : whole_boxes && !weight.zero_after && shape.tokens >= 192 && shape.split == 1;
  return can_halve && has_short_runs(shape, formats) && shape.tokens % 32 == 0 ? 2 : 1;
}

Feasibility can_generate(const KernelShape& shape, const KernelFormats& formats,
                         jit::Architecture architecture) {
  const WeightLayout& layout = formats.weight;
  const int bytes_per_element = operand_bytes(layout.operand);
  if (bytes_per_element != operand_bytes(activation_operand(formats.activation.element)) ||
      (bytes_per_element == 2 && layout.operand != activation_operand(formats.activation.element)))
    return Feasibility::no(
        fmt::format("the packed weight is not for {} activations", formats::to_string(formats.activation)));
  if ((formats.scale_after ? layout.decoder_after : layout.decoder).empty())
    return Feasibility::no(formats.scale_after
                               ? "this weight format has no group scales to apply after the sums"
                               : "this weight's group scales are applied after the sums");
  if (shape.family == Family::kWgmma) {
    if (architecture.number != 90) return Feasibility::no("WGMMA needs sm_90a");
    if (shape.tokens > 256 || shape.tokens < 8 || (shape.tokens != 8 && shape.tokens % 16 != 0))
      return Feasibility::no(fmt::format("{} tokens: 8, or a multiple of 16 up to 256", shape.tokens));
    if (shape.depth * layout.slab_k * bytes_per_element > 256)
      return Feasibility::no("a stage holds at most 256 bytes of a token");
    const int accumulators =
        shape.tokens_first ? 32 * shape.blocks * halves(shape, formats) : shape.tokens / 2 * shape.blocks;
    if (accumulators > most_accumulators(shape, formats))
      return Feasibility::no(fmt::format("{} accumulators do not fit", accumulators));
    if (stage_scales(shape, formats) * shape.tokens > 512)
      return Feasibility::no("a producer's registers hold at most 512 token scales of a stage");
    if (shape.tokens_first) {
      if (!layout.swizzled) return Feasibility::no("tokens come first beside weights that are operands");
      if (shape.tokens % (64 * shape.groups) != 0 || halves(shape, formats) > 2 || shape.split > 1 ||
          shape.depth * layout.slab_k > 128)
        return Feasibility::no(
            "where tokens come first, a warpgroup has 64 or 128, stages 128 columns, and K is whole");
      if (!has_short_runs(shape, formats))
        return Feasibility::no("where tokens come first, FP32 takes the sums of each 128 columns");
      if (formats.scale_after && (!layout.block_scales || formats.activation.group != layout.segment))
        return Feasibility::no("where tokens come first, 64 features have one scale of the sums");
    }
    if (promotes(shape, formats) &&
        ((shape.blocks > 1 && !shape.tokens_first) || shape.groups > 2 || shape.resident > 1))
      return Feasibility::no(
          "kernels with FP32 sums beside the instruction's take one block in up to two groups");
    if (shape.share > 1 && (shape.split > 1 || shape.resident > 1 || shape.tokens % (8 * shape.share) != 0 ||
                            formats.race_checkable))
      return Feasibility::no("tokens are shared in parts of 8 by blocks that split no K and are alone");
    const int stage = shape.depth * layout.slab_k;
    if (shape.promote % 128 != 0 || (shape.promote > stage && shape.promote % stage != 0))
      return Feasibility::no(fmt::format("promotion every {} columns: 128, or a multiple of a stage's {}",
                                         shape.promote, stage));
    const int bytes = shared_bytes(shape, formats, shape.tokens, 1 << 20);
    if (bytes > 227 * 1024) return Feasibility::no(fmt::format("{} bytes of shared memory", bytes));
  } else {
    if (shape.tokens % 8 != 0 || shape.tokens > 64)
      return Feasibility::no("tokens: a multiple of 8 up to 64");
    if (bytes_per_element == 1 && layout.operand != Operand::kInt8 && architecture.number < 89)
      return Feasibility::no("FP8 activations need SM89");
    if (shape.promote != 0 && shape.promote != 128)
      return Feasibility::no("promotion every 128 columns or never");
    if (shape.split > 1 && architecture.number < 90) return Feasibility::no("cluster splits need SM90");
    if (shape.threads() > 1024) return Feasibility::no(fmt::format("{} threads", shape.threads()));
  }
  return Feasibility::yes();
}

Feasibility can_launch(const KernelShape& shape, const KernelFormats& formats, std::int64_t rows,
                       std::int64_t k, std::int64_t slabs, int max_shared_bytes) {
  if (shape.split > 1 && (k < std::int64_t{128} * shape.split ||
                          (shape.family == Family::kWgmma && slabs / shape.depth < shape.split)))
    return Feasibility::no(fmt::format("K {} is too short to be split in {}", k, shape.split));
  if (shape.family == Family::kWgmma && slabs % shape.depth != 0)
    return Feasibility::no(fmt::format("{} slabs along K do not fill stages of {}", slabs, shape.depth));
  const int bytes = shared_bytes(shape, formats, static_cast<int>(std::min<std::int64_t>(rows, shape.tokens)),
                                 static_cast<int>(slabs));
  if (bytes > max_shared_bytes) return Feasibility::no(fmt::format("{} bytes of shared memory", bytes));
  return Feasibility::yes();
}

int shared_bytes(const KernelShape& shape, const KernelFormats& formats, int rows, int slabs) {
  const WeightLayout& layout = formats.weight;
  if (shape.family == Family::kWgmma) {
    const int row_blocks = shape.features() / 64;
    const int slab = static_cast<int>(layout.slab_bytes());
    const int slot = shape.tokens_first ? 64 * layout.slab_k
                     : layout.swizzled  ? (slab + 1023) / 1024 * 1024  // operands are aligned
                                        : slab;
    const int block_scales = shape.tokens_first && formats.scale_after ? (row_blocks + 3) / 4 * 4 : 0;
    const int stage =
        shape.depth * (layout.slab_k * operand_bytes(layout.operand) * shape.tokens + row_blocks * slot) +
        4 * stage_scales(shape, formats) * (shape.tokens + block_scales);
    const bool transposes = shape.split == 1 && formats.output != DType::kF32;
    const int scratch = shape.tokens_first ? 2048 : 512 * std::clamp(shape.tokens / 16, 1, 2);  // of a warp
    const int ring = shape.stages * (stage + 16) + (transposes ? 4 * shape.groups * scratch : 0) +
                     (shape.tokens_first ? 8 * shape.groups * shape.features() : 0);
    const int partial = shape.split > 1 ? shape.tokens * (64 * row_blocks + 4) * 4 : 0;
    return std::max(ring, partial);
  }
  const int unit_slabs = 128 / layout.slab_k;
  const int chunk_units = shape.groups * shape.stages;
  const int units = (slabs + unit_slabs - 1) / unit_slabs;
  const int buffers = (units + shape.split - 1) / shape.split > chunk_units ? 2 : 1;
  const int tokens = std::min(rows, shape.tokens) * (chunk_units * 128 * operand_bytes(layout.operand) + 16);
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
  const Operand activation = activation_operand(formats.activation.element);
  const std::string token_scale = token_scale_type(formats.activation);
  std::string text;
  if (shape.family == Family::kWgmma) {
    const Operand a = shape.tokens_first ? activation : formats.weight.operand;
    const Operand b = shape.tokens_first ? formats.weight.operand : activation;
    const auto function = [&](std::string_view name, bool first) {
      const int columns = shape.tokens_first ? shape.features() : shape.tokens / halves(shape, formats);
      return wgmma_function(name, first, columns, formats.weight.swizzled, a, b);
    };
    text = fmt::format(
        "#include \"gemm_wgmma.cuh\"\n"
        "using namespace sabrewing::device;\n"
        "struct Config {{\n"
        "  static constexpr int kTokens = {}, kBlocks = {}, kGroups = {}, kStages = {}, kDepth = {};\n"
        "  static constexpr int kHalves = {}, kSplit = {}, kShare = {}, kPromote = {};\n"
        "  static constexpr bool kTokensFirst = {}, kEveryLaneArrives = {};\n"
        "  using Decoder = {};\n  using TokenScale = {};\n  using Output = {};\n  using Sum = {};\n{}{}}};\n"
        "static_assert(WgmmaLayout<Config>::kBytes == {});\n"
        "extern \"C\" __global__ void __launch_bounds__(WgmmaLayout<Config>::kThreads, {}) "
        "sabrewing_gemm(\n"
        "    const __grid_constant__ TensorMap x_map, const __grid_constant__ GemmParams params) {{\n"
        "  gemm_wgmma<Config>(x_map, params);\n}}\n",
        shape.tokens, shape.blocks, shape.groups, shape.stages, shape.depth, halves(shape, formats),
        shape.split, shape.share, shape.promote, shape.tokens_first, formats.race_checkable, decoder,
        token_scale, output_type(formats.output), formats.weight.operand == Operand::kInt8 ? "int" : "float",
        function("mma", false), function("mma_first", true), shared_bytes(shape, formats, shape.tokens, 1),
        shape.resident);
  } else {
    text = fmt::format(
        "#include \"gemm_mma.cuh\"\n"
        "using namespace sabrewing::device;\n"
        "struct Config {{\n"
        "  static constexpr int kTokenTiles = {}, kWarpsN = {}, kWarpsK = {}, kAhead = {}, kSplit = {};\n"
        "  static constexpr int kPromote = {};\n"
        "  using Decoder = {};\n  using TokenScale = {};\n  using Mma = {};\n  using Output = {};\n}};\n"
        "extern \"C\" __global__ void __launch_bounds__(MmaLayout<Config>::kThreads, {}) sabrewing_gemm(\n"
        "    const __grid_constant__ GemmParams params) {{\n"
        "  gemm_mma<Config>(params);\n}}\n",
        shape.tokens / 8, shape.blocks, shape.groups, shape.stages, shape.split, shape.promote, decoder,
        token_scale, mma_type(formats.weight.operand, activation), output_type(formats.output),
        shape.resident);
  }
  jit::KernelSource source;
  source.name = fmt::format("gemm {} {} {}", shape.to_string(), decoder, output_type(formats.output));
  if (formats.activation != formats::ActivationFormat::bf16())
    source.name += fmt::format(" by {}", formats::to_string(formats.activation));
  source.source = std::move(text);
  source.headers = device_headers();
  source.architecture = architecture;
  return source;
}

}  // namespace sabrewing::kernels::cuda
