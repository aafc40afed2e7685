#include <fmt/core.h>
#include <unistd.h>

#include "cli/command.h"
#include "cli/progress.h"
#include "core/error.h"
#include "core/json.h"
#include "core/thread_pool.h"
#include "jit/cubin_cache.h"
#include "jit/device.h"
#include "jit/driver.h"
#include "jit/nvrtc_library.h"
#include "kernels/cpu/tier.h"

namespace sabrewing::cli {
namespace {

struct Finding {
  std::string what;
  bool found;
  std::string detail;
};

std::vector<Finding> examine() {
  using kernels::cpu::CpuTier;
  std::vector<Finding> findings;
  const kernels::cpu::CpuFeatures& features = kernels::cpu::cpu_features();
  findings.push_back(
      {"processor", true,
       fmt::format("{}, {} available to this process", features.brand, available_processors())});
  for (const CpuTier tier : {CpuTier::kScalar, CpuTier::kAvx2, CpuTier::kAvx512}) {
    const bool has = kernels::cpu::supports(features, tier);
    std::string detail =
        has ? (tier == kernels::cpu::best_tier(features) ? "used by default" : "available with --cpu-tier")
            : "not supported by this processor or operating system";
    if (tier == CpuTier::kAvx512 && has)
      detail += features.avx512_bf16 ? "; BF16 dot products" : "; no BF16 dot products";
    findings.push_back({fmt::format("cpu tier {}", to_string(tier)), has, detail});
  }
  const auto pages = static_cast<std::size_t>(std::max(0L, ::sysconf(_SC_PHYS_PAGES)));
  const auto free_pages = static_cast<std::size_t>(std::max(0L, ::sysconf(_SC_AVPHYS_PAGES)));
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  findings.push_back(
      {"memory", true,
       fmt::format("{}, {} free", format_bytes(pages * page), format_bytes(free_pages * page))});

  const Feasibility driver = jit::driver_available();
  if (driver.ok) {
    const int version = jit::driver_version();
    findings.push_back(
        {"NVIDIA driver", true, fmt::format("CUDA {}.{}", version / 1000, version % 1000 / 10)});
    for (int i = 0; i < jit::device_count(); ++i) {
      const jit::DeviceInfo info = jit::Device::open(i)->info();
      findings.push_back(
          {fmt::format("gpu {}", i), true,
           fmt::format("{}, compute {}.{}, {} multiprocessors, {}", info.name, info.compute_major,
                       info.compute_minor, info.multiprocessors, format_bytes(info.memory_bytes))});
    }
  } else {
    findings.push_back({"NVIDIA driver", false, driver.reason});
  }
  try {
    const jit::NvrtcLibrary nvrtc;
    findings.push_back(
        {"run-time compiler", true, fmt::format("{} at {}", nvrtc.version_text(), nvrtc.path())});
  } catch (const Error& error) {
    findings.push_back({"run-time compiler", false, error.what()});
  }
  const auto cache = jit::CubinCache::default_folder();
  findings.push_back({"kernel cache", cache.has_value(),
                      cache ? cache->string() : "no folder: set SABREWING_CACHE_DIR or HOME"});
  return findings;
}

int doctor(bool json) {
  const std::vector<Finding> findings = examine();
  if (json) {
    Json rows = Json::array();
    for (const Finding& f : findings)
      rows.push_back({{"what", f.what}, {"found", f.found}, {"detail", f.detail}});
    fmt::print("{}\n", Json({{"version", SABREWING_VERSION}, {"findings", rows}}).dump(2));
    return 0;
  }
  std::vector<std::vector<std::string>> table{{"what", "found", "detail"}};
  for (const Finding& f : findings) table.push_back({f.what, f.found ? "yes" : "no", f.detail});
  fmt::print("{}", format_table(table));
  return 0;
}

}  // namespace

void add_doctor(CLI::App& app, Action& action) {
  auto json = std::make_shared<bool>(false);
  CLI::App* command =
      app.add_subcommand("doctor", "Show what this machine offers: CPU tiers, memory, GPUs, libraries");
  command->add_flag("--json", *json, "Print one JSON object");
  command->footer("Example:\n  sabrewing doctor");
  command->callback([json, &action] { action = [json] { return doctor(*json); }; });
}

}  // namespace sabrewing::cli
