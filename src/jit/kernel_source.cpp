#include "jit/kernel_source.h"

#include <algorithm>
#include <charconv>

#include "core/error.h"

namespace sabrewing::jit {

namespace {

std::string_view between(std::string_view text, std::string_view before, std::string_view after) {
  const std::size_t start = text.find(before);
  if (start == std::string_view::npos) return {};
  text.remove_prefix(start + before.size());
  return text.substr(0, text.find(after));
}

/// The number that stands before `unit`: "800 bytes stack frame" -> 800.
int number_before(std::string_view text, std::string_view unit) {
  const std::size_t end = text.find(unit);
  if (end == std::string_view::npos) return 0;
  std::size_t start = end;
  while (start > 0 && text[start - 1] >= '0' && text[start - 1] <= '9') --start;
  int value = 0;
  std::from_chars(text.data() + start, text.data() + end, value);
  return value;
}

}  // namespace

HeaderSet::HeaderSet(std::vector<std::pair<std::string, std::string>> files) : files_(std::move(files)) {
  std::sort(files_.begin(), files_.end());
  for (std::size_t i = 1; i < files_.size(); ++i)
    SABREWING_CHECK(files_[i].first != files_[i - 1].first, kInvalidArgument, "[headers] {} is there twice",
                    files_[i].first);
  Sha256 hash;
  for (const auto& [path, text] : files_) {
    hash.update_field(path);
    hash.update_field(text);
  }
  digest_ = hash.finish();
}

HeaderSet::HeaderSet(std::span<const embedded::EmbeddedFile> files, std::string_view strip)
    : HeaderSet([&] {
        std::vector<std::pair<std::string, std::string>> pairs;
        for (const embedded::EmbeddedFile& file : files) {
          std::string_view path = file.path;
          if (path.starts_with(strip)) path.remove_prefix(strip.size());
          pairs.emplace_back(path, std::string(file.data, file.size));
        }
        return pairs;
      }()) {}

const CompiledKernels::Function& CompiledKernels::function(std::string_view expression_or_name) const {
  for (const Function& function : functions)
    if (function.expression == expression_or_name || function.lowered_name == expression_or_name)
      return function;
  fail(ErrorCode::kNotFound, "[compiled] {} has no kernel {}", name, expression_or_name);
}

ResourceReport parse_resource_report(std::string_view log) {
  ResourceReport report;
  while (!log.empty()) {
    const std::size_t end = std::min(log.find('\n'), log.size());
    const std::string_view line = log.substr(0, end);
    log.remove_prefix(std::min(end + 1, log.size()));

    if (line.find("Compiling entry function '") != std::string_view::npos) {
      report.functions.push_back({"", std::string(between(line, "Compiling entry function '", "'")), {}});
    } else if (line.find(" bytes stack frame, ") != std::string_view::npos && !report.functions.empty()) {
      KernelResources& resources = report.functions.back().resources;
      resources.stack_bytes = std::max(resources.stack_bytes, number_before(line, " bytes stack frame"));
      resources.spill_store_bytes += number_before(line, " bytes spill stores");
      resources.spill_load_bytes += number_before(line, " bytes spill loads");
    } else if (line.find(" registers") != std::string_view::npos &&
               line.find(": Used ") != std::string_view::npos && !report.functions.empty()) {
      KernelResources& resources = report.functions.back().resources;
      resources.registers = number_before(line, " registers");
      resources.shared_bytes = number_before(line, " bytes smem");
      resources.stack_bytes =
          std::max(resources.stack_bytes, number_before(line, " bytes cumulative stack size"));
    } else if (line.find("Function properties for ") == std::string_view::npos &&
               line.find(" bytes gmem") == std::string_view::npos &&
               line.find("Compile time = ") == std::string_view::npos &&
               line.find_first_not_of(" \t\r\0") != std::string_view::npos) {
      report.rest.append(line).push_back('\n');
    }
  }
  return report;
}

}  // namespace sabrewing::jit
