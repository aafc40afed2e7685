#include "kernels/cuda/bench/gemm_bench.h"

#include <algorithm>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/embedded.h"
#include "core/error.h"
#include "core/json.h"
#include "jit/cubin_cache.h"
#include "jit/driver.h"
#include "kernels/cuda/bench/gemm_cell.h"

namespace sabrewing::embedded {
extern const EmbeddedFile kCudaBenchShapes[];
}

namespace sabrewing::kernels::cuda {

namespace {

constexpr const char* kMethod =
    "weights rotated past 256 MB, CUDA graphs, random data, median; bursts after 50 ms idle from the M of "
    "burst_from; us with programmatic dependent launch, us_serial without";
constexpr std::int64_t kMaxExtent = std::int64_t{1} << 31;

std::int64_t extent(const Json& value, std::string_view what, const char* field) {
  SABREWING_CHECK(value.is_number_integer(), kCorrupt, "[bench] {}: {} is no integer", what, field);
  const auto number = value.get<std::int64_t>();
  SABREWING_CHECK(number >= 1 && number < kMaxExtent, kCorrupt, "[bench] {}: {} is {}", what, field, number);
  return number;
}

const Json& member(const Json& object, const char* field, std::string_view what) {
  SABREWING_CHECK(object.is_object() && object.contains(field), kCorrupt, "[bench] {}: no \"{}\"", what,
                  field);
  return object.at(field);
}

const Json& list(const Json& object, const char* field, std::string_view what) {
  const Json& found = member(object, field, what);
  SABREWING_CHECK(found.is_array() && !found.empty(), kCorrupt, "[bench] {}: \"{}\" is no list with members",
                  what, field);
  return found;
}

std::string text(const Json& value, std::string_view what, const char* field) {
  SABREWING_CHECK(value.is_string(), kCorrupt, "[bench] {}: {} is no text", what, field);
  return value.get<std::string>();
}

/// One case: its plan, and the cell that it is timed on.
class TimedPlan {
 public:
  TimedPlan(BenchDevice& bench, GemmPlanner& planner, const GemmBenchCase& bench_case, std::int64_t max_m)
      : bench_(bench),
        case_(bench_case),
        plan_(planner.plan(case_.desc)),
        cell_(bench, case_.desc, max_m, true, false),
        packed_(cell_.packed(*plan_)) {}

  std::string explanation() const { return plan_->explain(); }

  GemmBenchRow time(std::int64_t m, Timing timing) {
    const auto enqueue = [&](std::size_t copy, void* y, bool overlap) {
      GemmArgs args = cell_.args(*plan_, packed_[copy % packed_.size()], m);
      if (y != nullptr) args.c.data = y;
      plan_->enqueue(args, bench_.stream(), overlap);
    };
    const CudaGemmPlan::Interval& interval = plan_->interval(m);
    GemmBenchRow row;
    row.shape = case_.shape;
    row.m = m;
    row.weights = case_.weights;
    row.activations = case_.activations;
    row.kernel = interval.choice.shape.to_string();
    row.floor_us = cell_.floor_us(m);
    row.error_bound = error_bound(plan_->layout(), interval.choice.scale_after, plan_->desc().output);
    cell_.make_reference(m);
    row.error =
        cell_.check([&](void* y, bool second) { enqueue(0, y, second); }, m, plan_->desc().output).frobenius;
    SABREWING_CHECK(row.error <= row.error_bound, kInternal,
                    "[bench] {} M={} {}: error {:.2e}, at most {:.2e}", case_.name(), m, row.kernel,
                    row.error, row.error_bound);
    const double estimate = std::max(2.0, row.floor_us);
    const auto call = [&](bool overlap) {
      return [&enqueue, overlap](int i) { enqueue(static_cast<std::size_t>(i), nullptr, overlap); };
    };
    row.us_serial = bench_.time(call(false), estimate, timing);
    row.us = bench_.time(call(true), estimate, timing);
    return row;
  }

 private:
  BenchDevice& bench_;
  GemmBenchCase case_;
  std::shared_ptr<const CudaGemmPlan> plan_;
  GemmCell cell_;
  std::vector<PackedWeight> packed_;
};

}  // namespace

GemmBenchCases parse_gemm_bench_cases(std::string_view json, std::string_view what) {
  const Json root = parse_json(json, what);
  GemmBenchCases cases;
  for (const Json& item : list(root, "shapes", what))
    cases.shapes.push_back({text(member(item, "name", what), what, "name"),
                            extent(member(item, "n", what), what, "n"),
                            extent(member(item, "k", what), what, "k")});
  for (const Json& item : list(root, "m", what)) cases.m.push_back(extent(item, what, "m"));
  for (const Json& item : list(root, "weights", what)) cases.weights.push_back(text(item, what, "weights"));
  if (!root.contains("activations")) return cases;
  cases.activations.clear();
  for (const Json& item : list(root, "activations", what))
    cases.activations.push_back(text(item, what, "activations"));
  return cases;
}

std::string GemmBenchCase::name() const {
  return fmt::format("{} x {} {}x{}", weights, activations, shape.n, shape.k);
}

GemmBenchCase gemm_bench_case(const GemmBenchShape& shape, std::string weights, std::string activations) {
  if (weights == "int4g128" && shape.k % 128 != 0) weights = "int4g64";
  GemmDesc desc;
  desc.weight = format_by_name(weights);
  desc.activation = activation_by_name(activations);
  desc.n = shape.n;
  desc.k = shape.k;
  return {shape, std::move(weights), std::move(activations), desc};
}

std::vector<GemmBenchCase> every_case(const GemmBenchCases& cases) {
  std::vector<GemmBenchCase> list;
  for (const std::string& weights : cases.weights)
    for (const std::string& activations : cases.activations)
      for (const GemmBenchShape& shape : cases.shapes)
        list.push_back(gemm_bench_case(shape, weights, activations));
  return list;
}

GemmBenchCases default_gemm_bench_cases() {
  const embedded::EmbeddedFile& file = embedded::kCudaBenchShapes[0];
  return parse_gemm_bench_cases({file.data, file.size}, "bench/shapes_cuda.json");
}

GemmBenchResult run_gemm_bench(const GemmBenchOptions& options) {
  const GemmBenchCases& cases = options.cases;
  const std::vector<GemmBenchCase> all = every_case(cases);
  SABREWING_CHECK(!all.empty() && !cases.m.empty(), kInvalidArgument,
                  "[bench] no shape, no M, no weight format or no activation format");
  BenchDevice bench(jit::Device::open(options.ordinal), std::make_shared<jit::Compiler>(jit::CompilerOptions{
                                                            std::nullopt, jit::CubinCache::open_default()}));
  GemmPlanner planner(bench.device(), bench.shared_compiler(),
                      load_tuning(bench.device(), default_tuning_file()));
  GemmBenchResult result;
  result.device = bench.device()->info().name;
  result.multiprocessors = bench.device()->info().multiprocessors;
  result.driver_version = jit::driver_version();
  const std::int64_t max_m = *std::max_element(cases.m.begin(), cases.m.end());
  const std::size_t steps = all.size() * cases.m.size();
  std::size_t step = 0;
  for (const GemmBenchCase& one : all) {
    if (const Feasibility feasible = planner.can_implement(one.desc); !feasible) {
      result.refusals.push_back(fmt::format("{}: {}", one.name(), feasible.reason));
      step += cases.m.size();
      continue;
    }
    TimedPlan plan(bench, planner, one, max_m);
    result.explanations.push_back(plan.explanation());
    for (const std::int64_t m : cases.m) {
      if (options.progress && !options.progress(step++, steps, fmt::format("{} M={}", one.name(), m))) {
        result.complete = false;
        return result;
      }
      result.rows.push_back(plan.time(m, m >= options.burst_from ? Timing::kBurst : Timing::kSteady));
    }
  }
  return result;
}

std::string gemm_bench_json(const GemmBenchResult& result) {
  OrderedJson rows = OrderedJson::array();
  for (const GemmBenchRow& row : result.rows)
    rows.push_back({{"n", row.shape.n},
                    {"k", row.shape.k},
                    {"m", row.m},
                    {"weights", row.weights},
                    {"activations", row.activations},
                    {"impl", "sabrewing"},
                    {"us", row.us},
                    {"floor_us", row.floor_us},
                    {"error", row.error},
                    {"us_serial", row.us_serial},
                    {"kernel", row.kernel},
                    {"shape", row.shape.name}});
  const OrderedJson root = {{"machine",
                             {{"device", result.device},
                              {"multiprocessors", result.multiprocessors},
                              {"driver_cuda", fmt::format("{}.{}", result.driver_version / 1000,
                                                          result.driver_version % 1000 / 10)}}},
                            {"method", kMethod},
                            {"complete", result.complete},
                            {"refused", result.refusals},
                            {"rows", std::move(rows)}};
  return root.dump(1);
}

}  // namespace sabrewing::kernels::cuda
