#include "kernels/cuda/gemm/gemm_plan.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <map>
#include <mutex>

#include "kernels/cuda/gemm/device_packer.h"

namespace sabrewing::kernels::cuda {

namespace {

constexpr const char* kLayoutName = "cuda mma fragments";
constexpr std::size_t kExplained = 4;
/// The host packs this many elements in 10 ms; kernels that pack are compiled once for a format.
constexpr std::int64_t kLeastPackedOnDevice = std::int64_t{1} << 20;
constexpr std::int64_t kMaxExtent = std::numeric_limits<std::int32_t>::max();
/// Products of INT8 operands are up to 2^14.
constexpr std::int64_t kMostSummedInInt32 = kMaxExtent >> 14;

}  // namespace

DType activation_dtype(formats::ElementType type) {
  if (type == formats::kBF16) return DType::kBF16;
  if (type == formats::kFP16) return DType::kF16;
  if (type == formats::kE4M3) return DType::kF8E4M3;
  return type == formats::kE5M2 ? DType::kF8E5M2 : DType::kI8;
}

Candidate choose_kernel(const DeviceModel& device, const GemmDesc& desc, const WeightLayout& layout,
                        std::int64_t m, const TuningTable* tuning) {
  const GemmProblem problem = gemm_problem(desc, layout, m);
  std::string note;
  const auto add = [&note](std::string_view text) {
    if (!text.empty()) note += fmt::format("{}{}", note.empty() ? "" : "; ", text);
  };
  const auto slower = [](std::string_view how, const std::vector<std::pair<std::string, double>>& others) {
    std::string text;
    for (const auto& [kernel, us] : others)
      text += fmt::format("{}{} {:.1f}", text.empty() ? fmt::format("slower {}: ", how) : ", ", kernel, us);
    return text;
  };
  if (const TunedChoice* own = tuning == nullptr ? nullptr : tuning->find(desc, m)) {
    std::vector<Candidate> all = candidates(device, problem, kEveryCandidate);
    const TunedChoice* best = nullptr;
    Candidate* chosen = nullptr;
    // A kernel takes no longer for fewer rows: what was faster with more of them is taken.
    for (const std::int64_t timed : gemm_intervals()) {
      const TunedChoice* choice = timed < m ? nullptr : tuning->find(desc, timed);
      if (choice == nullptr || (best != nullptr && choice->us >= best->us)) continue;
      const auto found = std::find_if(all.begin(), all.end(), [&](const Candidate& candidate) {
        return candidate.shape.to_string() == choice->kernel && candidate.scale_after == choice->scale_after;
      });
      if (found == all.end()) continue;
      best = choice;
      chosen = &*found;
    }
    if (chosen != nullptr) {
      chosen->tuned_us = best->us;
      add(slower("when timed", best->slower));
      add(families_left_out(device, problem));
      chosen->note = std::move(note);
      return std::move(*chosen);
    }
    add(fmt::format("the tuned \"{}\" is no candidate any more", own->kernel));
  }
  std::vector<Candidate> list = candidates(device, problem, kExplained);
  SABREWING_CHECK(!list.empty(), kUnsupported, "[gemm] no kernel for {}", device.architecture.to_string());
  std::vector<std::pair<std::string, double>> others;
  for (std::size_t i = 1; i < list.size(); ++i)
    others.emplace_back(list[i].shape.to_string(), list[i].predicted_us);
  add(slower("by the model", others));
  add(families_left_out(device, problem));
  list.front().note = std::move(note);
  return std::move(list.front());
}

CudaGemmPlan::CudaGemmPlan(const GemmDesc& desc, WeightLayout layout, std::vector<Interval> intervals)
    : GemmPlan(desc), layout_(std::move(layout)), intervals_(std::move(intervals)) {}

const CudaGemmPlan::Interval& CudaGemmPlan::interval(std::int64_t m) const {
  for (const Interval& interval : intervals_)
    if (m <= interval.up_to) return interval;
  return intervals_.back();
}

std::string CudaGemmPlan::kernel_name() const {
  bool pre_scaled = false;
  for (const Interval& interval : intervals_)
    pre_scaled |= layout_.pre_scaled && !interval.choice.scale_after;
  return fmt::format("cuda {} x {}{}", formats::to_string(desc().weight),
                     formats::to_string(desc().activation), pre_scaled ? " pre_scaled" : "");
}

std::string CudaGemmPlan::explain() const {
  std::string text = fmt::format("{} N={} K={}\n", kernel_name(), desc().n, desc().k);
  std::int64_t from = 1;
  for (const Interval& interval : intervals_) {
    const bool last = &interval == &intervals_.back();
    const Candidate& choice = interval.choice;
    const KernelShape& shape = choice.shape;
    const std::int64_t tiles = (interval.up_to + shape.tokens - 1) / shape.tokens *
                               ((desc().n + shape.features() - 1) / shape.features());
    const double waves = static_cast<double>(tiles * shape.split) /
                         (interval.kernel->multiprocessors() * static_cast<double>(shape.resident));
    text += fmt::format(
        "  M {}-{}: {}, {} stages, {} tiles{} in {:.2f} waves, {} registers, predicted {:.1f} us{}{}\n", from,
        last ? std::string("inf") : std::to_string(interval.up_to), shape.to_string(), shape.stages, tiles,
        shape.split > 1 ? fmt::format(" x {} along K", shape.split) : "", waves,
        interval.kernel->attributes().registers, choice.predicted_us,
        choice.tuned_us > 0 ? fmt::format(", tuned {:.1f} us", choice.tuned_us) : "",
        choice.note.empty() ? "" : "; " + choice.note);
    from = interval.up_to + 1;
  }
  return text;
}

void CudaGemmPlan::enqueue(const GemmArgs& args, jit::StreamHandle stream, bool overlap) const {
  const GemmDesc& d = desc();
  SABREWING_CHECK(args.b != nullptr, kInvalidArgument, "[gemm] no weight");
  SABREWING_CHECK(args.b->layout == kLayoutName && args.b->version == WeightLayout::kVersion &&
                      args.b->format == d.weight,
                  kInvalidArgument,
                  "[gemm] the weight is {} in layout \"{}\" version {}, the plan takes {} in \"{}\" {}",
                  formats::to_string(args.b->format), args.b->layout, args.b->version,
                  formats::to_string(d.weight), kLayoutName, WeightLayout::kVersion);
  SABREWING_CHECK(args.b->n == d.n && args.b->k == d.k, kInvalidArgument,
                  "[gemm] the weight is {} by {}, the plan is for {} by {}", args.b->n, args.b->k, d.n, d.k);
  const std::int64_t m = args.a.rows;
  SABREWING_CHECK(m >= 0 && args.c.rows == m, kInvalidArgument, "[gemm] a has {} rows, c {}", m, args.c.rows);
  if (m == 0) return;
  SABREWING_CHECK(m <= kMaxExtent, kInvalidArgument, "[gemm] {} rows, at most {}", m, kMaxExtent);
  SABREWING_CHECK(args.a.cols == d.k && args.c.cols == d.n, kInvalidArgument,
                  "[gemm] a has {} columns, c {}; expected {} and {}", args.a.cols, args.c.cols, d.k, d.n);
  const DType activation = activation_dtype(d.activation.element);
  SABREWING_CHECK(args.a.dtype == activation && args.c.dtype == d.output, kInvalidArgument,
                  "[gemm] a is {}, c {}; expected {} and {}", to_string(args.a.dtype),
                  to_string(args.c.dtype), to_string(activation), to_string(d.output));
  SABREWING_CHECK(args.a.data != nullptr && args.c.data != nullptr && args.b->bytes.data != nullptr,
                  kInvalidArgument, "[gemm] null operand");
  SABREWING_CHECK((args.bias != nullptr) == d.bias, kInvalidArgument, "[gemm] the plan is {} bias",
                  d.bias ? "with" : "without");
  GemmOperands operands;
  operands.weight = args.b->bytes.data;
  operands.shape = PackedShape::of(layout_, d.n, d.k);
  operands.has_factors = true;
  operands.bias = args.bias;
  operands.x = args.a.data;
  operands.x_stride = args.a.row_stride;
  operands.x_scale = args.a_scales;
  operands.x_scale_stride = m;
  operands.y = args.c.data;
  operands.y_stride = args.c.row_stride;
  operands.m = m;
  const GemmKernel& kernel = *interval(m).kernel;
  if (const Feasibility feasible = kernel.can_run(operands); !feasible)
    fail(ErrorCode::kInvalidArgument, "[gemm] {}: {}", kernel.shape().to_string(), feasible.reason);
  kernel.enqueue(operands, stream, overlap);
}

struct GemmPlanner::Impl {
  jit::DevicePtr device;
  std::shared_ptr<jit::Compiler> compiler;
  DeviceModel model;
  std::shared_ptr<const TuningTable> tuning;
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<const GemmKernel>> kernels;
  std::vector<std::shared_ptr<const DevicePacker>> packers;

  std::shared_ptr<const DevicePacker> packer(const formats::WeightFormat& format,
                                             const WeightLayout& layout) {
    const std::lock_guard lock(mutex);
    for (const auto& known : packers)
      if (known->format() == format && known->layout() == layout) return known;
    return packers.emplace_back(std::make_shared<const DevicePacker>(device, *compiler, format, layout));
  }
};

GemmPlanner::GemmPlanner(jit::DevicePtr device, std::shared_ptr<jit::Compiler> compiler,
                         std::shared_ptr<const TuningTable> tuning)
    : impl_(std::make_unique<Impl>()) {
  impl_->tuning = std::move(tuning);
  impl_->model = DeviceModel::of(device->info());
  impl_->device = std::move(device);
  impl_->compiler = std::move(compiler);
}
GemmPlanner::~GemmPlanner() = default;

Feasibility GemmPlanner::can_implement(const GemmDesc& desc) const {
  if (desc.n <= 0 || desc.k <= 0 || desc.n > kMaxExtent || desc.k > kMaxExtent ||
      desc.n > kMaxExtent * 16 / desc.k)
    return Feasibility::no(
        fmt::format("N {} and K {}: at least 1, and too large beyond 2^35 elements", desc.n, desc.k));
  if (desc.output != DType::kBF16 && desc.output != DType::kF16 && desc.output != DType::kF32)
    return Feasibility::no(fmt::format("output {}: BF16, F16 or F32", to_string(desc.output)));
  if (const Feasibility feasible = can_lay_out(desc.weight, desc.activation); !feasible) return feasible;
  const WeightLayout layout = weight_layout(desc.weight, desc.activation, desc.accuracy);
  const int vector = 16 / operand_bytes(layout.operand);
  if (desc.k % vector != 0)
    return Feasibility::no(fmt::format("K {}: a multiple of {} is needed", desc.k, vector));
  if (layout.group > 0 && desc.weight.block.n == 1 && desc.k % layout.group != 0)
    return Feasibility::no(fmt::format("K {} is not a multiple of the group {}", desc.k, layout.group));
  if (layout.operand == Operand::kInt8 && !layout.decoder.empty() && desc.k > kMostSummedInInt32 &&
      desc.activation.granularity != formats::ActivationFormat::Granularity::kGroup)
    return Feasibility::no(
        fmt::format("K {}: INT32 sums of INT8 products without group scales take at most {} columns", desc.k,
                    kMostSummedInInt32));
  if (candidates(impl_->model, gemm_problem(desc, layout, 1), 1).empty())
    return Feasibility::no(fmt::format("no kernel for {}", impl_->model.architecture.to_string()));
  return Feasibility::yes();
}

std::shared_ptr<const CudaGemmPlan> GemmPlanner::plan(const GemmDesc& desc) {
  if (const Feasibility feasible = can_implement(desc); !feasible)
    fail(ErrorCode::kUnsupported, "[gemm] {}", feasible.reason);
  const WeightLayout layout = weight_layout(desc.weight, desc.activation, desc.accuracy);
  std::vector<CudaGemmPlan::Interval> intervals;
  std::vector<jit::KernelSource> sources;
  std::vector<KernelFormats> kernel_formats;
  for (const std::int64_t m : gemm_intervals()) {
    Candidate choice = choose_kernel(impl_->model, desc, layout, m, impl_->tuning.get());
    if (!intervals.empty() && intervals.back().choice.shape == choice.shape &&
        intervals.back().choice.scale_after == choice.scale_after) {
      intervals.back().up_to = m;
      intervals.back().choice = choice;
      continue;
    }
    const KernelFormats formats{layout, desc.activation, desc.output, choice.scale_after, false};
    sources.push_back(kernel_source(choice.shape, formats, impl_->model.architecture));
    kernel_formats.push_back(formats);
    intervals.push_back({m, std::move(choice), nullptr});
  }
  const std::lock_guard lock(impl_->mutex);
  for (const jit::CompileOutcome& outcome : impl_->compiler->compile_all(sources))
    if (outcome.kernels == nullptr) fail(outcome.code, "{}", outcome.error);
  for (std::size_t i = 0; i < intervals.size(); ++i) {
    std::shared_ptr<const GemmKernel>& kernel = impl_->kernels[sources[i].name];
    if (!kernel)
      kernel = std::make_shared<const GemmKernel>(impl_->device, *impl_->compiler, intervals[i].choice.shape,
                                                  kernel_formats[i]);
    intervals[i].kernel = kernel;
  }
  return std::make_shared<const CudaGemmPlan>(desc, layout, std::move(intervals));
}

PackedWeight GemmPlanner::pack(const CudaGemmPlan& plan, const WeightSource& source,
                               kernels::DeviceBuffer to) {
  const GemmDesc& desc = plan.desc();
  SABREWING_CHECK(source.format == desc.weight && source.n() == desc.n && source.k == desc.k,
                  kInvalidArgument, "[pack] the source is {} {} by {}, the plan is for {} {} by {}",
                  formats::to_string(source.format), source.n(), source.k, formats::to_string(desc.weight),
                  desc.n, desc.k);
  const std::size_t bytes = PackedShape::of(plan.layout(), desc.n, desc.k).bytes;
  if (to.data == nullptr) {
    const auto buffer = std::make_shared<jit::DeviceBuffer>(impl_->device, bytes);
    to = {buffer, buffer->data(), buffer->size()};
  }
  SABREWING_CHECK(to.bytes >= bytes && reinterpret_cast<std::uintptr_t>(to.data) % 256 == 0, kInvalidArgument,
                  "[pack] the buffer has {} bytes at {}: {} at a multiple of 256 expected", to.bytes, to.data,
                  bytes);
  if (desc.n * desc.k >= kLeastPackedOnDevice && can_pack_on_device(source, plan.layout())) {
    impl_->packer(desc.weight, plan.layout())->pack(source, to.data, nullptr);
  } else {
    const PackedHostWeight packed = pack_weight(source, plan.layout());
    jit::copy_to_device(to.data, packed.bytes, nullptr);
    jit::synchronize(nullptr);
  }
  return wrap(plan, std::move(to));
}

PackedWeight GemmPlanner::wrap(const CudaGemmPlan& plan, kernels::DeviceBuffer packed) {
  const GemmDesc& desc = plan.desc();
  const PackedShape shape = PackedShape::of(plan.layout(), desc.n, desc.k);
  SABREWING_CHECK(packed.data != nullptr && packed.bytes >= shape.bytes, kInvalidArgument,
                  "[pack] {} packed bytes, {} expected", packed.bytes, shape.bytes);
  PackedWeight weight;
  weight.layout = kLayoutName;
  weight.version = WeightLayout::kVersion;
  weight.format = desc.weight;
  weight.n = desc.n;
  weight.k = desc.k;
  weight.padded_n = shape.row_blocks * 64;
  weight.padded_k = shape.slabs * plan.layout().slab_k;
  weight.expert_stride_bytes = shape.bytes;
  weight.bytes = std::move(packed);
  return weight;
}

}  // namespace sabrewing::kernels::cuda
