#include "kernels/cuda/gemm/tuning.h"

#include <algorithm>
#include <cmath>

#include "core/embedded.h"
#include "core/json.h"
#include "core/log.h"
#include "core/mapped_file.h"
#include "core/options.h"
#include "jit/cubin_cache.h"

namespace sabrewing::embedded {
extern const EmbeddedFile kCudaTuning[];
extern const std::size_t kCudaTuningCount;
}  // namespace sabrewing::embedded

namespace sabrewing::kernels::cuda {

namespace {

constexpr int kVersion = 1;
constexpr double kRateTolerance = 0.15;
constexpr std::size_t kCopiedBytes = std::size_t{256} << 20;
constexpr std::size_t kMaxFileBytes = std::size_t{64} << 20;

const Json& member(const Json& object, const char* field, std::string_view what) {
  SABREWING_CHECK(object.is_object() && object.contains(field), kCorrupt, "[tuning] {}: no \"{}\"", what,
                  field);
  return object.at(field);
}

std::string text(const Json& object, const char* field, std::string_view what) {
  const Json& value = member(object, field, what);
  SABREWING_CHECK(value.is_string(), kCorrupt, "[tuning] {}: \"{}\" is no text", what, field);
  return value.get<std::string>();
}

double number(const Json& object, const char* field, std::string_view what) {
  const Json& value = member(object, field, what);
  SABREWING_CHECK(value.is_number() && std::isfinite(value.get<double>()) && value.get<double>() >= 0,
                  kCorrupt, "[tuning] {}: \"{}\" is no number from 0 on", what, field);
  return value.get<double>();
}

std::int64_t integer(const Json& object, const char* field, std::string_view what) {
  const Json& value = member(object, field, what);
  SABREWING_CHECK(value.is_number_integer() && value.get<double>() >= 1 && value.get<double>() < 2147483648.0,
                  kCorrupt, "[tuning] {}: \"{}\" is no integer from 1 to 2^31 - 1", what, field);
  return value.get<std::int64_t>();
}

const Json& list(const Json& object, const char* field, std::string_view what) {
  const Json& value = member(object, field, what);
  SABREWING_CHECK(value.is_array(), kCorrupt, "[tuning] {}: \"{}\" is no list", what, field);
  return value;
}

}  // namespace

bool DeviceClass::matches(const DeviceClass& other) const {
  return architecture == other.architecture && multiprocessors == other.multiprocessors &&
         std::abs(copy_tb_per_s - other.copy_tb_per_s) <=
             kRateTolerance * std::max(copy_tb_per_s, other.copy_tb_per_s);
}

DeviceClass measure_device_class(const jit::DevicePtr& device) {
  const jit::DeviceInfo& info = device->info();
  const jit::Stream stream(device);
  const jit::DeviceBuffer from(device, kCopiedBytes), to(device, kCopiedBytes);
  const jit::Event begin(device), end(device);
  double best_us = 0;
  for (int i = 0; i < 4; ++i) {  // the first is warm-up
    begin.record(stream);
    jit::copy_on_device(to.data(), from.data(), kCopiedBytes, stream);
    end.record(stream);
    stream.synchronize();
    const double us = end.microseconds_since(begin);
    if (i == 1 || (i > 1 && us < best_us)) best_us = us;
  }
  return {info.architecture.to_string(), info.multiprocessors,
          2e-6 * static_cast<double>(kCopiedBytes) / best_us};
}

TuningTable::Key TuningTable::key(const GemmDesc& desc, std::int64_t m) {
  return {
      fmt::format("{} by {} to {}{}", formats::to_string(desc.weight), formats::to_string(desc.activation),
                  to_string(desc.output), desc.accuracy == Accuracy::kDefault ? "" : " exact"),
      desc.n, desc.k, m};
}

const TunedChoice* TuningTable::find(const GemmDesc& desc, std::int64_t m) const {
  const auto it = choices_.find(key(desc, m));
  return it == choices_.end() ? nullptr : &it->second;
}

void TuningTable::put(const GemmDesc& desc, std::int64_t m, TunedChoice choice) {
  choices_[key(desc, m)] = std::move(choice);
}

void TuningTable::update(const TuningTable& other) {
  for (const auto& [key, choice] : other.choices_) choices_[key] = choice;
}

std::string tuning_json(const std::vector<TuningTable>& tables) {
  OrderedJson list = OrderedJson::array();
  for (const TuningTable& table : tables) {
    OrderedJson choices = OrderedJson::array();
    for (const auto& [key, choice] : table.choices_) {
      OrderedJson slower = OrderedJson::array();
      for (const auto& [kernel, us] : choice.slower) slower.push_back({{"kernel", kernel}, {"us", us}});
      choices.push_back({{"formats", key.formats},
                         {"n", key.n},
                         {"k", key.k},
                         {"m", key.m},
                         {"kernel", choice.kernel},
                         {"scale_after", choice.scale_after},
                         {"us", choice.us},
                         {"slower", std::move(slower)}});
    }
    list.push_back({{"device",
                     {{"architecture", table.device.architecture},
                      {"multiprocessors", table.device.multiprocessors},
                      {"copy_tb_per_s", table.device.copy_tb_per_s}}},
                    {"choices", std::move(choices)}});
  }
  return OrderedJson({{"version", kVersion}, {"tables", std::move(list)}}).dump(1) + "\n";
}

std::vector<TuningTable> parse_tuning(std::string_view json, std::string_view what) {
  const Json root = parse_json(json, what);
  const std::int64_t version = integer(root, "version", what);
  SABREWING_CHECK(version == kVersion, kCorrupt, "[tuning] {}: version {}, {} expected", what, version,
                  kVersion);
  std::vector<TuningTable> tables;
  for (const Json& item : list(root, "tables", what)) {
    TuningTable& table = tables.emplace_back();
    const Json& device = member(item, "device", what);
    table.device = {text(device, "architecture", what),
                    static_cast<int>(integer(device, "multiprocessors", what)),
                    number(device, "copy_tb_per_s", what)};
    for (const Json& entry : list(item, "choices", what)) {
      TunedChoice choice;
      choice.kernel = text(entry, "kernel", what);
      const Json& after = member(entry, "scale_after", what);
      SABREWING_CHECK(after.is_boolean(), kCorrupt, "[tuning] {}: \"scale_after\" is neither true nor false",
                      what);
      choice.scale_after = after.get<bool>();
      choice.us = number(entry, "us", what);
      for (const Json& other : list(entry, "slower", what))
        choice.slower.emplace_back(text(other, "kernel", what), number(other, "us", what));
      table.choices_[{text(entry, "formats", what), integer(entry, "n", what), integer(entry, "k", what),
                      integer(entry, "m", what)}] = std::move(choice);
    }
  }
  return tables;
}

std::optional<std::filesystem::path> default_tuning_file() {
  if (const auto path = environment("SABREWING_TUNING")) return std::filesystem::path(*path);
  const auto folder = jit::CubinCache::default_folder();
  if (!folder) return std::nullopt;
  return folder->parent_path() / "tuning.json";
}

std::shared_ptr<const TuningTable> load_tuning(const jit::DevicePtr& device,
                                               const std::optional<std::filesystem::path>& file) {
  std::vector<TuningTable> tables;
  for (std::size_t i = 0; i < embedded::kCudaTuningCount; ++i) {
    const embedded::EmbeddedFile& preset = embedded::kCudaTuning[i];
    for (TuningTable& table : parse_tuning({preset.data, preset.size}, preset.path))
      tables.push_back(std::move(table));
  }
  if (file) {
    try {
      for (TuningTable& table : parse_tuning(read_text_file(*file, kMaxFileBytes), file->string()))
        tables.push_back(std::move(table));
    } catch (const Error& error) {
      if (error.code() != ErrorCode::kNotFound)
        log(LogLevel::kWarning, "{}; kernels are chosen by the cost model", error.what());
    }
  }
  const jit::DeviceInfo& info = device->info();
  const auto is_other = [&](const TuningTable& table) {
    return table.size() == 0 || table.device.architecture != info.architecture.to_string() ||
           table.device.multiprocessors != info.multiprocessors;
  };
  std::erase_if(tables, is_other);
  if (tables.empty()) return nullptr;
  auto all = std::make_shared<TuningTable>();
  all->device = measure_device_class(device);
  for (const TuningTable& table : tables)
    if (table.device.matches(all->device)) all->update(table);
  if (all->size() > 0) return all;
  return nullptr;
}

void store_tuning(const std::filesystem::path& file, const TuningTable& table) {
  std::vector<TuningTable> tables;
  try {
    tables = parse_tuning(read_text_file(file, kMaxFileBytes), file.string());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kNotFound) throw;
  }
  const auto same = std::find_if(tables.begin(), tables.end(),
                                 [&](const TuningTable& t) { return t.device.matches(table.device); });
  if (same == tables.end()) {
    tables.push_back(table);
  } else {
    same->update(table);
  }
  if (file.has_parent_path()) {
    std::error_code error;
    std::filesystem::create_directories(file.parent_path(), error);
  }
  jit::write_file_atomically(file, tuning_json(tables));
}

}  // namespace sabrewing::kernels::cuda
