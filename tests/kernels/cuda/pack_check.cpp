// Packs weights on the device of this machine, compares every byte with the packing on the host, and times
// it.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fstream>
#include <nlohmann/json.hpp>

#include "jit/cubin_cache.h"
#include "kernels/cuda/bench/gemm_cell.h"
#include "kernels/cuda/gemm/device_packer.h"

namespace sabrewing::kernels::cuda {
namespace {

constexpr std::size_t kGuardBytes = 4096;

struct Options {
  std::vector<std::string> timed{"mxfp4", "int4g128", "fp8row", "nvfp4", "int8:row:fp32"};
  std::string shape = "8192x8192";
  double target = 200;  // GB/s
  std::string out;
};

class Check {
 public:
  explicit Check(const Options& options)
      : options_(options),
        bench_(jit::Device::open(), std::make_shared<jit::Compiler>(jit::CompilerOptions{
                                        std::nullopt, jit::CubinCache::open_default()})) {}

  int run() {
    for (const char* name : {"mxfp4", "int4g128", "int4g64", "int4row", "fp8row"})
      for (const auto& [n, k] : {std::pair{33, 384}, {200, 2944}})
        compare(name, "bf16", Accuracy::kDefault, n, k);
    for (const CoveredPair& pair : covering_set()) {
      const std::int64_t group = format_by_name(pair.format).block.k;
      compare(pair.format, pair.activation, pair.accuracy, 130,
              group > 0 ? (500 + group) / group * group : 500);
    }
    const auto x = options_.shape.find('x');
    const std::int64_t n = std::stoll(options_.shape.substr(0, x)),
                       k = std::stoll(options_.shape.substr(x + 1));
    for (const std::string& name : options_.timed) time(name, "bf16", n, k);
    time("mxfp4", "fp8", n, k);
    if (!options_.out.empty()) std::ofstream(options_.out) << rows_.dump(1) << "\n";
    fmt::print("{} weights compared, {} differ; slowest {:.0f} GB/s of {}, at least {:.0f} asked\n",
               compared_, failures_, slowest_, slowest_name_, options_.target);
    return failures_ == 0 && slowest_ >= options_.target ? 0 : 1;
  }

 private:
  void compare(const std::string& name, const std::string& activation, Accuracy accuracy, std::int64_t n,
               std::int64_t k) {
    RandomWeight weight(format_by_name(name), n, k, 11);
    const WeightLayout layout = weight_layout(weight.format, activation_by_name(activation), accuracy);
    // More binades than are exact, in every second row.
    if (layout.encoding == WeightLayout::Encoding::kE2M1Folded)
      for (std::size_t i = 0; i < weight.scales.size(); ++i)
        if (i / static_cast<std::size_t>(weight.groups) % 2 == 0)
          weight.scales[i] = static_cast<std::byte>(100 + i * 7 % 24);
    ++compared_;
    try {
      const PackedHostWeight expected = pack_weight(weight.source(), layout);
      const jit::DeviceBuffer out(bench_.device(), expected.bytes.size() + kGuardBytes);
      jit::set_bytes(out.data(), 0x5a, out.size(), bench_.stream());
      const DevicePacker packer(bench_.device(), bench_.compiler(), weight.format, layout);
      packer.pack(weight.source(), out.data(), bench_.stream());
      std::vector<std::byte> got(out.size());
      jit::copy_to_host(got, out.data(), bench_.stream());
      jit::synchronize(bench_.stream());
      for (std::size_t i = 0; i < got.size(); ++i) {
        const std::byte want = i < expected.bytes.size() ? expected.bytes[i] : std::byte{0x5a};
        SABREWING_CHECK(got[i] == want, kInternal,
                        "byte {} of {} (slab {} at {} of {}, factors from {}) is {:#x}, {:#x} expected", i,
                        expected.bytes.size(), i / layout.slab_bytes(), i % layout.slab_bytes(),
                        layout.slab_bytes(), expected.shape.factor_offset, std::to_integer<int>(got[i]),
                        std::to_integer<int>(want));
      }
    } catch (const Error& error) {
      ++failures_;
      fmt::print("  FAIL {} x {} {}x{}: {}\n", name, activation, n, k, error.what());
      std::fflush(stdout);
      if (error.code() == ErrorCode::kDevice) throw;
    }
  }

  void time(const std::string& format, const std::string& activation, std::int64_t n, std::int64_t k) {
    const RandomWeight weight(format_by_name(format), n, k, 11);
    const WeightLayout layout = weight_layout(weight.format, activation_by_name(activation));
    const std::string name = activation == "bf16" ? format : format + " x " + activation;
    const PackedShape shape = PackedShape::of(layout, n, k);
    WeightSource source = weight.source();
    std::vector<jit::DeviceBuffer> buffers;
    const auto upload = [&](const std::byte*& from, const std::vector<std::byte>& bytes) {
      if (from == nullptr) return;
      buffers.push_back(bench_.upload(bytes));
      from = buffers.back().as<std::byte>();
    };
    upload(source.parts[0].values, weight.values);
    upload(source.parts[0].scales, weight.scales);
    upload(source.parts[0].zeros, weight.zeros);
    const jit::DeviceBuffer out(bench_.device(), shape.bytes),
        scratch(bench_.device(), DevicePacker::scratch_bytes(n));
    const DevicePacker packer(bench_.device(), bench_.compiler(), weight.format, layout);
    const double us =
        bench_.time([&](int) { packer.enqueue(source, out.data(), scratch.data(), bench_.stream()); }, 100,
                    Timing::kSteady);
    const auto bytes = static_cast<double>(weight.values.size() + weight.scales.size());
    const double rate = bytes / us * 1e-3;
    fmt::print("{:16} {}x{} {:9.1f} us {:7.0f} GB/s of checkpoint\n", name, n, k, us, rate);
    std::fflush(stdout);
    rows_.push_back(
        {{"n", n}, {"k", k}, {"weights", name}, {"us", us}, {"gb_per_s", rate}, {"impl", "sabrewing"}});
    if (slowest_name_.empty() || rate < slowest_) {
      slowest_ = rate;
      slowest_name_ = name;
    }
  }

  const Options& options_;
  BenchDevice bench_;
  nlohmann::json rows_ = nlohmann::json::array();
  int compared_ = 0, failures_ = 0;
  double slowest_ = 0;
  std::string slowest_name_;
};

}  // namespace
}  // namespace sabrewing::kernels::cuda

int main(int argc, char** argv) {
  sabrewing::kernels::cuda::Options options;
  CLI::App app("Checks and times packing on a GPU");
  app.add_option("--timed", options.timed, "Weight formats to time")->delimiter(',');
  app.add_option("--shape", options.shape, "NxK to time");
  app.add_option("--target", options.target, "GB/s that each must reach");
  app.add_option("--out", options.out, "JSON file of times");
  CLI11_PARSE(app, argc, argv);
  try {
    return sabrewing::kernels::cuda::Check(options).run();
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 2;
  }
}
