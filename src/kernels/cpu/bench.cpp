#include "kernels/cpu/bench.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <random>

#include "core/buffer.h"
#include "core/embedded.h"
#include "core/error.h"
#include "core/json.h"
#include "core/thread_pool.h"
#include "kernels/cpu/experts.h"
#include "kernels/cpu/gemm.h"

namespace sabrewing::embedded {
extern const EmbeddedFile kBenchShapes[];
extern const std::size_t kBenchShapesCount;
}  // namespace sabrewing::embedded

namespace sabrewing::kernels::cpu {
namespace {

using Clock = std::chrono::steady_clock;

constexpr double kPassSeconds = 2;
constexpr double kWindowSeconds = 0.01;

formats::WeightFormat parse_weight(const std::string& name, std::string_view what) {
  for (const formats::WeightFormat& format : {formats::WeightFormat::bf16(), formats::WeightFormat::fp16(),
                                              formats::WeightFormat::fp32(), formats::WeightFormat::mxfp4()})
    if (formats::to_string(format) == name) return format;
  fail(ErrorCode::kCorrupt, "[bench] {}: weight \"{}\" is not one of {}", what, name, supported_weights());
}

/// Fields of one entry of a shapes file.
class Entry {
 public:
  Entry(const Json& json, std::string_view what) : json_(json), what_(what) {
    SABREWING_CHECK(json.is_object(), kCorrupt, "[bench] {}: an entry is not an object", what);
  }
  std::int64_t integer(const char* name, std::optional<std::int64_t> fallback = {}) const {
    const auto found = json_.find(name);
    if (found == json_.end() && fallback) return *fallback;
    constexpr std::int64_t kLargest = std::int64_t{1} << 24;
    SABREWING_CHECK(found != json_.end() && found->is_number_integer() && found->get<std::int64_t>() >= 0 &&
                        found->get<std::int64_t>() <= kLargest,
                    kCorrupt, "[bench] {}: \"{}\" is not an integer from 0 to {}", what_, name, kLargest);
    return found->get<std::int64_t>();
  }
  double fraction(const char* name) const {
    const auto found = json_.find(name);
    if (found == json_.end()) return 0;
    SABREWING_CHECK(found->is_number(), kCorrupt, "[bench] {}: \"{}\" is not a number", what_, name);
    return found->get<double>();
  }
  std::string text(const char* name, std::optional<std::string> fallback = {}) const {
    const auto found = json_.find(name);
    if (found == json_.end() && fallback) return *fallback;
    SABREWING_CHECK(found != json_.end() && found->is_string(), kCorrupt,
                    "[bench] {}: \"{}\" is not a string", what_, name);
    return found->get<std::string>();
  }
  KernelBenchCase common() const {
    KernelBenchCase test;
    test.weight = parse_weight(text("weight"), what_);
    test.m = integer("m");
    test.threads = static_cast<int>(integer("threads", 0));
    const std::string accuracy = text("accuracy", "default");
    SABREWING_CHECK(accuracy == "default" || accuracy == "exact", kCorrupt,
                    "[bench] {}: accuracy \"{}\" is not default or exact", what_, accuracy);
    test.accuracy = accuracy == "exact" ? Accuracy::kExact : Accuracy::kDefault;
    test.min_read_fraction = fraction("min_read_fraction");
    test.min_op_fraction = fraction("min_op_fraction");
    return test;
  }

 private:
  const Json& json_;
  std::string_view what_;
};

std::string describe(const KernelBenchCase& test) {
  std::string shape = test.intermediate == 0
                          ? fmt::format("{}x{}", test.n, test.k)
                          : fmt::format("{} {} experts top {} {}x{}", test.name, test.experts, test.top_k,
                                        test.n, test.intermediate);
  if (test.accuracy == Accuracy::kExact) shape += " exact";
  return shape;
}

/// Random finite weights in checkpoint layout.
struct RandomRows {
  std::vector<std::byte> values;
  std::vector<std::byte> scales;

  RandomRows(const formats::WeightFormat& format, std::int64_t rows, std::int64_t k, std::mt19937& random) {
    const WeightKind kind = weight_kind(format).value();
    const auto count = static_cast<std::size_t>(rows * k);
    values.resize(kind == WeightKind::kMXFP4 ? count / 2 : kind == WeightKind::kFP32 ? count * 4 : count * 2);
    for (std::size_t i = 0; i + 4 <= values.size(); i += 4) {
      auto word = static_cast<std::uint32_t>(random());
      // 16- and 32-bit floats: keep the exponents near zero's.
      if (kind == WeightKind::kFP32) word = (word & 0x807fffff) | 0x3c000000;
      if (kind == WeightKind::kBF16) word = (word & 0x807f807f) | 0x3c003c00;
      if (kind == WeightKind::kFP16) word = (word & 0x83ff83ff) | 0x24002400;
      std::memcpy(values.data() + i, &word, sizeof(word));
    }
    if (kind == WeightKind::kMXFP4) scales.resize(count / 32);
    for (std::byte& scale : scales) scale = static_cast<std::byte>(118 + random() % 8);
    part.values = values.data();
    part.row_stride = static_cast<std::int64_t>(values.size()) / rows;
    part.scales = scales.empty() ? nullptr : scales.data();
    part.scale_row_stride = static_cast<std::int64_t>(scales.size()) / rows;
    part.rows = rows;
  }

  WeightRows part;
};

std::vector<float> random_floats(std::int64_t count, std::mt19937& random) {
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(random);
  return values;
}

DeviceBuffer duplicate(const DeviceBuffer& from, ThreadPool& pool) {
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  DeviceBuffer to = allocate_host(from.bytes);
  pool.parallel_for(
      static_cast<std::int64_t>((from.bytes + kChunk - 1) / kChunk), [&](std::int64_t index, int) {
        const std::size_t first = static_cast<std::size_t>(index) * kChunk;
        std::memcpy(static_cast<std::byte*>(to.data) + first,
                    static_cast<const std::byte*>(from.data) + first, std::min(kChunk, from.bytes - first));
      });
  return to;
}

/// Calls `call(copy)` over all copies in turn, `passes` times. Returns seconds per call of each window of at
/// least kWindowSeconds, sorted: short windows find the moments in which nobody else used the processors.
std::vector<double> time_windows(int passes, std::size_t copies,
                                 const std::function<void(std::size_t copy)>& call) {
  std::vector<double> times;
  call(copies - 1);
  for (int pass = 0; pass < passes; ++pass) {
    const Clock::time_point start = Clock::now();
    Clock::time_point window = start;
    std::size_t calls = 0;
    double elapsed = 0;
    for (std::size_t copy = 0; copy < copies && (copy == 0 || elapsed < kPassSeconds); ++copy) {
      call(copy);
      ++calls;
      const Clock::time_point end = Clock::now();
      elapsed = std::chrono::duration<double>(end - start).count();
      const double seconds = std::chrono::duration<double>(end - window).count();
      if (seconds < kWindowSeconds && copy + 1 < copies) continue;
      times.push_back(seconds / static_cast<double>(calls));
      window = end;
      calls = 0;
    }
  }
  std::sort(times.begin(), times.end());
  return times;
}

class Bench {
 public:
  Bench(const KernelBenchOptions& options, std::size_t rotate_bytes, int all_threads)
      : options_(options), rotate_bytes_(rotate_bytes), all_threads_(all_threads) {}

  KernelBenchRow time(const KernelBenchCase& test) {
    KernelBenchRow row;
    row.test = test;
    row.threads = test.threads > 0 ? test.threads : all_threads_;
    ThreadPool pool(row.threads);
    const std::vector<double> times =
        test.intermediate == 0 ? time_gemm(test, pool, row) : time_experts(test, pool, row);
    row.seconds = times.front();
    row.median_seconds = times[times.size() / 2];
    return row;
  }

 private:
  std::size_t copies_of(std::size_t bytes) const {
    return std::max<std::size_t>(1, (rotate_bytes_ + bytes - 1) / bytes);
  }

  std::vector<double> time_gemm(const KernelBenchCase& test, ThreadPool& pool, KernelBenchRow& row) {
    const Gemm gemm(options_.tier, cpu_features(), pool);
    const GemmDesc desc{test.weight,  gemm.preferred_activation(test.weight, test.accuracy),
                        DType::kF32,  test.n,
                        test.k,       false,
                        test.accuracy};
    const GemmPlanPtr plan = gemm.plan(desc);
    row.kernel = plan->kernel_name();
    std::vector<PackedWeight> weights;
    {
      const RandomRows rows(test.weight, test.n, test.k, random_);
      weights.push_back(gemm.pack(*plan, {test.weight, test.k, {rows.part}}));
    }
    const std::size_t copies = copies_of(weights[0].bytes.bytes);
    for (std::size_t i = 1; i < copies; ++i) {
      weights.push_back(weights[0]);
      weights.back().bytes = duplicate(weights[0].bytes, pool);
    }
    std::vector<float> a = random_floats(test.m * test.k, random_);
    std::vector<float> c(static_cast<std::size_t>(test.m * test.n));
    HostBuffer workspace(plan->workspace_bytes(test.m));
    GemmArgs args;
    args.a = {a.data(), DType::kF32, test.m, test.k, test.k};
    args.c = {c.data(), DType::kF32, test.m, test.n, test.n};
    args.workspace = workspace.data();
    row.weight_bytes = static_cast<double>(weights[0].bytes.bytes);
    row.ops = 2.0 * static_cast<double>(test.m) * static_cast<double>(test.n) * static_cast<double>(test.k);
    return time_windows(options_.passes, copies, [&](std::size_t copy) {
      args.b = &weights[copy];
      gemm.run(*plan, args);
    });
  }

  std::vector<double> time_experts(const KernelBenchCase& test, ThreadPool& pool, KernelBenchRow& row) {
    const Experts experts(options_.tier, cpu_features(), pool);
    ExpertsDesc desc;
    desc.weight = test.weight;
    desc.experts = test.experts;
    desc.hidden = test.n;
    desc.intermediate = test.intermediate;
    desc.top_k = static_cast<int>(test.top_k);
    desc.activation = test.activation;
    desc.limit = 7;
    desc.accuracy = test.accuracy;
    const ExpertsPlanPtr plan = experts.plan(desc);
    row.kernel = plan->kernel_name();
    std::vector<PackedExperts> weights;
    {
      const RandomRows gate(test.weight, test.intermediate, test.n, random_);
      const RandomRows up(test.weight, test.intermediate, test.n, random_);
      const RandomRows down(test.weight, test.n, test.intermediate, random_);
      const std::vector<ExpertSource> sources(static_cast<std::size_t>(test.experts),
                                              {gate.part, up.part, down.part});
      weights.push_back(experts.pack(*plan, sources, {}, {}));
    }
    const std::size_t layer_bytes = weights[0].w13.bytes.bytes + weights[0].w2.bytes.bytes;
    const std::size_t copies = copies_of(layer_bytes);
    for (std::size_t i = 1; i < copies; ++i) {
      weights.push_back(weights[0]);
      weights.back().w13.bytes = duplicate(weights[0].w13.bytes, pool);
      weights.back().w2.bytes = duplicate(weights[0].w2.bytes, pool);
    }

    // Distinct random experts for each token, other ones for each call.
    constexpr std::size_t kRoutings = 16;
    const std::int64_t slots = test.m * test.top_k;
    std::vector<std::vector<std::int32_t>> ids(kRoutings);
    double active = 0;
    for (auto& routing : ids) {
      std::vector<std::int32_t> order(static_cast<std::size_t>(test.experts));
      for (std::size_t e = 0; e < order.size(); ++e) order[e] = static_cast<std::int32_t>(e);
      std::vector<bool> seen(order.size());
      for (std::int64_t token = 0; token < test.m; ++token) {
        std::shuffle(order.begin(), order.end(), random_);
        routing.insert(routing.end(), order.begin(), order.begin() + test.top_k);
      }
      for (const std::int32_t id : routing) seen[static_cast<std::size_t>(id)] = true;
      active += static_cast<double>(std::count(seen.begin(), seen.end(), true)) / kRoutings;
    }
    const std::vector<float> expert_weights(static_cast<std::size_t>(slots),
                                            1.0f / static_cast<float>(test.top_k));
    std::vector<float> x = random_floats(test.m * test.n, random_);
    std::vector<float> y(x.size());
    HostBuffer workspace(plan->workspace_bytes(test.m));
    ExpertsArgs args;
    args.x = {x.data(), DType::kF32, test.m, test.n, test.n};
    args.y = {y.data(), DType::kF32, test.m, test.n, test.n};
    args.expert_weights = expert_weights.data();
    args.workspace = workspace.data();
    row.weight_bytes = static_cast<double>(layer_bytes) / static_cast<double>(test.experts) * active;
    row.ops = 6.0 * static_cast<double>(slots) * static_cast<double>(test.n) *
              static_cast<double>(test.intermediate);
    // Few tokens read a part of a layer: enough calls to read every copy's bytes once.
    const auto calls = static_cast<std::size_t>(static_cast<double>(copies * layer_bytes) / row.weight_bytes);
    std::size_t routing = 0;
    return time_windows(options_.passes, std::max(copies, calls), [&](std::size_t call) {
      args.weights = &weights[call % copies];
      args.expert_ids = ids[routing++ % kRoutings].data();
      experts.run(*plan, args);
    });
  }

  const KernelBenchOptions& options_;
  std::size_t rotate_bytes_;
  int all_threads_;
  std::mt19937 random_{1};
};

MachineRates best_of(const MachineRates& a, const MachineRates& b) {
  MachineRates best = a;
  best.read_bytes_per_second = std::max(a.read_bytes_per_second, b.read_bytes_per_second);
  best.int8_ops_per_second = std::max(a.int8_ops_per_second, b.int8_ops_per_second);
  best.bf16_ops_per_second = std::max(a.bf16_ops_per_second, b.bf16_ops_per_second);
  best.fp32_ops_per_second = std::max(a.fp32_ops_per_second, b.fp32_ops_per_second);
  return best;
}

void add_fractions(const MachineRates& rates, KernelBenchRow& row) {
  row.read_fraction = row.weight_bytes / row.seconds / rates.read_bytes_per_second;
  double peak = rates.fp32_ops_per_second;
  row.op_rate = "fp32";
  const bool exact = row.test.accuracy == Accuracy::kExact;
  if (!exact && row.test.weight == formats::WeightFormat::mxfp4() && rates.int8_ops_per_second > 0) {
    peak = rates.int8_ops_per_second;
    row.op_rate = "int8";
  } else if (!exact && row.test.weight == formats::WeightFormat::bf16() && rates.bf16_ops_per_second > 0) {
    peak = rates.bf16_ops_per_second;
    row.op_rate = "bf16";
  }
  row.op_fraction = peak > 0 ? row.ops / row.seconds / peak : 0;
  row.fp32_fraction = rates.fp32_ops_per_second > 0 ? row.ops / row.seconds / rates.fp32_ops_per_second : 0;
}

const char* compiler_name() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

}  // namespace

std::vector<KernelBenchCase> parse_kernel_bench_cases(std::string_view json, std::string_view what) {
  const Json root = parse_json(json, what);
  SABREWING_CHECK(root.is_object(), kCorrupt, "[bench] {}: not an object", what);
  std::vector<KernelBenchCase> cases;
  const auto each = [&](const char* list, const auto& read) {
    const auto found = root.find(list);
    if (found == root.end()) return;
    SABREWING_CHECK(found->is_array(), kCorrupt, "[bench] {}: \"{}\" is not a list", what, list);
    for (const Json& item : *found) {
      const Entry entry(item, what);
      KernelBenchCase test = entry.common();
      read(entry, test);
      SABREWING_CHECK(test.m >= 1 && test.n >= 1 && test.k >= 1, kCorrupt,
                      "[bench] {}: a size of 0 in \"{}\"", what, list);
      cases.push_back(test);
    }
  };
  each("gemm", [](const Entry& entry, KernelBenchCase& test) {
    test.n = entry.integer("n");
    test.k = entry.integer("k");
  });
  each("experts", [&](const Entry& entry, KernelBenchCase& test) {
    test.name = entry.text("name");
    test.n = test.k = entry.integer("hidden");
    test.intermediate = entry.integer("intermediate");
    test.experts = entry.integer("experts");
    test.top_k = entry.integer("top_k");
    const std::string activation = entry.text("activation", "silu");
    SABREWING_CHECK(activation == "silu" || activation == "clamped_swiglu", kCorrupt,
                    "[bench] {}: activation \"{}\" is not silu or clamped_swiglu", what, activation);
    test.activation = activation == "silu" ? GluActivation::kSilu : GluActivation::kClampedSwiGlu;
    SABREWING_CHECK(test.intermediate >= 1 && test.top_k >= 1 && test.top_k <= test.experts, kCorrupt,
                    "[bench] {}: {} experts, top {}, intermediate {} is not a valid shape", what,
                    test.experts, test.top_k, test.intermediate);
  });
  return cases;
}

std::vector<KernelBenchCase> default_kernel_bench_cases() {
  const embedded::EmbeddedFile& file = embedded::kBenchShapes[0];
  return parse_kernel_bench_cases({file.data, file.size}, file.path);
}

KernelBenchResult run_kernel_bench(const KernelBenchOptions& options) {
  SABREWING_CHECK(options.passes >= 1, kInvalidArgument, "[bench] {} passes: at least one expected",
                  options.passes);
  KernelBenchResult result;
  const int all_threads = options.threads > 0 ? options.threads : available_processors();
  result.tier = options.tier;
  result.processor = cpu_features().brand;
  result.cpuid = cpu_features().cpuid;
  result.compiler = compiler_name();
  result.last_level_cache = last_level_cache_bytes();
  result.rotate_bytes = options.rotate_bytes > 0 ? options.rotate_bytes : 4 * result.last_level_cache;

  std::map<int, MachineRates> rates;
  for (const KernelBenchCase& test : options.cases) rates[test.threads > 0 ? test.threads : all_threads] = {};
  std::size_t step = 0;
  const std::size_t steps = options.cases.size() + 2 * rates.size();
  const auto go_on = [&](const std::string& name) {
    result.complete = result.complete && (!options.progress || options.progress(step, steps, name));
    ++step;
    return result.complete;
  };
  const auto measure_all = [&] {
    for (auto& [threads, best] : rates)
      if (go_on(fmt::format("rates of {} threads", threads)))
        best = best_of(measure_rates(threads, options.tier, result.rotate_bytes), best);
  };
  measure_all();
  Bench bench(options, result.rotate_bytes, all_threads);
  for (const KernelBenchCase& test : options.cases)
    if (go_on(describe(test))) result.rows.push_back(bench.time(test));
  measure_all();
  for (auto& [threads, best] : rates) {
    best.threads = threads;
    result.rates.push_back(best);
  }
  for (KernelBenchRow& row : result.rows) add_fractions(rates[row.threads], row);
  return result;
}

std::string format_kernel_bench(const KernelBenchResult& result) {
  std::string text = fmt::format("{}, tier {}, last-level cache {:.0f} MB, weights rotate over {:.0f} MB\n",
                                 result.processor, to_string(result.tier),
                                 static_cast<double>(result.last_level_cache) / 1e6,
                                 static_cast<double>(result.rotate_bytes) / 1e6);
  for (const MachineRates& r : result.rates)
    text +=
        fmt::format("{} thread{}: read {:.1f} GB/s; int8 {:.0f}, bf16 {:.0f}, fp32 {:.0f} Gop/s\n", r.threads,
                    r.threads == 1 ? "" : "s", r.read_bytes_per_second / 1e9, r.int8_ops_per_second / 1e9,
                    r.bf16_ops_per_second / 1e9, r.fp32_ops_per_second / 1e9);
  std::size_t width = 5;
  for (const KernelBenchRow& row : result.rows) width = std::max(width, describe(row.test).size());
  text += fmt::format("{:<{}} {:<6} {:>4} {:>7} {:>10} {:>10} {:>7} {:>7} {:>8} {:>12} {:>7}  {}\n", "shape",
                      width, "weight", "M", "threads", "us", "median us", "GB/s", "of read", "Gop/s",
                      "of op rate", "of fp32", "kernel");
  for (const KernelBenchRow& row : result.rows)
    text += fmt::format(
        "{:<{}} {:<6} {:>4} {:>7} {:>10.1f} {:>10.1f} {:>7.1f} {:>6.1f}% {:>8.1f} {:>6.1f}% {:<4} {:>6.1f}%  "
        "{}\n",
        describe(row.test), width, formats::to_string(row.test.weight), row.test.m, row.threads,
        row.seconds * 1e6, row.median_seconds * 1e6, row.weight_bytes / row.seconds / 1e9,
        100 * row.read_fraction, row.ops / row.seconds / 1e9, 100 * row.op_fraction, row.op_rate,
        100 * row.fp32_fraction, row.kernel);
  return text;
}

std::string kernel_bench_json(const KernelBenchResult& result) {
  OrderedJson rates = OrderedJson::array();
  for (const MachineRates& r : result.rates)
    rates.push_back({{"threads", r.threads},
                     {"read_bytes_per_second", r.read_bytes_per_second},
                     {"int8_ops_per_second", r.int8_ops_per_second},
                     {"bf16_ops_per_second", r.bf16_ops_per_second},
                     {"fp32_ops_per_second", r.fp32_ops_per_second}});
  OrderedJson rows = OrderedJson::array();
  for (const KernelBenchRow& row : result.rows) {
    const KernelBenchCase& test = row.test;
    OrderedJson item = {{"shape", describe(test)},
                        {"weight", formats::to_string(test.weight)},
                        {"m", test.m},
                        {"n", test.n},
                        {"k", test.k}};
    if (test.intermediate > 0) {
      item["experts"] = test.experts;
      item["top_k"] = test.top_k;
      item["intermediate"] = test.intermediate;
    }
    item["accuracy"] = test.accuracy == Accuracy::kExact ? "exact" : "default";
    item["kernel"] = row.kernel;
    item["threads"] = row.threads;
    item["seconds"] = row.seconds;
    item["median_seconds"] = row.median_seconds;
    item["weight_bytes"] = row.weight_bytes;
    item["bytes_per_second"] = row.weight_bytes / row.seconds;
    item["ops_per_second"] = row.ops / row.seconds;
    item["read_fraction"] = row.read_fraction;
    item["op_rate"] = row.op_rate;
    item["op_fraction"] = row.op_fraction;
    item["fp32_fraction"] = row.fp32_fraction;
    if (test.min_read_fraction > 0) item["min_read_fraction"] = test.min_read_fraction;
    if (test.min_op_fraction > 0) item["min_op_fraction"] = test.min_op_fraction;
    rows.push_back(std::move(item));
  }
  const OrderedJson root = {{"machine",
                             {{"processor", result.processor},
                              {"cpuid", result.cpuid},
                              {"tier", to_string(result.tier)},
                              {"compiler", result.compiler},
                              {"last_level_cache_bytes", result.last_level_cache},
                              {"rotate_bytes", result.rotate_bytes}}},
                            {"rates", rates},
                            {"rows", rows}};
  return root.dump(2) + "\n";
}

std::vector<std::string> check_kernel_bench(const KernelBenchResult& result) {
  std::vector<std::string> failures;
  if (!result.complete) failures.emplace_back("[bench] stopped before the end");
  for (const KernelBenchRow& row : result.rows) {
    const std::string name = fmt::format("{} {} M {} with {} threads", describe(row.test),
                                         formats::to_string(row.test.weight), row.test.m, row.threads);
    if (row.read_fraction < row.test.min_read_fraction)
      failures.push_back(fmt::format("[bench] {}: {:.1f} % of the read bandwidth, {:.1f} % expected", name,
                                     100 * row.read_fraction, 100 * row.test.min_read_fraction));
    if (row.op_fraction < row.test.min_op_fraction)
      failures.push_back(fmt::format("[bench] {}: {:.1f} % of the {} rate, {:.1f} % expected", name,
                                     100 * row.op_fraction, row.op_rate, 100 * row.test.min_op_fraction));
  }
  return failures;
}

}  // namespace sabrewing::kernels::cpu
