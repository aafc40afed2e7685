#include <fmt/core.h>

#include <cmath>

#include "cli/command.h"
#include "cli/progress.h"
#include "core/json.h"
#include "core/mapped_file.h"
#include "kernels/cuda/bench/tuner.h"

namespace sabrewing::cli {
namespace {

namespace cuda = kernels::cuda;

// A choice may be so much slower than the best of its candidates when they are timed again.
constexpr double kRerunTolerance = 1.03;

struct TuneArguments {
  std::string shapes;
  std::vector<std::string> weights;
  std::vector<std::string> activations;
  std::vector<std::int64_t> m;
  std::size_t limit = 8;
  std::string out;
  double deadline_s = 0;
  std::int64_t burst_from = 128;
  bool rerun = false;
  bool json = false;
};

Json json_of(const cuda::TuneRow& row) {
  Json slower = Json::array();
  for (const auto& [kernel, us] : row.choice.slower) slower.push_back({{"kernel", kernel}, {"us", us}});
  return {{"n", row.n},
          {"k", row.k},
          {"m", row.m},
          {"weights", row.weights},
          {"activations", row.activations},
          {"impl", "sabrewing"},
          {"kernel", row.choice.kernel},
          {"us", row.choice.us},
          {"us_first_choice", row.us_model},
          {"rerun_us", row.rerun_us},
          {"rerun_best_us", row.rerun_best_us},
          {"slower", std::move(slower)}};
}

int tune(const TuneArguments& options) {
  cuda::TuneOptions tuning;
  tuning.cases = options.shapes.empty() ? cuda::default_gemm_bench_cases()
                                        : cuda::parse_gemm_bench_cases(
                                              read_text_file(options.shapes, kShapesLimit), options.shapes);
  if (!options.weights.empty()) tuning.cases.weights = options.weights;
  if (!options.activations.empty()) tuning.cases.activations = options.activations;
  tuning.cases.m = options.m;
  tuning.limit = options.limit;
  tuning.rerun = options.rerun;
  tuning.deadline_s = options.deadline_s;
  tuning.burst_from = options.burst_from;
  const auto file =
      options.out.empty() ? cuda::default_tuning_file() : std::optional<std::filesystem::path>(options.out);
  SABREWING_CHECK(
      file.has_value(), kInvalidArgument,
      "[tune] no place for the choices: give --out, or set SABREWING_TUNING, SABREWING_CACHE_DIR or HOME");
  catch_interrupt();
  cuda::TuneResult result;
  {
    ProgressBar bar("tuning");
    tuning.progress = [&](std::size_t step, std::size_t steps, const std::string& name) {
      bar.update(step, steps, name);
      return !interrupted();
    };
    result = cuda::tune_gemm(tuning);
  }
  if (result.table.size() > 0) cuda::store_tuning(*file, result.table);
  for (const std::string& refusal : result.refusals)
    fmt::print(stderr, "sabrewing: not tuned: {}\n", refusal);
  for (const std::string& failure : result.failures) fmt::print(stderr, "sabrewing: wrong: {}\n", failure);
  double gain = 0, worst = 1;
  int behind = 0;
  for (const cuda::TuneRow& row : result.rows) {
    if (row.us_model > 0) gain += std::log(row.us_model / row.choice.us);
    if (row.rerun_us <= 0) continue;
    worst = std::max(worst, row.rerun_us / row.rerun_best_us);
    behind += row.rerun_us > kRerunTolerance * row.rerun_best_us;
  }
  if (options.json) {
    Json rows = Json::array();
    for (const cuda::TuneRow& row : result.rows) rows.push_back(json_of(row));
    fmt::print("{}\n", Json({{"complete", result.complete},
                             {"refused", result.refusals},
                             {"failures", result.failures},
                             {"rows", std::move(rows)}})
                           .dump(1));
  } else {
    std::vector<std::vector<std::string>> table{
        {"N", "K", "weights", "activations", "M", "us", "model's", "kernel"}};
    for (const cuda::TuneRow& row : result.rows)
      table.push_back({fmt::format("{}", row.n), fmt::format("{}", row.k), row.weights, row.activations,
                       fmt::format("{}", row.m), fmt::format("{:.2f}", row.choice.us),
                       fmt::format("{:.2f}", row.us_model), row.choice.kernel});
    fmt::print("{}", format_table(table));
  }
  const auto count = static_cast<double>(std::max<std::size_t>(1, result.rows.size()));
  fmt::print(options.json ? stderr : stdout,
             "{} sizes in {}, {:.1f} % faster than the cost model's choices{}\n", result.rows.size(),
             file->string(), 100 * (std::exp(gain / count) - 1),
             options.rerun ? fmt::format("; on a rerun {} choices more than 3 % behind, the worst {:.1f} %",
                                         behind, 100 * (worst - 1))
                           : "");
  return result.complete && result.failures.empty() && behind == 0 ? 0 : 1;
}

}  // namespace

void add_tune(CLI::App& app, Action& action) {
  auto options = std::make_shared<TuneArguments>();
  CLI::App* command = app.add_subcommand("tune", "Time matrix kernels on this GPU and keep the choices");
  add_flag_option(*command, "--shapes", options->shapes,
                  "JSON file like bench/shapes_cuda.json, which is built in");
  add_flag_option(*command, "--weights", options->weights, "Weight formats, as mxfp4,int4g128,fp8row")
      ->delimiter(',');
  add_flag_option(*command, "--activations", options->activations,
                  "Activation formats, as bf16,fp8,int8,fp8g128")
      ->delimiter(',');
  add_flag_option(*command, "--m", options->m, "Only the intervals with these numbers of rows")
      ->delimiter(',')
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20));
  add_flag_option(*command, "--limit", options->limit, "Candidates to time for each size")
      ->check(CLI::Range(std::size_t{1}, std::size_t{1000}))
      ->capture_default_str();
  add_flag_option(*command, "--out", options->out,
                  "Tuning file; without it SABREWING_TUNING, else tuning.json in the cache folder");
  add_flag_option(*command, "--deadline", options->deadline_s,
                  "Seconds after which no further size begins; 0: none")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  add_flag_option(*command, "--burst-from", options->burst_from,
                  "From this many rows, rest before each burst")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--rerun", options->rerun,
                    "Time the fastest again; exit with 1 when a choice is 3 % behind the best");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->footer(
      "Examples:\n  sabrewing tune\n  sabrewing tune --weights mxfp4 --m 1,16,64 --rerun\n"
      "  sabrewing tune --weights mxfp4,fp8row --activations fp8");
  command->callback([options, &action] { action = [options] { return tune(*options); }; });
}

}  // namespace sabrewing::cli
