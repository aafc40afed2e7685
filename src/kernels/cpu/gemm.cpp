#include "kernels/cpu/gemm.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

#include "core/error.h"

namespace sabrewing::kernels::cpu {
namespace {

// Rows of one task: their staged activations stay in the second-level cache while the panels stream past.
constexpr std::int64_t kBlockRows = 192;
constexpr std::int64_t kTileRows = 6;
constexpr std::int64_t kStageRows = 8;
constexpr std::int64_t kTaskColumns = kMaxPanels * kPanelRows;

std::int64_t block_rows(std::int64_t m) {
  const std::int64_t blocks = (m + kBlockRows - 1) / kBlockRows;
  const std::int64_t rows = (m + blocks - 1) / blocks;
  return std::min(m, (rows + kTileRows - 1) / kTileRows * kTileRows);
}

struct ThreadSpace {
  float* out = nullptr;  // (rows of a block, kTaskColumns); staging uses its start, or `row`
  std::byte* scratch = nullptr;
};

class Plan final : public GemmPlan {
 public:
  Plan(const GemmDesc& desc, const PanelKernels& kernels, const OpsKernels& ops, int threads)
      : GemmPlan(desc), operand(desc.weight, desc.activation, desc.k, kernels, ops), threads_(threads) {}

  std::size_t workspace_bytes(std::int64_t max_m) const override {
    return Workspace(*this, max_m, nullptr).bytes;
  }
  std::string kernel_name() const override { return operand.describe(); }
  std::string explain() const override {
    return fmt::format(
        "{}; panels of {} rows, {} a task; row blocks of at most {}; {} threads; activations {}",
        operand.describe(), kPanelRows, kMaxPanels, kBlockRows, threads_,
        formats::to_string(desc().activation));
  }

  struct Workspace {
    Workspace(const Plan& plan, std::int64_t m, void* base) {
      if (m <= 0) return;
      WorkspaceCursor cursor(base);
      const auto rows_count = static_cast<std::size_t>(m);
      const auto threads = static_cast<std::size_t>(plan.threads_);
      block = block_rows(m);
      row_floats = (static_cast<std::size_t>(plan.desc().k) + 15) / 16 * 16;
      // Not `block`: fewer rows may make larger blocks.
      out_floats = static_cast<std::size_t>(std::min(m, kBlockRows) * kTaskColumns);
      rows = cursor.take<const std::byte*>(rows_count);
      staged = cursor.take<std::byte>(rows_count * plan.operand.row_bytes());
      row_scratch = cursor.take<float>(threads * row_floats);
      out = cursor.take<float>(threads * out_floats);
      scratch = cursor.take<std::byte>(threads * kPanelScratchBytes);
      bytes = cursor.used();
    }
    std::int64_t block = 0;
    std::size_t row_floats = 0;
    std::size_t out_floats = 0;
    const std::byte** rows = nullptr;
    std::byte* staged = nullptr;
    float* row_scratch = nullptr;
    float* out = nullptr;
    std::byte* scratch = nullptr;
    std::size_t bytes = 0;
  };

  Operand operand;

 private:
  int threads_;
};

const Plan& own_plan(const GemmPlan& plan) {
  const auto* own = dynamic_cast<const Plan*>(&plan);
  SABREWING_CHECK(own != nullptr, kInvalidArgument, "[cpu gemm] the plan {} belongs to another backend",
                  plan.kernel_name());
  return *own;
}

void check_weight(const GemmDesc& desc, const PackedWeight& weight, const PanelLayout& layout) {
  const std::size_t bytes = static_cast<std::size_t>(panel_count(desc.n)) * layout.panel_bytes;
  SABREWING_CHECK(weight.format == desc.weight && weight.n == desc.n && weight.k == desc.k &&
                      weight.experts == 1 && weight.bytes.bytes >= bytes,
                  kInvalidArgument, "[cpu gemm] packed weight is {} ({}, {}): {} ({}, {}) expected",
                  formats::to_string(weight.format), weight.n, weight.k, formats::to_string(desc.weight),
                  desc.n, desc.k);
}

}  // namespace

Gemm::Gemm(CpuTier tier, const CpuFeatures& features, ThreadPool& pool)
    : kernels_(select_panel_kernels(tier, features)),
      ops_(&ops_kernels(tier)),
      features_(features),
      pool_(pool) {}

Feasibility Gemm::can_implement(const GemmDesc& desc) const {
  if (desc.n < 1) return Feasibility::no(fmt::format("N of {} is not positive", desc.n));
  if (desc.output != DType::kF32 && desc.output != DType::kBF16)
    return Feasibility::no(fmt::format("outputs are F32 or BF16 on the CPU, not {}", to_string(desc.output)));
  return Operand::check(desc.weight, desc.activation, desc.accuracy, desc.k, kernels_);
}

formats::ActivationFormat Gemm::preferred_activation(const formats::WeightFormat& weight,
                                                     Accuracy accuracy) const {
  return cpu::preferred_activation(weight, accuracy, features_, kernels_);
}

GemmPlanPtr Gemm::plan(const GemmDesc& desc) const {
  const Feasibility feasible = can_implement(desc);
  SABREWING_CHECK(feasible.ok, kUnsupported, "[cpu gemm] {}", feasible.reason);
  return std::make_shared<const Plan>(desc, kernels_, *ops_, pool_.threads());
}

std::size_t Gemm::packed_bytes(const GemmPlan& plan) const {
  const Plan& own = own_plan(plan);
  return static_cast<std::size_t>(panel_count(own.desc().n)) * own.operand.layout().panel_bytes;
}

PackedWeight Gemm::pack(const GemmPlan& plan, const WeightSource& source, DeviceBuffer to) const {
  const GemmDesc& desc = own_plan(plan).desc();
  SABREWING_CHECK(source.format == desc.weight && source.n() == desc.n && source.k == desc.k,
                  kInvalidArgument, "[cpu gemm] source is {} ({}, {}): {} ({}, {}) expected",
                  formats::to_string(source.format), source.n(), source.k, formats::to_string(desc.weight),
                  desc.n, desc.k);
  return pack_gemm(source, pool_, std::move(to));
}

void Gemm::run(const GemmPlan& plan, const GemmArgs& args) const {
  const Plan& own = own_plan(plan);
  const GemmDesc& desc = own.desc();
  const Operand& operand = own.operand;
  const std::int64_t m = args.a.rows;
  check_matrix(args.a, m, desc.k, "a");
  check_matrix(args.c, m, desc.n, "c");
  SABREWING_CHECK(args.c.dtype == desc.output, kInvalidArgument, "[cpu gemm] c is {}: {} expected",
                  to_string(args.c.dtype), to_string(desc.output));
  SABREWING_CHECK(args.b != nullptr && args.a_scales == nullptr && (args.bias != nullptr) == desc.bias,
                  kInvalidArgument, "[cpu gemm] b, a_scales or bias do not fit the plan");
  check_weight(desc, *args.b, operand.layout());
  if (m == 0) return;
  SABREWING_CHECK(args.workspace != nullptr && reinterpret_cast<std::uintptr_t>(args.workspace) % 64 == 0,
                  kInvalidArgument, "[cpu gemm] the workspace is absent or not aligned to 64 bytes");

  const Plan::Workspace space(own, m, args.workspace);
  if (operand.reads_in_place(args.a)) {
    for (std::int64_t i = 0; i < m; ++i)
      space.rows[i] = reinterpret_cast<const std::byte*>(args.a.row<float>(i));
  } else {
    // By reference: std::function then allocates nothing.
    const auto stage = [&](std::int64_t chunk, int worker) {
      float* scratch = space.row_scratch + static_cast<std::size_t>(worker) * space.row_floats;
      for (std::int64_t i = chunk * kStageRows; i < std::min(m, (chunk + 1) * kStageRows); ++i) {
        std::byte* staged = space.staged + static_cast<std::size_t>(i) * operand.row_bytes();
        operand.stage(args.a, i, scratch, staged);
        space.rows[i] = staged;
      }
    };
    pool_.parallel_for((m + kStageRows - 1) / kStageRows, std::ref(stage));
  }

  const std::int64_t panels = panel_count(desc.n);
  const std::int64_t tasks_n = (panels + kMaxPanels - 1) / kMaxPanels;
  const std::int64_t tasks_m = (m + space.block - 1) / space.block;
  const auto multiply = [&](std::int64_t index, int worker) {
    const std::int64_t first_panel = index % tasks_n * kMaxPanels;
    const std::int64_t first_row = index / tasks_n * space.block;
    PanelTask task;
    task.scales = panel_data(*args.b, operand.layout(), 0, first_panel);
    task.weights = task.scales + operand.layout().value_offset;
    task.panel_stride = operand.layout().panel_bytes;
    task.panels = static_cast<int>(std::min<std::int64_t>(kMaxPanels, panels - first_panel));
    task.k = desc.k;
    task.rows = space.rows + first_row;
    task.row_count = std::min(space.block, m - first_row);
    task.scratch = space.scratch + static_cast<std::size_t>(worker) * kPanelScratchBytes;
    const std::int64_t first_column = first_panel * kPanelRows;
    const std::int64_t columns = std::min<std::int64_t>(task.panels * kPanelRows, desc.n - first_column);
    const bool in_place = args.c.dtype == DType::kF32 && columns == task.panels * kPanelRows;
    task.out = in_place ? args.c.row<float>(first_row) + first_column
                        : space.out + static_cast<std::size_t>(worker) * space.out_floats;
    task.out_stride = in_place ? args.c.row_stride : task.panels * kPanelRows;
    operand.kernel()(task);

    for (std::int64_t i = 0; i < task.row_count; ++i) {
      float* out = task.out + i * task.out_stride;
      if (desc.bias) ops_->add(out, args.bias + first_column, columns);
      if (!in_place) store_row(out, args.c, first_row + i, first_column, columns);
    }
  };
  pool_.parallel_for(tasks_m * tasks_n, std::ref(multiply));
}

void Gemm::embed(const GemmPlan& plan, const PackedWeight& table, const std::int32_t* ids,
                 const Matrix& out) const {
  const Plan& own = own_plan(plan);
  check_weight(own.desc(), table, own.operand.layout());
  check_matrix(out, out.rows, own.desc().k, "embedding output");
  for (std::int64_t i = 0; i < out.rows; ++i)
    SABREWING_CHECK(ids[i] >= 0 && ids[i] < table.n, kInvalidArgument,
                    "[embed] token id {} is outside 0 to {}", ids[i], table.n - 1);
  pool_.parallel_for(out.rows, [&](std::int64_t i, int) {
    if (out.dtype == DType::kF32) {
      dequantize_row(table, 0, ids[i], out.row<float>(i));
      return;
    }
    std::vector<float> row(static_cast<std::size_t>(table.k));
    dequantize_row(table, 0, ids[i], row.data());
    store_row(row.data(), out, i, 0, table.k);
  });
}

}  // namespace sabrewing::kernels::cpu
