#include "kernels/cuda/bench/tuner.h"

#include <algorithm>
#include <chrono>
#include <set>

#include "jit/cubin_cache.h"
#include "kernels/cuda/bench/gemm_cell.h"

namespace sabrewing::kernels::cuda {

namespace {

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

/// Times the candidates of one problem on one weight.
class Tuning {
 public:
  Tuning(BenchDevice& bench, const GemmDesc& desc, const std::vector<std::int64_t>& sizes,
         const TuneOptions& options)
      : bench_(bench),
        options_(options),
        desc_(desc),
        cell_(bench, desc.weight, desc.n, desc.k, *std::max_element(sizes.begin(), sizes.end()), true,
              false) {
    const DeviceModel model = DeviceModel::of(bench.device()->info());
    std::vector<jit::KernelSource> sources;
    for (const std::int64_t m : sizes)
      for (Candidate& candidate : candidates(model, gemm_problem(desc, cell_.layout(), m), options.limit)) {
        sources.push_back(kernel_source(candidate.shape, formats(candidate), model.architecture));
        candidates_[m].push_back(std::move(candidate));
      }
    // All processors at once; what is wrong shows where it is used.
    bench.compiler().compile_all(sources);
  }

  TuneRow tune(std::int64_t m, std::vector<std::string>& failures) {
    cell_.make_reference(m);
    std::vector<std::pair<double, const Candidate*>> timed;
    double us_model = 0;
    for (const Candidate& candidate : candidates_.at(m)) {
      try {
        const GemmKernel& kernel = this->kernel(candidate);
        if (const Feasibility feasible = kernel.can_run(cell_.operands(m, 0)); !feasible)
          fail(ErrorCode::kInternal, "{}", feasible.reason);
        const double error = cell_.check(kernel, m, desc_.output, true).frobenius;
        const double most = error_bound(cell_.layout(), candidate.scale_after, desc_.output);
        SABREWING_CHECK(error <= most, kInternal, "error {:.2e}, at most {:.2e}", error, most);
        timed.emplace_back(time(kernel, m), &candidate);
        if (&candidate == &candidates_.at(m).front()) us_model = timed.back().first;
      } catch (const Error& error) {
        if (error.code() == ErrorCode::kDevice) throw;
        failures.push_back(fmt::format("{} {}x{} M={} {}: {}", formats::to_string(desc_.weight), desc_.n,
                                       desc_.k, m, candidate.shape.to_string(), error.what()));
      }
    }
    SABREWING_CHECK(!timed.empty(), kInternal, "[tune] {} {}x{} M={}: no candidate is right",
                    formats::to_string(desc_.weight), desc_.n, desc_.k, m);
    std::sort(timed.begin(), timed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    TuneRow row;
    row.n = desc_.n;
    row.k = desc_.k;
    row.m = m;
    row.us_model = us_model;
    row.choice.kernel = timed[0].second->shape.to_string();
    row.choice.scale_after = timed[0].second->scale_after;
    row.choice.us = timed[0].first;
    for (std::size_t i = 1; i < timed.size(); ++i)
      row.choice.slower.emplace_back(timed[i].second->shape.to_string(), timed[i].first);
    if (!options_.rerun) return row;
    row.rerun_us = row.rerun_best_us = time(kernel(*timed[0].second), m);
    for (std::size_t i = 1; i < timed.size(); ++i)
      if (timed[i].first < 1.15 * timed[0].first)  // the others are far behind
        row.rerun_best_us = std::min(row.rerun_best_us, time(kernel(*timed[i].second), m));
    return row;
  }

 private:
  KernelFormats formats(const Candidate& candidate) const {
    return {cell_.layout(), desc_.activation, desc_.output, candidate.scale_after, false};
  }
  const GemmKernel& kernel(const Candidate& candidate) {
    const std::string name =
        fmt::format("{}{}", candidate.shape.to_string(), candidate.scale_after ? " after" : "");
    auto it = kernels_.find(name);
    if (it == kernels_.end())
      it = kernels_
               .emplace(name,
                        GemmKernel(bench_.device(), bench_.compiler(), candidate.shape, formats(candidate)))
               .first;
    return it->second;
  }
  double time(const GemmKernel& kernel, std::int64_t m) {
    return bench_.time(
        [&](int i) { kernel.enqueue(cell_.operands(m, static_cast<std::size_t>(i)), bench_.stream(), true); },
        std::max(2.0, cell_.floor_us(m)), m >= options_.burst_from);
  }

  BenchDevice& bench_;
  const TuneOptions& options_;
  GemmDesc desc_;
  GemmCell cell_;
  std::map<std::int64_t, std::vector<Candidate>> candidates_;
  std::map<std::string, GemmKernel> kernels_;
};

}  // namespace

TuneResult tune_gemm(const TuneOptions& options) {
  const GemmBenchCases& cases = options.cases;
  SABREWING_CHECK(!cases.shapes.empty() && !cases.weights.empty() && options.limit > 0, kInvalidArgument,
                  "[tune] no shape, no weight format or no candidate");
  for (const std::string& weights : cases.weights) format_by_name(weights);
  const double begin = seconds();
  BenchDevice bench(jit::Device::open(options.ordinal), std::make_shared<jit::Compiler>(jit::CompilerOptions{
                                                            std::nullopt, jit::CubinCache::open_default()}));
  const GemmPlanner planner(bench.device(), bench.shared_compiler());
  TuneResult result;
  result.table.device = measure_device_class(bench.device());
  const std::vector<std::int64_t> sizes = intervals_of(cases.m);
  const std::size_t steps = cases.shapes.size() * cases.weights.size() * sizes.size();
  std::size_t step = 0;
  for (const GemmBenchShape& shape : cases.shapes)
    for (std::string weights : cases.weights) {
      if (weights == "int4g128" && shape.k % 128 != 0) weights = "int4g64";
      GemmDesc desc;
      desc.weight = format_by_name(weights);
      desc.activation = formats::ActivationFormat::bf16();
      desc.n = shape.n;
      desc.k = shape.k;
      if (const Feasibility feasible = planner.can_implement(desc); !feasible) {
        result.refusals.push_back(fmt::format("{} {}x{}: {}", weights, shape.n, shape.k, feasible.reason));
        step += sizes.size();
        continue;
      }
      std::unique_ptr<Tuning> tuning;
      for (const std::int64_t m : sizes) {
        const std::string name = fmt::format("{} {}x{} M={}", weights, shape.n, shape.k, m);
        if ((options.deadline_s > 0 && seconds() - begin > options.deadline_s) ||
            (options.progress && !options.progress(step, steps, name))) {
          result.complete = false;
          return result;
        }
        ++step;
        if (!tuning) tuning = std::make_unique<Tuning>(bench, desc, sizes, options);
        TuneRow row = tuning->tune(m, result.failures);
        row.weights = weights;
        result.table.put(desc, m, row.choice);
        result.rows.push_back(std::move(row));
      }
    }
  return result;
}

}  // namespace sabrewing::kernels::cuda
