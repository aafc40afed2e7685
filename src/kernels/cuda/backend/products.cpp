#include "kernels/cuda/backend/products.h"

#include <algorithm>

#include "core/buffer.h"
#include "kernels/cuda/backend/ops.h"
#include "kernels/cuda/backend/plain_weight.h"
#include "kernels/cuda/device/ops/params.h"
#include "kernels/cuda/gemm/launch_size.h"

namespace sabrewing::kernels::cuda {

namespace {

constexpr unsigned kLinearThreads = device::kLinearWarps * device::kWarp;
constexpr std::int64_t kBlockFeatures = device::kLinearWarps * device::kLinearFeatures;

class Plan final : public GemmPlan {
 public:
  Plan(const GemmDesc& desc, std::shared_ptr<const LinearKernels> own)
      : GemmPlan(desc), kernels(std::move(own)), layout(RowLayout::of(desc.weight, desc.n, desc.k)) {}
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  std::string kernel_name() const override { return kernels->name; }
  std::string explain() const override {
    return fmt::format("{}: FP32 sums of {} rows by {} features in a warp, weights as stored", kernels->name,
                       device::kLinearTokens, device::kLinearFeatures);
  }

  std::shared_ptr<const LinearKernels> kernels;
  RowLayout layout;
};

/// Hands out consecutive pieces of a workspace; without one it only counts.
class Cursor {
 public:
  explicit Cursor(void* base) : base_(static_cast<std::byte*>(base)) {}
  template <typename T>
  T* take(std::int64_t count) {
    auto* at = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + used_);
    used_ += (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return at;
  }
  std::size_t used() const { return used_; }

 private:
  std::byte* base_;
  std::size_t used_ = 0;
};

class MoePlan final : public ExpertsPlan {
 public:
  MoePlan(const ExpertsDesc& desc, std::shared_ptr<const LinearKernels> own, std::size_t activation_bytes)
      : ExpertsPlan(desc),
        kernels(std::move(own)),
        layout13(RowLayout::of(desc.weight, 2 * desc.intermediate, desc.hidden)),
        layout2(RowLayout::of(desc.weight, desc.hidden, desc.intermediate)),
        activation_bytes_(static_cast<std::int64_t>(activation_bytes)) {}
  std::size_t workspace_bytes(std::int64_t max_m) const override { return workspace(max_m, nullptr).bytes; }
  std::string kernel_name() const override { return kernels->name + ", gate and up fused"; }

  /// A pair is (token, slot); rows of `hidden` and `partial` are pairs.
  struct Workspace {
    std::int64_t pairs = 0;
    std::int64_t max_segments = 0;
    int* order = nullptr;
    device::Segment* segments = nullptr;
    int* segment_count = nullptr;
    void* hidden = nullptr;    // (pairs, I), activations
    float* partial = nullptr;  // (pairs, hidden size)
    std::size_t bytes = 0;
  };
  Workspace workspace(std::int64_t m, void* base) const {
    Workspace space;
    Cursor cursor(base);
    space.pairs = m * desc().top_k;
    space.max_segments = space.pairs / device::kLinearTokens + std::min(space.pairs, desc().experts);
    space.order = cursor.take<int>(space.pairs);
    space.segments = cursor.take<device::Segment>(space.max_segments);
    space.segment_count = cursor.take<int>(1);
    space.hidden = cursor.take<std::byte>(space.pairs * desc().intermediate * activation_bytes_);
    space.partial = cursor.take<float>(space.pairs * desc().hidden);
    space.bytes = cursor.used();
    return space;
  }

  std::shared_ptr<const LinearKernels> kernels;
  RowLayout layout13;
  RowLayout layout2;

 private:
  std::int64_t activation_bytes_;
};

template <typename Own, typename Base>
const Own& own_plan(const Base& plan) {
  const auto* own = dynamic_cast<const Own*>(&plan);
  SABREWING_CHECK(own != nullptr, kInvalidArgument, "[cuda] the plan {} belongs to another backend",
                  plan.kernel_name());
  return *own;
}

void check_packed(const char* operation, const PackedWeight& weight, const formats::WeightFormat& format,
                  std::int64_t n, std::int64_t k, std::int64_t experts, const RowLayout& layout) {
  SABREWING_CHECK(weight.layout == kRowLayout && weight.version == kRowLayoutVersion &&
                      weight.format == format && weight.n == n && weight.k == k &&
                      weight.experts == experts && weight.expert_stride_bytes == layout.bytes &&
                      weight.bytes.bytes >= layout.bytes * static_cast<std::size_t>(experts),
                  kInvalidArgument,
                  "[{}] the packed weight ({} {} version {}, {} by {}) is not the plan's ({} {} by {})",
                  operation, weight.layout, formats::to_string(weight.format), weight.version, weight.n,
                  weight.k, formats::to_string(format), n, k);
}

PackedWeight describe(const formats::WeightFormat& format, std::int64_t n, std::int64_t k,
                      std::int64_t experts, const RowLayout& layout) {
  PackedWeight packed;
  packed.layout = kRowLayout;
  packed.version = kRowLayoutVersion;
  packed.format = format;
  packed.n = packed.padded_n = n;
  packed.k = packed.padded_k = k;
  packed.experts = experts;
  packed.expert_stride_bytes = layout.bytes;
  return packed;
}

void check_source(const WeightSource& source, const formats::WeightFormat& format, std::int64_t n,
                  std::int64_t k) {
  SABREWING_CHECK(source.format == format && source.k == k && source.n() == n, kInvalidArgument,
                  "[cuda pack] the source is {} {} by {}: {} {} by {} expected",
                  formats::to_string(source.format), source.n(), source.k, formats::to_string(format), n, k);
}

/// Rows are read in pieces of 16 bytes.
void check_rows_aligned(const char* operation, const Matrix& x) {
  const std::size_t stride = static_cast<std::size_t>(x.row_stride) * size_of(x.dtype);
  SABREWING_CHECK(reinterpret_cast<std::uintptr_t>(x.data) % 16 == 0 && (stride % 16 == 0 || x.rows < 2),
                  kInvalidArgument, "[{}] the rows of the activations are not aligned to 16 bytes",
                  operation);
}

device::LinearParams linear_params(const PackedWeight& weight, const RowLayout& layout) {
  device::LinearParams params{};
  params.weight = static_cast<const unsigned char*>(weight.bytes.data);
  params.scales = params.weight + layout.scale_offset;
  params.row_bytes = static_cast<long long>(layout.row_bytes);
  params.scale_row_bytes = static_cast<long long>(layout.scale_row_bytes);
  params.expert_bytes = static_cast<long long>(layout.bytes);
  params.n = static_cast<int>(weight.n);
  params.k = static_cast<int>(weight.k);
  params.x_divisor = 1;
  return params;
}

}  // namespace

Products::Products(Context& context, const KernelUnit& ops)
    : context_(context),
      group_(ops.kernel("group_by_expert")),
      combine_(ops.kernel(fmt::format("combine<{}>", device_type(context.activation)))) {
  if (context.activation != DType::kBF16) return;
  // The context outlives this.
  const std::shared_ptr<jit::Compiler> compiler(std::shared_ptr<void>(), &context.compiler);
  planner_ = std::make_unique<GemmPlanner>(context.device, compiler,
                                           load_tuning(context.device, default_tuning_file()));
}

Feasibility Products::check_weight(const formats::WeightFormat& weight, Accuracy accuracy, std::int64_t n,
                                   std::int64_t k) const {
  if (n < 1 || k < 1) return Feasibility::no(fmt::format("a {} by {} weight is not a valid shape", n, k));
  if (accuracy == Accuracy::kExact && context_.activation != DType::kF32)
    return Feasibility::no("exact accuracy needs a CUDA backend made for it, which has FP32 activations");
  if (k % device::kLinearVector != 0 || n > kMaxGridY * kBlockFeatures / 2 || k > INT32_MAX)
    return Feasibility::no(
        fmt::format("the CUDA backend takes up to {} features and K a multiple of {}; this is {} by {}",
                    kMaxGridY * kBlockFeatures / 2, device::kLinearVector, n, k));
  return row_weight(weight).feasible;
}

Feasibility Products::can_implement(const GemmDesc& desc) const {
  const formats::ActivationFormat activation =
      formats::ActivationFormat::plain(context_.activation == DType::kF32 ? formats::kFP32 : formats::kBF16);
  if (!(desc.activation == activation))
    return Feasibility::no(fmt::format("this CUDA backend has {} activations, not {}",
                                       formats::to_string(activation), formats::to_string(desc.activation)));
  if (desc.output != context_.activation && desc.output != DType::kF32)
    return Feasibility::no(fmt::format("the CUDA backend writes {} and F32, not {}",
                                       to_string(context_.activation), to_string(desc.output)));
  const Feasibility rows = check_weight(desc.weight, desc.accuracy, desc.n, desc.k);
  if (rows || row_weight(desc.weight).feasible || planner_ == nullptr || desc.accuracy == Accuracy::kExact)
    return rows;
  const Feasibility packed = planner_->can_implement(desc);
  return packed ? packed : Feasibility::no(fmt::format("{}; {}", rows.reason, packed.reason));
}

std::shared_ptr<const LinearKernels> Products::kernels(const formats::WeightFormat& weight) {
  std::shared_ptr<const LinearKernels>& known = kernels_[formats::to_string(weight)];
  if (known) return known;
  const DType act = context_.activation;
  const KernelUnit unit(context_, linear_source(weight, act, context_.device->info().architecture));
  const std::string_view decoder = row_weight(weight).decoder;
  auto made = std::make_shared<LinearKernels>();
  made->name = fmt::format("rows {} x {}", formats::to_string(weight), act == DType::kF32 ? "fp32" : "bf16");
  made->to_activation = unit.kernel(linear_expression(decoder, act, act, false));
  made->to_float = unit.kernel(linear_expression(decoder, act, DType::kF32, false));
  made->gated = unit.kernel(linear_expression(decoder, act, act, true));
  made->embed = unit.kernel(fmt::format("embed<{}>", decoder));
  return known = std::move(made);
}

DeviceBuffer Products::upload(std::span<const std::byte> bytes) const {
  DeviceBuffer buffer = context_.allocate(bytes.size());
  jit::copy_to_device(buffer.data, bytes, context_.stream);
  return buffer;
}

GemmPlanPtr Products::plan(const GemmDesc& desc) {
  const Feasibility feasible = can_implement(desc);
  SABREWING_CHECK(feasible.ok, kUnsupported, "[cuda gemm] {}", feasible.reason);
  if (!row_weight(desc.weight).feasible) return planner_->plan(desc);
  return std::make_shared<const Plan>(desc, kernels(desc.weight));
}

PackedWeight Products::pack(const GemmPlan& plan, const WeightSource& source) const {
  if (const auto* packed = dynamic_cast<const CudaGemmPlan*>(&plan)) return planner_->pack(*packed, source);
  const auto& own = own_plan<Plan>(plan);
  const GemmDesc& desc = own.desc();
  check_source(source, desc.weight, desc.n, desc.k);
  HostBuffer staging(own.layout.bytes);
  pack_rows(source, own.layout, staging.data());
  PackedWeight packed = describe(desc.weight, desc.n, desc.k, 1, own.layout);
  packed.bytes = upload(staging.span());
  return packed;
}

void Products::gemm(const GemmPlan& plan, const GemmArgs& args) const {
  if (const auto* packed = dynamic_cast<const CudaGemmPlan*>(&plan)) {
    packed->enqueue(args, context_.stream, false);
    return;
  }
  const auto& own = own_plan<Plan>(plan);
  const GemmDesc& desc = own.desc();
  check_matrix("cuda gemm", "a", args.a, context_.activation, args.a.rows, desc.k);
  check_matrix("cuda gemm", "c", args.c, desc.output, args.a.rows, desc.n);
  check_rows_aligned("cuda gemm", args.a);
  SABREWING_CHECK(args.b != nullptr, kInvalidArgument, "[cuda gemm] no weight");
  check_packed("cuda gemm", *args.b, desc.weight, desc.n, desc.k, 1, own.layout);
  SABREWING_CHECK((args.bias != nullptr) == desc.bias, kInvalidArgument, "[cuda gemm] the plan has {} bias",
                  desc.bias ? "a" : "no");
  device::LinearParams params = linear_params(*args.b, own.layout);
  params.bias = args.bias;
  params.x = args.a.data;
  params.x_stride = args.a.row_stride;
  params.y = args.c.data;
  params.y_stride = args.c.row_stride;
  params.m = static_cast<int>(args.a.rows);
  jit::launch(desc.output == context_.activation ? own.kernels->to_activation : own.kernels->to_float,
              context_.config(ceil_div(args.a.rows, device::kLinearTokens), ceil_div(desc.n, kBlockFeatures),
                              kLinearThreads),
              params);
}

void Products::embed(const GemmPlan& plan, const PackedWeight& table, const std::int32_t* ids,
                     Matrix out) const {
  SABREWING_CHECK(row_weight(plan.desc().weight).feasible, kUnsupported, "[cuda embed] {}",
                  row_weight(plan.desc().weight).feasible.reason);
  const auto& own = own_plan<Plan>(plan);
  const GemmDesc& desc = own.desc();
  check_packed("cuda embed", table, desc.weight, desc.n, desc.k, 1, own.layout);
  check_matrix("cuda embed", "out", out, DType::kF32, out.rows, desc.k);
  const std::int64_t pieces = desc.k / device::kLinearVector;
  jit::launch(own.kernels->embed,
              context_.config(out.rows, 1, static_cast<unsigned>(std::clamp<std::int64_t>(pieces, 32, 512))),
              linear_params(table, own.layout), ids, out.data, out.row_stride);
}

Feasibility Products::can_implement(const ExpertsDesc& desc) const {
  if (desc.experts < 1 || desc.hidden < 1 || desc.intermediate < 1 || desc.top_k < 1 ||
      desc.top_k > desc.experts)
    return Feasibility::no(fmt::format("{} experts, top {}, hidden {}, intermediate {} is not a valid shape",
                                       desc.experts, desc.top_k, desc.hidden, desc.intermediate));
  if (desc.experts > device::kRouteMaxExperts)
    return Feasibility::no(fmt::format("the CUDA backend takes up to {} experts, this has {}",
                                       device::kRouteMaxExperts, desc.experts));
  const Feasibility up = check_weight(desc.weight, desc.accuracy, 2 * desc.intermediate, desc.hidden);
  return up ? check_weight(desc.weight, desc.accuracy, desc.hidden, desc.intermediate) : up;
}

ExpertsPlanPtr Products::plan(const ExpertsDesc& desc) {
  const Feasibility feasible = can_implement(desc);
  SABREWING_CHECK(feasible.ok, kUnsupported, "[cuda experts] {}", feasible.reason);
  return std::make_shared<const MoePlan>(desc, kernels(desc.weight), size_of(context_.activation));
}

PackedExperts Products::pack(const ExpertsPlan& plan, std::span<const ExpertSource> sources,
                             std::span<const float> bias13, std::span<const float> bias2) const {
  const auto& own = own_plan<MoePlan>(plan);
  const ExpertsDesc& desc = own.desc();
  SABREWING_CHECK(static_cast<std::int64_t>(sources.size()) == desc.experts, kInvalidArgument,
                  "[cuda experts] {} experts given, {} expected", sources.size(), desc.experts);
  const auto experts = static_cast<std::size_t>(desc.experts);
  const std::size_t values13 = desc.bias ? experts * static_cast<std::size_t>(2 * desc.intermediate) : 0;
  const std::size_t values2 = desc.bias ? experts * static_cast<std::size_t>(desc.hidden) : 0;
  SABREWING_CHECK(bias13.size() == values13 && bias2.size() == values2, kInvalidArgument,
                  "[cuda experts] biases of {} and {} values: {} and {} expected", bias13.size(),
                  bias2.size(), values13, values2);
  PackedExperts packed;
  packed.w13 = describe(desc.weight, 2 * desc.intermediate, desc.hidden, desc.experts, own.layout13);
  packed.w2 = describe(desc.weight, desc.hidden, desc.intermediate, desc.experts, own.layout2);
  packed.w13.bytes = context_.allocate(own.layout13.bytes * experts);
  packed.w2.bytes = context_.allocate(own.layout2.bytes * experts);
  HostBuffer staging(std::max(own.layout13.bytes, own.layout2.bytes));
  const auto put = [&](const PackedWeight& weight, const RowLayout& layout, std::size_t expert,
                       const WeightSource& source) {
    check_source(source, desc.weight, weight.n, weight.k);
    pack_rows(source, layout, staging.data());
    jit::copy_to_device(static_cast<std::byte*>(weight.bytes.data) + expert * layout.bytes,
                        staging.span().first(layout.bytes), context_.stream);
  };
  for (std::size_t e = 0; e < experts; ++e) {
    put(packed.w13, own.layout13, e, {desc.weight, desc.hidden, {sources[e].gate, sources[e].up}});
    put(packed.w2, own.layout2, e, {desc.weight, desc.intermediate, {sources[e].down}});
  }
  if (desc.bias) {
    packed.bias13 = upload(std::as_bytes(bias13));
    packed.bias2 = upload(std::as_bytes(bias2));
  }
  return packed;
}

void Products::experts(const ExpertsPlan& plan, const ExpertsArgs& args) const {
  const auto& own = own_plan<MoePlan>(plan);
  const ExpertsDesc& desc = own.desc();
  const std::int64_t m = args.x.rows;
  check_matrix("cuda experts", "x", args.x, context_.activation, m, desc.hidden);
  check_matrix("cuda experts", "y", args.y, context_.activation, m, desc.hidden);
  check_rows_aligned("cuda experts", args.x);
  SABREWING_CHECK(args.weights != nullptr, kInvalidArgument, "[cuda experts] no weights");
  const PackedExperts& weights = *args.weights;
  check_packed("cuda experts", weights.w13, desc.weight, 2 * desc.intermediate, desc.hidden, desc.experts,
               own.layout13);
  check_packed("cuda experts", weights.w2, desc.weight, desc.hidden, desc.intermediate, desc.experts,
               own.layout2);
  SABREWING_CHECK(
      (weights.bias13.data != nullptr) == desc.bias && (weights.bias2.data != nullptr) == desc.bias,
      kInvalidArgument, "[cuda experts] the plan has {} biases", desc.bias ? "its" : "no");
  if (m == 0) return;
  SABREWING_CHECK(args.expert_ids != nullptr && args.expert_weights != nullptr && args.workspace != nullptr,
                  kInvalidArgument, "[cuda experts] no expert ids, weights or workspace");
  SABREWING_CHECK(m * desc.top_k <= INT32_MAX, kUnsupported, "[cuda experts] {} tokens of {} experts each", m,
                  desc.top_k);

  const MoePlan::Workspace space = own.workspace(m, args.workspace);
  jit::LaunchConfig group = context_.config(1, 1, device::kGroupThreads);
  group.dynamic_shared_bytes =
      static_cast<unsigned>(3 * desc.experts * static_cast<std::int64_t>(sizeof(int)));
  jit::launch(group_, group, args.expert_ids, static_cast<int>(space.pairs), static_cast<int>(desc.experts),
              space.order, space.segments, space.segment_count);

  device::LinearParams up = linear_params(weights.w13, own.layout13);
  up.bias = static_cast<const float*>(weights.bias13.data);
  up.x = args.x.data;
  up.x_stride = args.x.row_stride;
  up.y = space.hidden;
  up.y_stride = desc.intermediate;
  up.order = space.order;
  up.segments = space.segments;
  up.segment_count = space.segment_count;
  up.x_divisor = desc.top_k;
  up.clamped = desc.activation == GluActivation::kClampedSwiGlu ? 1 : 0;
  up.limit = desc.limit;
  jit::launch(
      own.kernels->gated,
      context_.config(space.max_segments, ceil_div(desc.intermediate, kBlockFeatures / 2), kLinearThreads),
      up);

  device::LinearParams down = linear_params(weights.w2, own.layout2);
  down.bias = static_cast<const float*>(weights.bias2.data);
  down.x = space.hidden;
  down.x_stride = desc.intermediate;
  down.y = space.partial;
  down.y_stride = desc.hidden;
  down.order = space.order;
  down.segments = space.segments;
  down.segment_count = space.segment_count;
  jit::launch(own.kernels->to_float,
              context_.config(space.max_segments, ceil_div(desc.hidden, kBlockFeatures), kLinearThreads),
              down);

  constexpr unsigned kCombineThreads = 256;
  jit::launch(combine_, context_.config(m, ceil_div(desc.hidden, kCombineThreads), kCombineThreads),
              space.partial, args.expert_ids, args.expert_weights, desc.top_k, static_cast<int>(desc.hidden),
              args.y.data, args.y.row_stride);
}

}  // namespace sabrewing::kernels::cuda
