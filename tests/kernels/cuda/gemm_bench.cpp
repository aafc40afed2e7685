// Checks the CUDA GEMM kernels against float64 and times them on the device of this machine.

#include "kernels/cuda/bench/gemm_bench.h"

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "jit/cubin_cache.h"
#include "kernels/cuda/bench/gemm_cell.h"
#include "kernels/cuda/gemm/gemm_kernel.h"
#include "kernels/cuda/gemm/planner.h"

namespace sabrewing::kernels::cuda {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t kEnoughOutputs = 100'000;  // for a 99.9th percentile

struct Options {
  std::vector<std::string> formats{"mxfp4", "int4g128"};
  std::vector<std::string> activations{"bf16"};
  std::vector<std::string> shapes{"4096x4096"};
  std::vector<std::int64_t> m{1, 16, 64, 256};
  std::size_t limit = 8;
  double deadline_s = 500;
  std::string out;
  std::string only;  ///< parts of kernel names, separated by ';'
  int promote = -1;  ///< columns; below 0: as the planner has it
  bool check_only = false;
  bool report_only = false;
  bool profile = false;
  bool no_overlap = false;
  bool exact = false;
  bool race_checkable = false;
  bool float_output = false;
  std::int64_t burst_from = 128;
  std::vector<int> token_groups;
};

/// Loaded kernels by name.
class Kernels {
 public:
  explicit Kernels(BenchDevice& bench) : bench_(bench) {}
  const GemmKernel& get(const KernelShape& shape, const KernelFormats& formats) {
    const std::string key = kernel_source(shape, formats, bench_.device()->info().architecture).name;
    auto it = kernels_.find(key);
    if (it == kernels_.end())
      it = kernels_.emplace(key, GemmKernel(bench_.device(), bench_.compiler(), shape, formats)).first;
    return it->second;
  }

 private:
  BenchDevice& bench_;
  std::map<std::string, GemmKernel> kernels_;
};

/// Whether one of the parts of `only`, separated by ';', is in the name.
bool matches(const std::string& only, const std::string& name) {
  std::size_t begin = 0;
  for (std::size_t end = 0; begin <= only.size(); begin = end + 1) {
    end = std::min(only.find(';', begin), only.size());
    if (end > begin && name.find(only.substr(begin, end - begin)) != std::string::npos) return true;
  }
  return false;
}

int run(const Options& options) {
  const auto begin = Clock::now();
  const auto elapsed = [&] { return std::chrono::duration<double>(Clock::now() - begin).count(); };
  BenchDevice bench(jit::Device::open(), std::make_shared<jit::Compiler>(jit::CompilerOptions{
                                             std::nullopt, jit::CubinCache::open_default()}));
  Kernels kernels(bench);
  const DeviceModel model = DeviceModel::of(bench.device()->info());
  fmt::print("{} {} multiprocessors\n", bench.device()->info().name, model.multiprocessors);
  nlohmann::json rows = nlohmann::json::array();
  const auto save = [&] {
    if (options.out.empty()) return;
    std::ofstream(options.out) << "[\n";
    std::ofstream file(options.out);
    file << "[\n";
    for (std::size_t i = 0; i < rows.size(); ++i)
      file << rows[i].dump() << (i + 1 < rows.size() ? ",\n" : "\n");
    file << "]\n";
  };
  int failures = 0, cells = 0;
  double worst = 0, worst_p999 = 0;
  const DType output = options.float_output ? DType::kF32 : DType::kBF16;
  for (const std::string& shape_text : options.shapes) {
    const auto x = shape_text.find('x');
    const std::int64_t n = std::stoll(shape_text.substr(0, x)), k = std::stoll(shape_text.substr(x + 1));
    std::vector<GemmBenchCase> cases;
    for (const std::string& asked : options.formats)
      for (const std::string& activation : options.activations)
        cases.push_back(gemm_bench_case({shape_text, n, k}, asked, activation));
    for (const GemmBenchCase& one : cases) {
      const std::string& format = one.weights;
      const formats::ActivationFormat& activation = one.desc.activation;
      if (elapsed() > options.deadline_s) {
        fmt::print("deadline: {} {} not reached\n", shape_text, format);
        continue;
      }
      const std::int64_t max_m = *std::max_element(options.m.begin(), options.m.end());
      GemmCell cell(bench, one.desc, max_m, !options.check_only, options.check_only);
      struct Choice {
        std::int64_t m;
        Candidate candidate;
      };
      std::vector<Choice> choices;
      std::vector<jit::KernelSource> sources;
      for (const std::int64_t m : options.m) {
        GemmProblem problem{{cell.layout(), activation, output, false, false}, m, n, k, options.exact};
        if (options.promote >= 0) problem.promote = options.promote;
        for (const Candidate& c :
             candidates(model, problem, options.only.empty() ? options.limit : kEveryCandidate)) {
          if (!options.only.empty() && !matches(options.only, c.shape.to_string())) continue;
          choices.push_back({m, c});
          KernelFormats formats{cell.layout(), activation, output, c.scale_after, options.race_checkable};
          sources.push_back(kernel_source(c.shape, formats, model.architecture));
        }
      }
      const double compile_begin = elapsed();
      std::map<std::string, jit::KernelSource> distinct;
      for (const jit::KernelSource& source : sources) distinct.emplace(source.name, source);
      std::vector<jit::KernelSource> list;
      for (auto& [name, source] : distinct) list.push_back(source);
      bench.compiler().compile_all(list);
      fmt::print("{} {}: {} kernels compiled in {:.1f} s\n", shape_text, format, list.size(),
                 elapsed() - compile_begin);
      std::fflush(stdout);

      for (const std::int64_t m : options.m) {
        if (elapsed() > options.deadline_s) break;
        if (options.profile) {
          // For a profiler: three calls of each kernel, nothing else.
          for (const Choice& choice : choices) {
            if (choice.m != m) continue;
            const KernelFormats formats{cell.layout(), activation, output, choice.candidate.scale_after,
                                        options.race_checkable};
            for (int i = 0; i < 3; ++i)
              kernels.get(choice.candidate.shape, formats)
                  .enqueue(cell.operands(m, static_cast<std::size_t>(i)), bench.stream(), false);
            jit::synchronize(bench.stream());
          }
          continue;
        }
        cell.make_reference(m);
        struct Timed {
          Candidate candidate;
          double us;
        };
        std::vector<Timed> timed;
        for (const Choice& choice : choices) {
          if (choice.m != m) continue;
          const Candidate& c = choice.candidate;
          const KernelFormats formats{cell.layout(), activation, output, c.scale_after,
                                      options.race_checkable};
          const std::string name = fmt::format("{}{}", c.shape.to_string(), c.scale_after ? " after" : "");
          ++cells;
          GemmErrors errors;
          double us = 0;
          int kernel_registers = 0;
          try {
            const GemmKernel& kernel = kernels.get(c.shape, formats);
            kernel_registers = kernel.attributes().registers;
            if (kernel.attributes().local_bytes > 0) fmt::print("  {} spills\n", name);
            if (const Feasibility feasible = kernel.can_run(cell.operands(m, 0)); !feasible)
              fail(ErrorCode::kInternal, "{}", feasible.reason);
            errors = cell.check(kernel, m, output, !options.no_overlap);
            worst = std::max(worst, errors.frobenius);
            worst_p999 = std::max(worst_p999, errors.p999);
            const bool within = errors.within(error_bound(cell.layout(), c.scale_after, output)) &&
                                (m * n < kEnoughOutputs || errors.tails_within_bound());
            if (!within && !options.report_only)
              fail(ErrorCode::kInternal, "error {:.2e}, p99.9 {:.2e}", errors.frobenius, errors.p999);
            if (options.check_only) continue;
            us = bench.time(
                [&](int i) {
                  kernel.enqueue(cell.operands(m, static_cast<std::size_t>(i)), bench.stream(),
                                 !options.no_overlap);
                },
                std::max(2.0, cell.floor_us(m)), Timing::kSteady);
          } catch (const Error& error) {
            ++failures;
            fmt::print("  FAIL {} {} m={} {}: {}\n", shape_text, format, m, name, error.what());
            std::fflush(stdout);
            if (error.code() == ErrorCode::kDevice) {
              save();
              return 1;
            }
            continue;
          }
          timed.push_back({c, us});
          if (options.report_only)
            fmt::print("    {:>9.2f} us  error {:.2e} p99.9 {:.2e}  {} registers  {}\n", us, errors.frobenius,
                       errors.p999, kernel_registers, name);
          rows.push_back({{"n", n},
                          {"k", k},
                          {"m", m},
                          {"weights", format},
                          {"activations", one.activations},
                          {"impl", "sabrewing"},
                          {"kernel", name},
                          {"us", us},
                          {"floor_us", cell.floor_us(m)},
                          {"predicted_us", c.predicted_us},
                          {"error", errors.frobenius},
                          {"overlap", !options.no_overlap},
                          {"best", false}});
        }
        if (timed.empty()) continue;
        const auto first = std::min_element(timed.begin(), timed.end(), [](const Timed& a, const Timed& b) {
          return a.candidate.predicted_us < b.candidate.predicted_us;
        });
        const double first_us = first->us;
        const std::string first_name = first->candidate.shape.to_string();
        std::sort(timed.begin(), timed.end(), [](const Timed& a, const Timed& b) { return a.us < b.us; });
        const Candidate& best = timed[0].candidate;
        const GemmKernel& kernel = kernels.get(
            best.shape, {cell.layout(), activation, output, best.scale_after, options.race_checkable});
        const auto time_best = [&](bool overlap) {
          return bench.time(
              [&](int i) {
                kernel.enqueue(cell.operands(m, static_cast<std::size_t>(i)), bench.stream(), overlap);
              },
              timed[0].us, m >= options.burst_from ? Timing::kBurst : Timing::kSteady);
        };
        const double plain = time_best(false);
        const double final_us = options.no_overlap ? plain : time_best(true);
        rows.push_back({{"n", n},
                        {"k", k},
                        {"m", m},
                        {"weights", format},
                        {"activations", one.activations},
                        {"impl", "sabrewing"},
                        {"kernel", best.shape.to_string()},
                        {"us", final_us},
                        {"us_serial", plain},
                        {"us_first_choice", first_us},
                        {"first_choice", first_name},
                        {"floor_us", cell.floor_us(m)},
                        {"best", true}});
        for (const int group : options.token_groups) {
          const double us = bench.time(
              [&](int i) {
                GemmOperands operands = cell.operands(m, static_cast<std::size_t>(i));
                operands.token_group = group;
                kernel.enqueue(operands, bench.stream(), !options.no_overlap);
              },
              timed[0].us, m >= options.burst_from ? Timing::kBurst : Timing::kSteady);
          fmt::print("    token group {}: {:.2f} us, {:.2f} with the default\n", group, us, final_us);
        }
        std::string others;
        for (std::size_t i = 1; i < std::min<std::size_t>(4, timed.size()); ++i)
          others += fmt::format(" | {} {:.1f}", timed[i].candidate.shape.to_string(), timed[i].us);
        fmt::print(
            "{:>11} {:8} m={:<5} {:8.2f} us (serial {:.2f}, model's choice {:.2f}) floor {:.2f} = {:.2f}  {} "
            "p{:.1f}{}\n",
            shape_text, format, m, final_us, plain, first_us, cell.floor_us(m), cell.floor_us(m) / final_us,
            best.shape.to_string(), best.predicted_us, others);
        std::fflush(stdout);
        save();
      }
    }
  }
  fmt::print("{} cells, {} failures, worst error {:.2e}, worst p99.9 {:.2e}, {:.0f} s, {} kernels compiled\n",
             cells, failures, worst, worst_p999, elapsed(), bench.compiler().counters().compiled);
  save();
  return failures == 0 ? 0 : 1;
}

}  // namespace
}  // namespace sabrewing::kernels::cuda

int main(int argc, char** argv) {
  sabrewing::kernels::cuda::Options options;
  CLI::App app("Checks and times the CUDA GEMM kernels");
  app.add_option("--formats", options.formats)->delimiter(',');
  app.add_option("--shapes", options.shapes, "NxK")->delimiter(',');
  app.add_option("--m", options.m)->delimiter(',');
  app.add_option("--limit", options.limit, "Candidates per size");
  app.add_option("--deadline", options.deadline_s, "Seconds");
  app.add_option("--out", options.out, "JSON file");
  app.add_option("--burst-from", options.burst_from);
  app.add_option("--token-groups", options.token_groups,
                 "Also time the fastest with so many token tiles side by side")
      ->delimiter(',');
  app.add_option("--only", options.only, "Parts of kernel names, separated by ';'");
  app.add_option("--activations", options.activations)->delimiter(',');
  app.add_option("--promote", options.promote, "Columns of FP8 products before FP32 takes the sums; 0: all");
  app.add_flag("--report-only", options.report_only, "Print every kernel with its error; none is refused");
  app.add_flag("--profile", options.profile);
  app.add_flag("--check-only", options.check_only);
  app.add_flag("--no-overlap", options.no_overlap);
  app.add_flag("--exact", options.exact);
  app.add_flag("--race-checkable", options.race_checkable, "For compute-sanitizer --tool racecheck");
  app.add_flag("--float-output", options.float_output);
  CLI11_PARSE(app, argc, argv);
  try {
    return sabrewing::kernels::cuda::run(options);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
