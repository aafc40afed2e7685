#include <fmt/chrono.h>
#include <fmt/core.h>

#include "cli/command.h"
#include "cli/progress.h"
#include "core/error.h"
#include "core/json.h"
#include "jit/cache_admin.h"

namespace sabrewing::cli {
namespace {

struct CacheArguments {
  std::string folder;
  std::string archive;
  bool json = false;
};

std::filesystem::path folder_of(const CacheArguments& options) {
  if (!options.folder.empty()) return options.folder;
  const auto folder = jit::CubinCache::default_folder();
  SABREWING_CHECK(folder.has_value(), kInvalidArgument,
                  "[cache] no cache folder: give --folder, or set SABREWING_CACHE_DIR or HOME");
  return *folder;
}

int list(const CacheArguments& options) {
  const std::filesystem::path folder = folder_of(options);
  const std::vector<jit::CacheListing> entries = jit::list_cache(folder);
  std::uint64_t bytes = 0;
  Json rows = Json::array();
  std::vector<std::vector<std::string>> table{{"last used", "bytes", "architecture", "compiler", "kernel"}};
  for (const jit::CacheListing& entry : entries) {
    bytes += entry.bytes;
    const std::string used = fmt::format("{:%Y-%m-%d %H:%M}", fmt::gmtime(entry.used));
    rows.push_back({{"file", entry.file},
                    {"bytes", entry.bytes},
                    {"used", used},
                    {"architecture", entry.architecture},
                    {"compiler", entry.compiler},
                    {"kernel", entry.name},
                    {"damage", entry.damage}});
    table.push_back({used, std::to_string(entry.bytes), entry.architecture, entry.compiler,
                     entry.damage.empty() ? entry.name : "damaged: " + entry.damage});
  }
  if (options.json) {
    fmt::print("{}\n", Json({{"folder", folder.string()}, {"bytes", bytes}, {"entries", rows}}).dump(2));
    return 0;
  }
  if (!entries.empty()) fmt::print("{}", format_table(table));
  fmt::print("{} kernels, {}, in {}\n", entries.size(), format_bytes(bytes), folder.string());
  return 0;
}

int clear(const CacheArguments& options) {
  const std::filesystem::path folder = folder_of(options);
  const jit::CacheRemoval removal = jit::clear_cache(folder);
  fmt::print("removed {} kernels, {}, from {}\n", removal.entries, format_bytes(removal.bytes),
             folder.string());
  return 0;
}

int report(const jit::CacheTransfer& transfer, const char* verb) {
  fmt::print("{} {} kernels, {}{}\n", verb, transfer.entries, format_bytes(transfer.bytes),
             transfer.present > 0 ? fmt::format("; {} were there already", transfer.present) : "");
  for (const std::string& why : transfer.rejected)
    fmt::print(stderr, "sabrewing: warning: left out {}\n", why);
  return 0;
}

}  // namespace

void add_cache(CLI::App& app, Action& action) {
  auto options = std::make_shared<CacheArguments>();
  CLI::App* command = app.add_subcommand("cache", "Look after the folder of compiled GPU kernels");
  command->require_subcommand(1);
  const auto add = [&](const char* name, const char* help, const std::function<int()>& what) {
    CLI::App* sub = command->add_subcommand(name, help);
    sub->add_option("--folder", options->folder, "Cache folder instead of the default");
    sub->callback([what, &action] { action = what; });
    return sub;
  };
  add("list", "Show every kernel", [options] {
    return list(*options);
  })->add_flag("--json", options->json, "Print one JSON object");
  add("clear", "Remove every kernel", [options] { return clear(*options); });
  add("export", "Write all kernels to one file",
      [options] { return report(jit::export_cache(folder_of(*options), options->archive), "exported"); })
      ->add_option("FILE", options->archive, "Archive to write")
      ->required();
  add("import", "Add the kernels of an exported file",
      [options] {
        jit::CubinCache cache(folder_of(*options));
        return report(jit::import_cache(cache, options->archive), "imported");
      })
      ->add_option("FILE", options->archive, "Archive to read")
      ->required();
  command->footer(
      "Examples:\n  sabrewing cache list\n  sabrewing cache export kernels.swc\n  sabrewing cache import "
      "kernels.swc");
}

}  // namespace sabrewing::cli
