#include "kernels/cuda/gemm/planner.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

namespace sabrewing::kernels::cuda {

namespace {

using Family = KernelShape::Family;

double ceil_ratio(double a, double b) { return std::ceil(a / b); }

// The cost model's constants, fitted to 5288 timed kernels (131 sizes, mxfp4 and int4 by BF16) on one H200:
// the first choice is within 6 % of the best measured (geometric mean), the best of the first eight within 1
// %. Those of 8-bit operands to 192 kernels (24 sizes, int4 and FP8 by FP8 and INT8): within 3 % of the best
// of eight.
namespace model {
/// What depends on the width of the operands: those of gemm_wgmma in cycles of a multiprocessor for 64
/// columns of a tile, those of gemm_mma in issue slots for 16 features by 128 columns.
struct WidthConstants {
  double decode;        ///< gemm_wgmma: of one block of 64 features
  double overlap_loss;  ///< of the shorter of decoding and multiplying
  double slab;
  double unit;     ///< gemm_mma: of the weights
  double tile;     ///< and for 8 tokens
  double unit_us;  ///< latency of a unit, shared by the warps along K
};
constexpr WidthConstants kWide = {82, 0.23, 234, 32, 65, 0.41};
constexpr WidthConstants kFp8 = {60, 0.9, 165, 185, 157, 0.15};
constexpr WidthConstants kInt8 = {60, 0.9, 165, 20, 107, 0.15};
constexpr double kSharedBytes = 128;  // that a multiprocessor reads and writes in a cycle
constexpr double kClockGhz = 1.85;
constexpr double kMemoryTbPerS = 4.2;
constexpr double kTensorTflops = 800;
constexpr double kRunCycles = 120;       // of sums that FP32 takes: for a run
constexpr double kPromoteCycles = 1.15;  // and per two tokens by 64 features
constexpr double kShortRing = 1.10;      // three stages
constexpr double kTwoBlocks = 1.04;      // two blocks of features in a warpgroup
constexpr double kSharedSlowdown = 1.8;  // two blocks on one multiprocessor
constexpr double kWgmmaUs = 2.9;
constexpr double kWgmmaSplitUs = 2.0;
constexpr double kWgmmaReduceUs = 0.76e-4;  // per output of a tile, with a split
constexpr double kWgmmaStoreUs = 0.11e-4;   // without
constexpr double kWgmmaBoundUs = 3.1;       // besides a bound of memory or arithmetic
constexpr double kWgmmaL2TbPerS = 8;
constexpr double kActivationTbPerS = 2.5;
constexpr double kMmaUs = 2.9;
constexpr double kMmaSplitUs = 2.6;
}  // namespace model

/// Clusters of `split` blocks that run at once, one block per multiprocessor. Multiprocessors come in groups
/// whose sizes are not multiples of four.
double clusters_at_once(const DeviceModel& device, int split) {
  const double all = device.multiprocessors;
  return split <= 2 ? all / split : split == 4 ? std::floor(all * 0.86 / 4) : std::floor(all * 0.69 / 8);
}

/// Ring stages that fit beside `resident - 1` other blocks; 0: fewer than 3.
int ring_stages(const DeviceModel& device, KernelShape shape, const KernelFormats& formats, int resident) {
  const int budget =
      std::min(device.max_shared_bytes_per_block, device.shared_bytes_per_multiprocessor / resident - 1024);
  for (shape.stages = 10; shape.stages >= 3; --shape.stages)
    if (shared_bytes(shape, formats, shape.tokens, 1) <= budget) return shape.stages;
  return 0;
}

/// FP8 instructions keep sums of few bits: FP32 takes them every so many columns.
int promoted(const GemmProblem& problem) {
  const Operand operand = problem.formats.weight.operand;
  return operand == Operand::kE4M3 || operand == Operand::kE5M2 ? problem.promote : 0;
}

/// Columns whose sums FP32 takes at once; 0: all.
double run_columns(const KernelShape& shape, const KernelFormats& formats) {
  int columns = 0;
  for (const int limit : {formats.weight.decoder.empty() ? formats.weight.segment : 0,
                          static_cast<int>(formats.activation.group), shape.promote})
    if (limit > 0 && (columns == 0 || limit < columns)) columns = limit;
  return columns;
}

model::WidthConstants width_constants(Operand operand) {
  return operand_bytes(operand) == 2 ? model::kWide : operand == Operand::kInt8 ? model::kInt8 : model::kFp8;
}

std::vector<KernelShape> wgmma_shapes(const DeviceModel& device, const GemmProblem& problem) {
  std::vector<KernelShape> shapes;
  for (const int tokens : {16, 32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256}) {
    if (tokens > 16 && tokens - 16 >= problem.m) continue;
    // Sums of so many tokens go beside FP32 ones by halves, in short runs.
    const int promote = tokens > 192 ? std::min(promoted(problem), 128) : promoted(problem);
    for (const auto& [blocks, groups] : {std::pair{1, 2}, {2, 2}, {1, 1}, {2, 1}, {1, 3}, {1, 4}}) {
      if (blocks * tokens > 256 || (groups != 2 && tokens > 64)) continue;
      for (const int split : {1, 2, 4, 8}) {
        if (problem.k / 128 / split < 2 && split > 1) continue;
        for (const int resident : {1, 2}) {
          if (resident == 2 && (tokens * blocks > 64 || groups > 2)) continue;
          for (const int depth : {1, 2}) {
            if (depth * problem.formats.weight.slab_k * operand_bytes(problem.formats.weight.operand) > 256)
              continue;
            KernelShape shape{Family::kWgmma, tokens, blocks, groups, 0, split, resident, depth, promote};
            shape.stages = ring_stages(device, shape, problem.formats, resident);
            if (shape.stages == 0) continue;
            shapes.push_back(shape);
            shape.share = 2;
            if (tokens >= 64 && split == 1 && resident == 1 && problem.n > shape.features())
              shapes.push_back(shape);
          }
        }
      }
    }
  }
  // Two warpgroups of 64 or 128 tokens each, where every token has scales along K.
  if (problem.formats.weight.swizzled && problem.formats.activation.group > 0 && problem.m > 64)
    for (const auto& [tokens, blocks] : {std::pair{128, 1}, {128, 2}, {128, 3}, {256, 1}, {256, 2}})
      for (const int share : {1, 2}) {
        KernelShape shape{Family::kWgmma, tokens, blocks, 2, 0, 1, 1, 1, promoted(problem), share, true};
        shape.stages = ring_stages(device, shape, problem.formats, 1);
        if (shape.stages > 0 && (share == 1 || problem.n > shape.features())) shapes.push_back(shape);
      }
  return shapes;
}

std::vector<KernelShape> mma_shapes(const DeviceModel& device, const GemmProblem& problem) {
  std::vector<KernelShape> shapes;
  for (const int tokens : {8, 16, 24, 32, 64}) {
    if (tokens > 8 && tokens - 8 >= problem.m && tokens != 16) continue;
    for (const auto& [warps_n, warps_k] :
         {std::pair{1, 8}, {2, 8}, {2, 4}, {4, 2}, {4, 4}, {1, 4}, {8, 1}, {8, 2}})
      for (const int ahead : {2, 4})
        for (const int split : {1, 2, 4, 8}) {
          if (device.architecture.number < 90 && split > 1) continue;
          if (problem.k / 128 / split / warps_k < 1) continue;
          if (tokens > 16 && ahead > 2) continue;
          // What registers allow: 64 are enough for one tile of 8 tokens, 80 for two.
          const int threads = 32 * warps_n * warps_k;
          const int room = (tokens <= 8 ? 1024 : tokens <= 16 ? 768 : 512) / threads;
          const int resident = std::clamp(room, 1, 4);
          shapes.push_back({Family::kMma, tokens, warps_n, warps_k, ahead, split, resident, 1,
                            std::min(promoted(problem), 128)});
        }
  }
  return shapes;
}

constexpr std::int64_t kMaxMmaTokens = 64;   // on Hopper
constexpr std::int64_t kMinWgmmaTokens = 5;  // fewer waste its tile

bool considers_mma(const DeviceModel& device, const GemmProblem& problem) {
  return problem.m <= kMaxMmaTokens || device.architecture.number != 90;
}

bool considers_wgmma(const DeviceModel& device, const GemmProblem& problem) {
  const Operand operand = problem.formats.weight.operand;
  // FP8 by mma.sync takes longer than by WGMMA at few tokens of large matrices; INT8 does not.
  const bool fp8 = operand == Operand::kE4M3 || operand == Operand::kE5M2;
  return device.architecture.number == 90 && (fp8 || problem.m >= kMinWgmmaTokens);
}

}  // namespace

std::span<const std::int64_t> gemm_intervals() {
  static constexpr std::int64_t kIntervals[] = {1,   4,   8,   16,  32,  64,   96,   128,
                                                192, 256, 384, 512, 768, 1024, 2048, 4096};
  return kIntervals;
}

GemmProblem gemm_problem(const GemmDesc& desc, const WeightLayout& layout, std::int64_t m) {
  return {{layout, desc.activation, desc.output, false, false},
          m,
          desc.n,
          desc.k,
          desc.accuracy != Accuracy::kDefault};
}

std::string families_left_out(const DeviceModel& device, const GemmProblem& problem) {
  if (!considers_mma(device, problem)) return fmt::format("mma: above M {}", kMaxMmaTokens);
  if (considers_wgmma(device, problem)) return {};
  if (device.architecture.number != 90) return "wgmma: needs sm_90a";
  return fmt::format("wgmma: below M {}", kMinWgmmaTokens);
}

DeviceModel DeviceModel::of(const jit::DeviceInfo& info) {
  DeviceModel model;
  model.architecture = info.architecture;
  model.multiprocessors = info.multiprocessors;
  model.shared_bytes_per_multiprocessor = info.shared_bytes_per_multiprocessor;
  model.max_shared_bytes_per_block = info.max_shared_bytes_per_block;
  return model;
}

double predict_us(const DeviceModel& device, const GemmProblem& problem, const KernelShape& shape) {
  using namespace model;
  const auto m = static_cast<double>(problem.m);
  const auto n = static_cast<double>(problem.n);
  const auto k = static_cast<double>(problem.k);
  const double weight_bytes =
      n * k / 64 / problem.formats.weight.slab_k * static_cast<double>(problem.formats.weight.slab_bytes());
  const double token_tiles = ceil_ratio(m, shape.tokens);
  const double feature_tiles = ceil_ratio(n, shape.features());
  const double tiles = token_tiles * feature_tiles;
  const double element = operand_bytes(problem.formats.weight.operand) / 2.0;
  const WidthConstants width = width_constants(problem.formats.weight.operand);
  const double memory = (weight_bytes + 2 * m * (n + k * element)) / kMemoryTbPerS * 1e-6;
  if (shape.family == Family::kWgmma) {
    const double at_once = clusters_at_once(device, shape.split);
    const bool shared = shape.resident == 2 && tiles > at_once;
    const double waves = ceil_ratio(tiles, at_once * (shared ? 2 : 1));
    const double strips = shape.tokens_first ? shape.tokens / 64.0 : shape.blocks * shape.groups;
    const double columns = shape.tokens_first ? shape.features() : shape.tokens;
    const int rereads = shape.tokens_first ? 1 : halves(shape, problem.formats);
    const double mma = element * strips * 4 * std::max(columns / 2.0, 16.0);
    const double run = run_columns(shape, problem.formats);
    double work;
    if (problem.formats.weight.swizzled) {
      // Two instructions read their operands, and the next ones are written; sums are added beside them.
      const bool scaled = problem.formats.activation.group > 0 && !shape.tokens_first;
      const double scale_reads = scaled ? shape.tokens / 8.0 * 4 * 64 / run : 0;
      const double reads = strips * (2 * (rereads * 64 + columns) * 32 + scale_reads * kSharedBytes);
      work = std::max(mma, (reads + (shape.tokens + shape.features()) * 64) / kSharedBytes);
    } else {
      const double decode = strips * width.decode;
      const double parts = shape.tokens > 192 ? 2 : 1;  // of the tokens, whose sums are added apart
      const double promote =
          run > 0 ? (kRunCycles * parts + kPromoteCycles * strips * shape.tokens / 2) * 64 / run : 0;
      work = std::max(mma, decode) + width.overlap_loss * std::min(mma, decode) + promote;
    }
    const double step = (work + width.slab * 64 / (shape.depth * problem.formats.weight.slab_k)) *
                        (shape.stages == 3 ? kShortRing : 1) * (shape.blocks == 2 ? kTwoBlocks : 1);
    const double compute =
        ceil_ratio(k / 64, shape.split) * step * (shared ? kSharedSlowdown : 1) / kClockGhz * 1e-3;
    const double outputs = static_cast<double>(shape.tokens) * shape.features();
    const double ends =
        kWgmmaUs + (shape.split > 1 ? kWgmmaSplitUs + kWgmmaReduceUs * outputs : kWgmmaStoreUs * outputs);
    const double l2 = (token_tiles * weight_bytes + feature_tiles / shape.share * m * k * 2 * element) /
                      kWgmmaL2TbPerS * 1e-6;
    const double arithmetic = element * 2 * m * n * k / kTensorTflops * 1e-6;
    return std::max(waves * compute + (shape.split > 1 ? waves : 1) * ends,
                    std::max({memory, l2, arithmetic}) + kWgmmaBoundUs);
  }
  const double per_multiprocessor = ceil_ratio(tiles * shape.split, device.multiprocessors);
  const double units = k / 128 / shape.split;
  const double work = per_multiprocessor * units * shape.blocks *
                      (width.unit + width.tile * shape.tokens / 8) / 4 / kClockGhz * 1e-3;
  const double latency =
      units / shape.groups * width.unit_us * std::max(1.0, per_multiprocessor / shape.resident);
  const double tokens = feature_tiles * token_tiles * std::min<double>(m, shape.tokens) * k * 2 * element /
                        kActivationTbPerS * 1e-6;
  return std::max({work, memory, tokens}) + 0.3 * std::min(work, tokens) + latency + kMmaUs +
         (shape.split > 1 ? kMmaSplitUs : 0);
}

std::vector<Candidate> candidates(const DeviceModel& device, const GemmProblem& problem, std::size_t limit) {
  std::vector<Candidate> list;
  const auto consider = [&](const KernelShape& shape, bool after) {
    KernelFormats formats = problem.formats;
    formats.scale_after = after;
    if (!can_generate(shape, formats, device.architecture)) return;
    const std::int64_t slabs = PackedShape::of(formats.weight, problem.n, problem.k).slabs;
    if (!can_launch(shape, formats, problem.m, problem.k, slabs, device.max_shared_bytes_per_block)) return;
    list.push_back({shape, after, predict_us(device, problem, shape), 0, {}});
  };
  const bool has_after = !problem.formats.weight.decoder_after.empty();
  const bool wgmma_after = has_after && (problem.exact_scales || problem.formats.weight.decoder.empty());
  if (considers_mma(device, problem))
    for (const KernelShape& shape : mma_shapes(device, problem)) consider(shape, has_after);
  if (considers_wgmma(device, problem))
    for (const KernelShape& shape : wgmma_shapes(device, problem)) consider(shape, wgmma_after);
  // Ties keep the order of generation.
  std::vector<std::size_t> order(list.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tie(list[a].predicted_us, a) < std::tie(list[b].predicted_us, b);
  });
  std::vector<Candidate> sorted;
  for (std::size_t i = 0; i < std::min(limit, order.size()); ++i) sorted.push_back(list[order[i]]);
  return sorted;
}

}  // namespace sabrewing::kernels::cuda
