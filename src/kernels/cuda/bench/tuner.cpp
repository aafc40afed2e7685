#include "kernels/cuda/bench/tuner.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <utility>

#include "jit/cubin_cache.h"
#include "kernels/cuda/bench/gemm_cell.h"

namespace sabrewing::kernels::cuda {

namespace {

constexpr std::size_t kFinalists = 3;

double seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// The upper ends of the intervals that hold these sizes.
std::vector<std::int64_t> intervals_of(const std::vector<std::int64_t>& sizes) {
  const auto all = gemm_intervals();
  if (sizes.empty()) return {all.begin(), all.end()};
  std::set<std::int64_t> ends;
  for (const std::int64_t m : sizes) {
    const auto end = std::lower_bound(all.begin(), all.end(), m);
    ends.insert(end == all.end() ? all.back() : *end);
  }
  return {ends.begin(), ends.end()};
}

KernelFormats kernel_formats(const GemmDesc& desc, const WeightLayout& layout, const Candidate& candidate) {
  return {layout, desc.activation, desc.output, candidate.scale_after, false};
}

/// Times the candidates of one problem on one weight.
class Tuning {
 public:
  Tuning(BenchDevice& bench, const GemmBenchCase& tuned, const std::vector<std::int64_t>& sizes,
         const TuneOptions& options)
      : bench_(bench),
        options_(options),
        case_(tuned),
        cell_(bench, tuned.desc, *std::max_element(sizes.begin(), sizes.end()), true, false) {}

  TuneRow tune(std::int64_t m, std::vector<std::string>& failures) {
    const DeviceModel model = DeviceModel::of(bench_.device()->info());
    const std::vector<Candidate> list =
        candidates(model, gemm_problem(case_.desc, cell_.layout(), m), options_.limit);
    bool has_reference = false;
    const auto guarded = [&](std::size_t i, const auto& measure) -> std::optional<double> {
      try {
        return measure(kernel(list[i]));
      } catch (const Error& error) {
        if (error.code() == ErrorCode::kDevice) throw;
        failures.push_back(
            fmt::format("{} M={} {}: {}", case_.name(), m, list[i].shape.to_string(), error.what()));
        return std::nullopt;
      }
    };
    const auto quick = [&](std::size_t i) {
      return guarded(i, [&](const GemmKernel& kernel) {
        if (const Feasibility feasible = kernel.can_run(cell_.operands(m, 0)); !feasible)
          fail(ErrorCode::kInternal, "{}", feasible.reason);
        return time(kernel, m, Timing::kQuick);
      });
    };
    const auto careful = [&](std::size_t i) {
      return guarded(i, [&](const GemmKernel& kernel) {
        if (!has_reference) cell_.make_reference(m);
        has_reference = true;
        const double error = cell_.check(kernel, m, case_.desc.output, true).frobenius;
        const double most = error_bound(cell_.layout(), list[i].scale_after, case_.desc.output);
        SABREWING_CHECK(error <= most, kInternal, "error {:.2e}, at most {:.2e}", error, most);
        return time(kernel, m, timing(m));
      });
    };
    const std::vector<TimedCandidate> timed = race(list.size(), kFinalists, quick, careful);
    SABREWING_CHECK(!timed.empty() && timed[0].careful, kInternal, "[tune] {} M={}: no candidate is right",
                    case_.name(), m);
    TuneRow row;
    row.weights = case_.weights;
    row.activations = case_.activations;
    row.n = case_.desc.n;
    row.k = case_.desc.k;
    row.m = m;
    const Candidate& best = list[timed[0].index];
    row.choice = {best.shape.to_string(), best.scale_after, timed[0].us, {}};
    for (const TimedCandidate& one : timed) {
      if (one.index == 0) row.us_model = one.us;
      if (&one != &timed[0]) row.choice.slower.emplace_back(list[one.index].shape.to_string(), one.us);
    }
    if (!options_.rerun) return row;
    row.rerun_us = row.rerun_best_us = time(kernel(best), m, timing(m));
    for (std::size_t i = 1; i < timed.size() && timed[i].careful; ++i)
      if (timed[i].us < 1.15 * timed[0].us)  // the others are far behind
        row.rerun_best_us = std::min(row.rerun_best_us, time(kernel(list[timed[i].index]), m, timing(m)));
    return row;
  }

 private:
  Timing timing(std::int64_t m) const { return m >= options_.burst_from ? Timing::kBurst : Timing::kSteady; }
  const GemmKernel& kernel(const Candidate& candidate) {
    const std::string name =
        fmt::format("{}{}", candidate.shape.to_string(), candidate.scale_after ? " after" : "");
    auto it = kernels_.find(name);
    if (it == kernels_.end())
      it = kernels_
               .emplace(name, GemmKernel(bench_.device(), bench_.compiler(), candidate.shape,
                                         kernel_formats(case_.desc, cell_.layout(), candidate)))
               .first;
    return it->second;
  }
  double time(const GemmKernel& kernel, std::int64_t m, Timing timing) {
    return bench_.time(
        [&](int i) { kernel.enqueue(cell_.operands(m, static_cast<std::size_t>(i)), bench_.stream(), true); },
        std::max(2.0, cell_.floor_us(m)), timing);
  }

  BenchDevice& bench_;
  const TuneOptions& options_;
  GemmBenchCase case_;
  GemmCell cell_;
  std::map<std::string, GemmKernel> kernels_;
};

/// Compiles every candidate on all processors at once; what is wrong with one shows where it is used.
void compile_candidates(BenchDevice& bench, std::span<const GemmBenchCase> cases,
                        const std::vector<std::int64_t>& sizes, std::size_t limit) {
  const DeviceModel model = DeviceModel::of(bench.device()->info());
  std::map<std::string, jit::KernelSource> sources;
  for (const GemmBenchCase& one : cases) {
    const WeightLayout layout = weight_layout(one.desc.weight, one.desc.activation, one.desc.accuracy);
    for (const std::int64_t m : sizes)
      for (const Candidate& candidate : candidates(model, gemm_problem(one.desc, layout, m), limit)) {
        jit::KernelSource source =
            kernel_source(candidate.shape, kernel_formats(one.desc, layout, candidate), model.architecture);
        sources.emplace(source.name, std::move(source));
      }
  }
  std::vector<jit::KernelSource> list;
  for (auto& [name, source] : sources) list.push_back(std::move(source));
  bench.compiler().compile_all(list);
}

}  // namespace

std::vector<TimedCandidate> race(std::size_t count, std::size_t finalists,
                                 const std::function<std::optional<double>(std::size_t)>& quick,
                                 const std::function<std::optional<double>(std::size_t)>& careful) {
  std::vector<TimedCandidate> all;
  for (std::size_t i = 0; i < count; ++i)
    if (const auto us = quick(i)) all.push_back({i, *us, false});
  const auto faster = [](const TimedCandidate& a, const TimedCandidate& b) {
    return std::pair(!a.careful, a.us) < std::pair(!b.careful, b.us);
  };
  std::sort(all.begin(), all.end(), faster);
  std::vector<TimedCandidate> right;
  std::size_t timed = 0;
  for (TimedCandidate one : all) {
    if (timed < finalists || one.index == 0) {
      const auto us = careful(one.index);
      if (!us) continue;
      one = {one.index, *us, true};
      ++timed;
    }
    right.push_back(one);
  }
  std::sort(right.begin(), right.end(), faster);
  return right;
}

TuneResult tune_gemm(const TuneOptions& options) {
  const std::vector<GemmBenchCase> all = every_case(options.cases);
  SABREWING_CHECK(!all.empty() && options.limit > 0, kInvalidArgument,
                  "[tune] no shape, no weight format, no activation format or no candidate");
  const double begin = seconds();
  BenchDevice bench(jit::Device::open(options.ordinal), std::make_shared<jit::Compiler>(jit::CompilerOptions{
                                                            std::nullopt, jit::CubinCache::open_default()}));
  const GemmPlanner planner(bench.device(), bench.shared_compiler());
  TuneResult result;
  result.table.device = measure_device_class(bench.device());
  const std::vector<std::int64_t> sizes = intervals_of(options.cases.m);
  std::vector<GemmBenchCase> possible;
  for (const GemmBenchCase& one : all) {
    if (const Feasibility feasible = planner.can_implement(one.desc); !feasible)
      result.refusals.push_back(fmt::format("{}: {}", one.name(), feasible.reason));
    else
      possible.push_back(one);
  }
  const std::size_t steps = possible.size() * sizes.size();
  std::size_t step = 0;
  for (std::size_t i = 0; i < possible.size(); ++i) {
    const GemmBenchCase& one = possible[i];
    std::unique_ptr<Tuning> tuning;
    for (const std::int64_t m : sizes) {
      if ((options.deadline_s > 0 && seconds() - begin > options.deadline_s) ||
          (options.progress && !options.progress(step, steps, fmt::format("{} M={}", one.name(), m)))) {
        result.complete = false;
        return result;
      }
      ++step;
      if (i == 0 && !tuning) compile_candidates(bench, possible, sizes, options.limit);
      if (!tuning) tuning = std::make_unique<Tuning>(bench, one, sizes, options);
      TuneRow row = tuning->tune(m, result.failures);
      result.table.put(one.desc, m, row.choice);
      result.rows.push_back(std::move(row));
    }
  }
  return result;
}

}  // namespace sabrewing::kernels::cuda
