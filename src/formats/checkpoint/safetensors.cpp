#include "formats/checkpoint/safetensors.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/printable.h"

namespace sabrewing::formats {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::size_t kMaxHeaderDepth = 8;

std::optional<std::uint64_t> unsigned_of(const Json& value) {
  if (!value.is_number_unsigned()) return std::nullopt;
  return value.get<std::uint64_t>();
}

/// Parses the entry of one tensor; `data` is what follows the header.
class EntryParser {
 public:
  EntryParser(std::string_view what, std::span<const std::byte> data) : what_(what), data_(data) {}

  TensorView parse(const std::string& name, const Json& entry) const {
    if (!entry.is_object()) stop(name, "is not an object");
    for (const auto& [key, value] : entry.items()) {
      if (key != "dtype" && key != "shape" && key != "data_offsets")
        stop(name, "unknown field " + printable(key));
    }
    TensorView view;
    view.dtype = parse_dtype_field(name, field(name, entry, "dtype"));
    view.shape = parse_shape(name, field(name, entry, "shape"));
    view.bytes = parse_offsets(name, field(name, entry, "data_offsets"));
    const auto elements = view.shape.checked_elements();
    if (!elements) stop(name, fmt::format("shape {} has too many elements", view.shape.to_string()));
    const std::size_t size = size_of(view.dtype);
    if (view.bytes.size() % size != 0 || view.bytes.size() / size != static_cast<std::uint64_t>(*elements)) {
      stop(name,
           fmt::format("data_offsets hold {} bytes, but {} {} needs {} elements of {}", view.bytes.size(),
                       to_string(view.dtype), view.shape.to_string(), *elements, size));
    }
    return view;
  }

 private:
  [[noreturn]] void stop(const std::string& name, const std::string& why) const {
    fail(ErrorCode::kCorrupt, "[safetensors] {}: tensor {}: {}", what_, printable(name), why);
  }

  const Json& field(const std::string& name, const Json& entry, const char* key) const {
    const auto found = entry.find(key);
    if (found == entry.end()) stop(name, fmt::format("field \"{}\" is missing", key));
    return *found;
  }

  DType parse_dtype_field(const std::string& name, const Json& value) const {
    if (!value.is_string()) stop(name, "dtype is not a string");
    const auto& text = value.get_ref<const std::string&>();
    const auto dtype = parse_dtype(text);
    SABREWING_CHECK(dtype, kUnsupported, "[safetensors] {}: tensor {}: unknown dtype {}", what_,
                    printable(name), printable(text));
    return *dtype;
  }

  Shape parse_shape(const std::string& name, const Json& value) const {
    if (!value.is_array()) stop(name, "shape is not an array");
    std::vector<std::int64_t> extents;
    extents.reserve(value.size());
    for (const Json& item : value) {
      const auto extent = unsigned_of(item);
      if (!extent || *extent > std::numeric_limits<std::int64_t>::max())
        stop(name, "shape holds something that is not an extent");
      extents.push_back(static_cast<std::int64_t>(*extent));
    }
    return Shape(std::move(extents));
  }

  std::span<const std::byte> parse_offsets(const std::string& name, const Json& value) const {
    if (!value.is_array() || value.size() != 2) stop(name, "data_offsets is not a pair");
    const auto begin = unsigned_of(value[0]);
    const auto end = unsigned_of(value[1]);
    if (!begin || !end) stop(name, "data_offsets are not unsigned integers");
    if (*begin > *end) stop(name, fmt::format("data_offsets [{}, {}] end before they begin", *begin, *end));
    if (*end > data_.size()) {
      stop(name, fmt::format("data_offsets [{}, {}] are beyond the {} data bytes of the file; truncated?",
                             *begin, *end, data_.size()));
    }
    return data_.subspan(*begin, *end - *begin);
  }

  std::string_view what_;
  std::span<const std::byte> data_;
};

/// The format allows neither overlaps nor bytes that no tensor claims.
void check_coverage(const TensorMap& tensors, std::span<const std::byte> data, std::string_view what) {
  std::vector<const TensorMap::value_type*> order;
  order.reserve(tensors.size());
  for (const auto& item : tensors) order.push_back(&item);
  const auto begin_of = [&](const auto* item) { return item->second.bytes.data() - data.data(); };
  std::sort(order.begin(), order.end(), [&](const auto* a, const auto* b) {
    return std::pair(begin_of(a), a->second.bytes.size()) < std::pair(begin_of(b), b->second.bytes.size());
  });
  std::ptrdiff_t end = 0;
  const TensorMap::value_type* previous = nullptr;
  for (const auto* item : order) {
    const std::ptrdiff_t begin = begin_of(item);
    SABREWING_CHECK(begin >= end, kCorrupt, "[safetensors] {}: tensors {} and {} overlap", what,
                    printable(previous == nullptr ? "" : previous->first), printable(item->first));
    SABREWING_CHECK(begin == end, kCorrupt,
                    "[safetensors] {}: {} data bytes before tensor {} belong to no tensor", what, begin - end,
                    printable(item->first));
    end = begin + static_cast<std::ptrdiff_t>(item->second.bytes.size());
    previous = item;
  }
  SABREWING_CHECK(static_cast<std::size_t>(end) == data.size(), kCorrupt,
                  "[safetensors] {}: {} bytes after the last tensor belong to no tensor", what,
                  data.size() - static_cast<std::size_t>(end));
}

}  // namespace

SafetensorsContent parse_safetensors(std::span<const std::byte> bytes, std::string_view what) {
  SABREWING_CHECK(bytes.size() >= kLengthBytes, kCorrupt,
                  "[safetensors] {}: has {} bytes, too short for the header length", what, bytes.size());
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < kLengthBytes; ++i)
    length |= std::to_integer<std::uint64_t>(bytes[i]) << (8 * i);
  SABREWING_CHECK(length <= kMaxHeaderBytes, kCorrupt,
                  "[safetensors] {}: header length is {}, at most {} is accepted", what, length,
                  kMaxHeaderBytes);
  SABREWING_CHECK(length <= bytes.size() - kLengthBytes, kCorrupt,
                  "[safetensors] {}: header length is {}, but the file has {} bytes; truncated?", what,
                  length, bytes.size());
  const auto data = bytes.subspan(kLengthBytes + length);
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, length);
  SABREWING_CHECK(text.starts_with('{'), kCorrupt, "[safetensors] {}: the header does not start with '{{'",
                  what);
  const Json header = parse_json(text, what, kMaxHeaderDepth);

  SafetensorsContent content;
  const EntryParser parser(what, data);
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      content.tensors.emplace_hint(content.tensors.end(), name, parser.parse(name, entry));
      continue;
    }
    SABREWING_CHECK(entry.is_object(), kCorrupt, "[safetensors] {}: __metadata__ is not an object", what);
    for (const auto& [key, value] : entry.items()) {
      SABREWING_CHECK(value.is_string(), kCorrupt, "[safetensors] {}: __metadata__ field {} is not a string",
                      what, printable(key));
      content.metadata.emplace(key, value.get<std::string>());
    }
  }
  check_coverage(content.tensors, data, what);
  return content;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), content_(parse_safetensors(file_.bytes(), path.string())) {}

}  // namespace sabrewing::formats
