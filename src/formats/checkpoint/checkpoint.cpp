#include "formats/checkpoint/checkpoint.h"

#include <algorithm>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/json.h"
#include "core/printable.h"
#include "formats/checkpoint/names.h"

namespace sabrewing::formats {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxIndexBytes = 100'000'000;
constexpr std::string_view kSuffix = ".safetensors";

bool is_inside(const fs::path& relative) {
  if (relative.is_absolute()) return false;
  return std::none_of(relative.begin(), relative.end(), [](const fs::path& part) { return part == ".."; });
}

bool is_present(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

/// The files of `folder` whose name ends in ".safetensors", sorted.
std::vector<fs::path> safetensors_files(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code error;
  fs::directory_iterator item(folder, error);
  for (; !error && item != fs::directory_iterator(); item.increment(error)) {
    if (item->path().extension() == kSuffix) found.push_back(item->path());
  }
  SABREWING_CHECK(!error, kIo, "[checkpoint] cannot read folder {}: {}", folder.string(), error.message());
  std::sort(found.begin(), found.end());
  return found;
}

}  // namespace

std::map<std::string, std::string> parse_weight_map(std::string_view text, std::string_view what) {
  const Json index = parse_json(text, what);
  SABREWING_CHECK(index.is_object(), kCorrupt, "[checkpoint] {}: is not an object", what);
  const auto weight_map = index.find("weight_map");
  SABREWING_CHECK(weight_map != index.end() && weight_map->is_object() && !weight_map->empty(), kCorrupt,
                  "[checkpoint] {}: weight_map is not an object with tensors", what);
  std::map<std::string, std::string> shards;
  for (const auto& [name, file] : weight_map->items()) {
    SABREWING_CHECK(file.is_string(), kCorrupt, "[checkpoint] {}: weight_map of {} is not a string", what,
                    printable(name));
    const auto& shard = file.get_ref<const std::string&>();
    SABREWING_CHECK(shard.find('\0') == std::string::npos && is_inside(shard), kCorrupt,
                    "[checkpoint] {}: weight_map of {} names a file outside the folder: {}", what,
                    printable(name), printable(shard));
    SABREWING_CHECK(shard.size() > kSuffix.size() && shard.ends_with(kSuffix), kCorrupt,
                    "[checkpoint] {}: weight_map of {} is not a safetensors file: {}", what, printable(name),
                    printable(shard));
    shards.emplace_hint(shards.end(), name, shard);
  }
  return shards;
}

Checkpoint::Checkpoint(const std::filesystem::path& folder) : folder_(folder) {
  SABREWING_CHECK(is_present(folder), kNotFound, "[checkpoint] no folder {}", folder.string());
  std::error_code error;
  SABREWING_CHECK(fs::is_directory(folder, error), kIo, "[checkpoint] {} is not a folder", folder.string());
  const fs::path single = folder / "model.safetensors";
  const fs::path index = folder / "model.safetensors.index.json";
  if (!is_present(single) && is_present(index)) {
    open_shards(index);
    return;
  }
  if (is_present(single)) {
    files_.emplace_back(single);
  } else {
    const auto found = safetensors_files(folder);
    SABREWING_CHECK(!found.empty(), kNotFound, "[checkpoint] {} holds no *.safetensors file",
                    folder.string());
    SABREWING_CHECK(found.size() == 1, kNotFound,
                    "[checkpoint] {} holds {} *.safetensors files, but no model.safetensors.index.json",
                    folder.string(), found.size());
    files_.emplace_back(found.front());
  }
  tensors_ = files_.front().tensors();
}

void Checkpoint::open_shards(const std::filesystem::path& index) {
  const std::string what = index.string();
  const auto weight_map = parse_weight_map(read_text_file(index, kMaxIndexBytes), what);
  std::set<std::string> shards;
  for (const auto& [name, shard] : weight_map) shards.insert(shard);
  for (const std::string& shard : shards) {
    SABREWING_CHECK(is_present(folder_ / shard), kNotFound, "[checkpoint] {}: shard {} is not in the folder",
                    what, printable(shard));
    const SafetensorsFile& file = files_.emplace_back(folder_ / shard);
    for (const auto& [name, view] : file.tensors()) {
      const auto mapped = weight_map.find(name);
      SABREWING_CHECK(mapped != weight_map.end(), kCorrupt,
                      "[checkpoint] {}: tensor {} of shard {} is not in weight_map", what, printable(name),
                      printable(shard));
      SABREWING_CHECK(mapped->second == shard, kCorrupt,
                      "[checkpoint] {}: tensor {} is in shard {}, but weight_map says {}", what,
                      printable(name), printable(shard), printable(mapped->second));
      tensors_.emplace(name, view);
    }
  }
  for (const auto& [name, shard] : weight_map) {
    SABREWING_CHECK(tensors_.contains(name), kCorrupt, "[checkpoint] {}: tensor {} is not in its shard {}",
                    what, printable(name), printable(shard));
  }
}

const TensorView* Checkpoint::find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

void Checkpoint::release(std::span<const std::byte> range) const {
  for (const SafetensorsFile& file : files_) {
    const auto bytes = file.bytes();
    const bool inside = !std::less<>{}(range.data(), bytes.data()) &&
                        !std::less<>{}(bytes.data() + bytes.size(), range.data() + range.size());
    if (inside) file.release(range);
  }
}

const TensorView& TensorAudit::take(std::string_view name) {
  const TensorView* view = take_optional(name);
  SABREWING_CHECK(view != nullptr, kNotFound, "[checkpoint] {}: tensor {} is missing",
                  checkpoint_.folder().string(), printable(name));
  return *view;
}

const TensorView* TensorAudit::take_optional(std::string_view name) {
  const TensorView* view = checkpoint_.find(name);
  if (view == nullptr) return nullptr;
  SABREWING_CHECK(taken_.emplace(name).second, kInternal, "[checkpoint] {}: tensor {} is consumed twice",
                  checkpoint_.folder().string(), printable(name));
  return view;
}

std::vector<std::string> TensorAudit::surplus() const {
  std::vector<std::string> names;
  for (const auto& [name, view] : checkpoint_.tensors()) {
    if (taken_.contains(name)) continue;
    const bool is_ignored =
        std::any_of(ignored_.begin(), ignored_.end(),
                    [&n = name](const std::string& pattern) { return matches_glob(pattern, n); });
    if (!is_ignored) names.push_back(name);
  }
  return names;
}

void TensorAudit::finish() const {
  constexpr std::size_t kShown = 5;
  const auto names = surplus();
  if (names.empty()) return;
  std::string list;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i)
    list += (i == 0 ? "" : ", ") + printable(names[i]);
  if (names.size() > kShown) list += ", ...";
  fail(ErrorCode::kCorrupt, "[checkpoint] {}: {} tensors belong to no parameter of the model: {}",
       checkpoint_.folder().string(), names.size(), list);
}

}  // namespace sabrewing::formats
