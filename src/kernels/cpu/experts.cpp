#include "kernels/cpu/experts.h"

#include <algorithm>
#include <limits>
#include <memory>

#include "core/error.h"

namespace sabrewing::kernels::cpu {
namespace {

constexpr std::int64_t kSegmentRows = 192;
constexpr std::int64_t kStageRows = 8;
constexpr std::int64_t kTaskColumns = kMaxPanels * kPanelRows;
constexpr std::int64_t kGluColumns = 2 * kPanelRows;  // of the intermediate, in one task
constexpr std::int64_t kGluRows = 8;                  // activated at once

/// Consecutive rows of one expert in the sorted order.
struct Segment {
  std::int64_t expert = 0;
  std::int64_t first = 0;
  std::int64_t rows = 0;
};

class Plan final : public ExpertsPlan {
 public:
  Plan(const ExpertsDesc& desc, const formats::ActivationFormat& activation, const PanelKernels& kernels,
       const OpsKernels& ops_loops, int threads)
      : ExpertsPlan(desc),
        up(desc.weight, activation, desc.hidden, kernels, ops_loops),
        down(desc.weight, activation, desc.intermediate, kernels, ops_loops),
        ops(ops_loops),
        threads_(threads) {}

  std::size_t workspace_bytes(std::int64_t max_m) const override {
    return Workspace(*this, max_m, nullptr).bytes;
  }
  std::string kernel_name() const override { return up.describe() + ", gate and up fused"; }

  struct Workspace {
    Workspace(const Plan& plan, std::int64_t m, void* base) {
      if (m <= 0) return;
      WorkspaceCursor cursor(base);
      const ExpertsDesc& desc = plan.desc();
      const std::int64_t slots = m * desc.top_k;
      const auto slot_count = static_cast<std::size_t>(slots);
      const auto hidden = static_cast<std::size_t>(desc.hidden);
      const auto threads = static_cast<std::size_t>(plan.threads_);
      row_floats = (hidden + 15) / 16 * 16;
      out_floats = static_cast<std::size_t>(std::min(slots, kSegmentRows) * kTaskColumns);
      segments = cursor.take<Segment>(
          static_cast<std::size_t>(std::min(slots, desc.experts + slots / kSegmentRows)));
      offsets = cursor.take<std::int64_t>(static_cast<std::size_t>(desc.experts) + 1);
      positions = cursor.take<std::int64_t>(slot_count);
      x_rows = cursor.take<const std::byte*>(slot_count);
      h_rows = cursor.take<const std::byte*>(slot_count);
      x = cursor.take<std::byte>(static_cast<std::size_t>(m) * plan.up.row_bytes());
      h = cursor.take<std::byte>(slot_count * plan.down.row_bytes());
      partial = cursor.take<float>(slot_count * hidden);
      row_scratch = cursor.take<float>(threads * row_floats);
      out = cursor.take<float>(threads * out_floats);
      scratch = cursor.take<std::byte>(threads * kPanelScratchBytes);
      bytes = cursor.used();
    }
    std::size_t row_floats = 0;
    std::size_t out_floats = 0;
    Segment* segments = nullptr;
    std::int64_t* offsets = nullptr;
    std::int64_t* positions = nullptr;   // (M, top_k): place in the sorted order, -1 where not here
    const std::byte** x_rows = nullptr;  // sorted
    const std::byte** h_rows = nullptr;  // sorted
    std::byte* x = nullptr;
    std::byte* h = nullptr;
    float* partial = nullptr;  // (sorted, hidden)
    float* row_scratch = nullptr;
    float* out = nullptr;
    std::byte* scratch = nullptr;
    std::size_t bytes = 0;
  };

  Operand up;
  Operand down;
  const OpsKernels& ops;

 private:
  int threads_;
};

const Plan& own_plan(const ExpertsPlan& plan) {
  const auto* own = dynamic_cast<const Plan*>(&plan);
  SABREWING_CHECK(own != nullptr, kInvalidArgument, "[cpu experts] the plan {} belongs to another backend",
                  plan.kernel_name());
  return *own;
}

void check_weights(const Plan& plan, const PackedExperts& weights) {
  const ExpertsDesc& desc = plan.desc();
  const auto fits = [&](const PackedWeight& weight, std::int64_t n, std::int64_t k) {
    return weight.format == desc.weight && weight.n == n && weight.k == k && weight.experts == desc.experts &&
           weight.bytes.bytes >= weight.expert_stride_bytes * static_cast<std::size_t>(weight.experts);
  };
  SABREWING_CHECK(fits(weights.w13, 2 * desc.intermediate, desc.hidden) &&
                      fits(weights.w2, desc.hidden, desc.intermediate),
                  kInvalidArgument, "[cpu experts] packed experts do not have the shape of the plan");
  const auto experts = static_cast<std::size_t>(desc.experts);
  const std::size_t bytes13 =
      desc.bias ? experts * static_cast<std::size_t>(2 * desc.intermediate) * sizeof(float) : 0;
  const std::size_t bytes2 = desc.bias ? experts * static_cast<std::size_t>(desc.hidden) * sizeof(float) : 0;
  SABREWING_CHECK(weights.bias13.bytes == bytes13 && weights.bias2.bytes == bytes2, kInvalidArgument,
                  "[cpu experts] biases of {} and {} bytes: {} and {} expected", weights.bias13.bytes,
                  weights.bias2.bytes, bytes13, bytes2);
}

/// Sorts the slots by expert. Returns the number of segments.
std::int64_t sort_slots(const ExpertsDesc& desc, const ExpertsArgs& args, const Plan::Workspace& space,
                        std::size_t x_row_bytes, std::size_t h_row_bytes, const Operand& up) {
  const std::int64_t slots = args.x.rows * desc.top_k;
  std::fill_n(space.offsets, desc.experts + 1, 0);
  for (std::int64_t slot = 0; slot < slots; ++slot) {
    const std::int32_t id = args.expert_ids[slot];
    SABREWING_CHECK(id >= -1 && id < desc.experts, kInvalidArgument,
                    "[cpu experts] expert id {} is outside -1 to {}", id, desc.experts - 1);
    if (id >= 0) ++space.offsets[id + 1];
  }
  std::int64_t segments = 0;
  for (std::int64_t expert = 0; expert < desc.experts; ++expert) {
    const std::int64_t count = space.offsets[expert + 1];
    for (std::int64_t first = 0; first < count; first += kSegmentRows)
      space.segments[segments++] = {expert, space.offsets[expert] + first,
                                    std::min(kSegmentRows, count - first)};
    space.offsets[expert + 1] += space.offsets[expert];
  }
  // offsets[e] moves from the start of expert e to its end.
  for (std::int64_t slot = 0; slot < slots; ++slot) {
    const std::int32_t id = args.expert_ids[slot];
    space.positions[slot] = id < 0 ? -1 : space.offsets[id]++;
    if (id < 0) continue;
    const std::int64_t position = space.positions[slot];
    const std::int64_t token = slot / desc.top_k;
    space.x_rows[position] = up.reads_in_place(args.x)
                                 ? reinterpret_cast<const std::byte*>(args.x.row<float>(token))
                                 : space.x + static_cast<std::size_t>(token) * x_row_bytes;
    space.h_rows[position] = space.h + static_cast<std::size_t>(position) * h_row_bytes;
  }
  return segments;
}

}  // namespace

Experts::Experts(CpuTier tier, const CpuFeatures& features, ThreadPool& pool)
    : kernels_(select_panel_kernels(tier, features)),
      ops_(&ops_kernels(tier)),
      features_(features),
      pool_(pool) {}

Feasibility Experts::can_implement(const ExpertsDesc& desc) const {
  if (desc.experts < 1 || desc.hidden < 1 || desc.intermediate < 1 || desc.top_k < 1 ||
      desc.top_k > desc.experts)
    return Feasibility::no(fmt::format("{} experts, top {}, hidden {}, intermediate {} is not a valid shape",
                                       desc.experts, desc.top_k, desc.hidden, desc.intermediate));
  const formats::ActivationFormat activation =
      preferred_activation(desc.weight, desc.accuracy, features_, kernels_);
  const Feasibility up = Operand::check(desc.weight, activation, desc.accuracy, desc.hidden, kernels_);
  return up ? Operand::check(desc.weight, activation, desc.accuracy, desc.intermediate, kernels_) : up;
}

ExpertsPlanPtr Experts::plan(const ExpertsDesc& desc) const {
  const Feasibility feasible = can_implement(desc);
  SABREWING_CHECK(feasible.ok, kUnsupported, "[cpu experts] {}", feasible.reason);
  return std::make_shared<const Plan>(desc,
                                      preferred_activation(desc.weight, desc.accuracy, features_, kernels_),
                                      kernels_, *ops_, pool_.threads());
}

PackedExperts Experts::pack(const ExpertsPlan& plan, std::span<const ExpertSource> sources,
                            std::span<const float> bias13, std::span<const float> bias2) const {
  const ExpertsDesc& desc = own_plan(plan).desc();
  SABREWING_CHECK(static_cast<std::int64_t>(sources.size()) == desc.experts, kInvalidArgument,
                  "[cpu experts] {} experts given, {} expected", sources.size(), desc.experts);
  SABREWING_CHECK(bias13.empty() != desc.bias && bias2.empty() != desc.bias, kInvalidArgument,
                  "[cpu experts] biases do not fit the plan");
  return pack_experts(desc.weight, desc.hidden, desc.intermediate, sources, bias13, bias2, pool_);
}

void Experts::run(const ExpertsPlan& plan, const ExpertsArgs& args) const {
  const Plan& own = own_plan(plan);
  const ExpertsDesc& desc = own.desc();
  const std::int64_t m = args.x.rows;
  check_matrix(args.x, m, desc.hidden, "x");
  check_matrix(args.y, m, desc.hidden, "y");
  SABREWING_CHECK(args.weights != nullptr, kInvalidArgument, "[cpu experts] no weights");
  check_weights(own, *args.weights);
  if (m == 0) return;
  SABREWING_CHECK(args.expert_ids != nullptr && args.expert_weights != nullptr, kInvalidArgument,
                  "[cpu experts] no expert ids or weights");
  SABREWING_CHECK(args.workspace != nullptr && reinterpret_cast<std::uintptr_t>(args.workspace) % 64 == 0,
                  kInvalidArgument, "[cpu experts] the workspace is absent or not aligned to 64 bytes");

  const Plan::Workspace space(own, m, args.workspace);
  const PackedExperts& weights = *args.weights;
  const std::int64_t segments =
      sort_slots(desc, args, space, own.up.row_bytes(), own.down.row_bytes(), own.up);

  if (!own.up.reads_in_place(args.x)) {
    pool_.parallel_for((m + kStageRows - 1) / kStageRows, [&](std::int64_t chunk, int worker) {
      float* scratch = space.row_scratch + static_cast<std::size_t>(worker) * space.row_floats;
      for (std::int64_t i = chunk * kStageRows; i < std::min(m, (chunk + 1) * kStageRows); ++i)
        own.up.stage(args.x, i, scratch, space.x + static_cast<std::size_t>(i) * own.up.row_bytes());
    });
  }

  const auto make_task = [&](const Operand& operand, const PackedWeight& weight, const Segment& segment,
                             std::int64_t first_panel, std::int64_t panels, const std::byte** rows,
                             int worker) {
    PanelTask task;
    task.scales = panel_data(weight, operand.layout(), segment.expert, first_panel);
    task.weights = task.scales + operand.layout().value_offset;
    task.panel_stride = operand.layout().panel_bytes;
    task.panels = static_cast<int>(std::min<std::int64_t>(kMaxPanels, panels - first_panel));
    task.k = operand.layout().k;
    task.rows = rows + segment.first;
    task.row_count = segment.rows;
    task.out = space.out + static_cast<std::size_t>(worker) * space.out_floats;
    task.out_stride = task.panels * kPanelRows;
    task.scratch = space.scratch + static_cast<std::size_t>(worker) * kPanelScratchBytes;
    return task;
  };

  const std::int64_t up_panels = 2 * panel_count(desc.intermediate);
  const std::int64_t up_tasks = (up_panels + kMaxPanels - 1) / kMaxPanels;
  const auto* bias13 = static_cast<const float*>(weights.bias13.data);
  for_chunks(pool_, segments * up_tasks, [&](std::int64_t index, int worker) {
    const Segment& segment = space.segments[index / up_tasks];
    const std::int64_t first_panel = index % up_tasks * kMaxPanels;
    const PanelTask task =
        make_task(own.up, weights.w13, segment, first_panel, up_panels, space.x_rows, worker);
    own.up.kernel()(task);
    const std::int64_t first = first_panel / 2 * kPanelRows;
    const std::int64_t columns = std::min(kGluColumns, desc.intermediate - first);
    const float* gate_bias = desc.bias ? bias13 + segment.expert * 2 * desc.intermediate + first : nullptr;
    alignas(64) float gate[kGluRows * kGluColumns];
    alignas(64) float up[kGluRows * kGluColumns];
    for (std::int64_t row = 0; row < segment.rows; row += kGluRows) {
      const std::int64_t rows = std::min(kGluRows, segment.rows - row);
      for (std::int64_t i = 0; i < rows; ++i) {
        const float* out = task.out + (row + i) * task.out_stride;
        float* row_gate = gate + i * columns;
        float* row_up = up + i * columns;
        // Panels alternate: 16 columns of gate, 16 of up. What is beyond the last column, the next row
        // overwrites.
        for (std::int64_t c = 0; c < columns; c += kPanelRows, out += 2 * kPanelRows) {
          std::copy_n(out, kPanelRows, row_gate + c);
          std::copy_n(out + kPanelRows, kPanelRows, row_up + c);
        }
        if (desc.bias) {
          own.ops.add(row_gate, gate_bias, columns);
          own.ops.add(row_up, gate_bias + desc.intermediate, columns);
        }
      }
      if (desc.activation == GluActivation::kSilu)
        own.ops.silu_glu(gate, up, rows * columns, gate);
      else
        own.ops.clamped_swiglu(gate, up, rows * columns, desc.limit, gate);
      for (std::int64_t i = 0; i < rows; ++i)
        own.down.stage_part(
            gate + i * columns, first, columns,
            space.h + static_cast<std::size_t>(segment.first + row + i) * own.down.row_bytes());
    }
  });

  const std::int64_t down_panels = panel_count(desc.hidden);
  const std::int64_t down_tasks = (down_panels + kMaxPanels - 1) / kMaxPanels;
  const auto* bias2 = static_cast<const float*>(weights.bias2.data);
  for_chunks(pool_, segments * down_tasks, [&](std::int64_t index, int worker) {
    const Segment& segment = space.segments[index / down_tasks];
    const std::int64_t first_panel = index % down_tasks * kMaxPanels;
    PanelTask task = make_task(own.down, weights.w2, segment, first_panel, down_panels, space.h_rows, worker);
    const std::int64_t first = first_panel * kPanelRows;
    const std::int64_t columns = std::min<std::int64_t>(task.panels * kPanelRows, desc.hidden - first);
    float* partial = space.partial + segment.first * desc.hidden + first;
    const bool in_place = columns == task.panels * kPanelRows;
    if (in_place) {
      task.out = partial;
      task.out_stride = desc.hidden;
    }
    own.down.kernel()(task);
    const float* bias = desc.bias ? bias2 + segment.expert * desc.hidden + first : nullptr;
    for (std::int64_t i = 0; i < segment.rows; ++i, partial += desc.hidden) {
      if (!in_place) std::copy_n(task.out + i * task.out_stride, columns, partial);
      if (desc.bias) own.ops.add(partial, bias, columns);
    }
  });

  pool_.parallel_for(m, [&](std::int64_t token, int worker) {
    const std::int64_t hidden = desc.hidden;
    float* sum = args.y.dtype == DType::kF32
                     ? args.y.row<float>(token)
                     : space.row_scratch + static_cast<std::size_t>(worker) * space.row_floats;
    std::fill_n(sum, hidden, 0.0f);
    for (std::int64_t j = 0; j < desc.top_k; ++j) {
      const std::int64_t slot = token * desc.top_k + j;
      if (space.positions[slot] < 0) continue;
      const float weight = args.expert_weights[slot];
      const float* partial = space.partial + space.positions[slot] * hidden;
      for (std::int64_t c = 0; c < hidden; ++c) sum[c] += weight * partial[c];
    }
    if (args.y.dtype != DType::kF32) store_row(sum, args.y, token, 0, hidden);
  });
}

}  // namespace sabrewing::kernels::cpu
