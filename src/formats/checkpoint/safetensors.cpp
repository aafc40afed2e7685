#include "formats/checkpoint/safetensors.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/json.h"
#include "core/printable.h"

namespace sabrewing::formats {
namespace {

constexpr std::size_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::size_t kMaxExtents = 32;
constexpr std::size_t kMaxMetadata = 65'536;

/// Reads the header as it is parsed: a tree of 100 MB of JSON could take gigabytes. `data` is what follows
/// it.
class HeaderReader final : public nlohmann::json_sax<Json> {
 public:
  HeaderReader(std::string_view what, std::span<const std::byte> data, SafetensorsContent& content)
      : what_(what), data_(data), content_(content) {}

  bool null() override { refuse(); }
  bool boolean(bool) override { refuse(); }
  bool number_integer(number_integer_t) override { refuse(); }
  bool number_float(number_float_t, const string_t&) override { refuse(); }
  bool binary(binary_t&) override { refuse(); }

  bool number_unsigned(number_unsigned_t value) override {
    if (at_ == At::kOffsets) {
      if (offsets_.size() == 2) stop("data_offsets is not a pair");
      offsets_.push_back(value);
      return true;
    }
    if (at_ != At::kShape || value > std::numeric_limits<std::int64_t>::max()) refuse();
    if (extents_.size() == kMaxExtents) stop(fmt::format("shape has more than {} extents", kMaxExtents));
    extents_.push_back(static_cast<std::int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (at_ == At::kMetadata) {
      content_.metadata[field_] = std::move(value);
      return true;
    }
    if (at_ != At::kTensor || field_ != kFields[kDType]) refuse();
    const auto dtype = parse_dtype(value);
    SABREWING_CHECK(dtype, kUnsupported, "[safetensors] {}: tensor {}: unknown dtype {}", what_,
                    printable(name_), printable(value));
    dtype_ = *dtype;
    return true;
  }

  bool start_object(std::size_t) override {
    if (at_ == At::kStart)
      at_ = At::kHeader;
    else if (at_ == At::kHeader)
      at_ = name_ == kMetadataName ? At::kMetadata : At::kTensor;
    else
      refuse();
    return true;
  }

  bool end_object() override {
    if (at_ == At::kTensor) add_tensor();
    at_ = At::kHeader;
    return true;
  }

  bool start_array(std::size_t) override {
    if (at_ == At::kTensor && field_ == kFields[kShape])
      at_ = At::kShape;
    else if (at_ == At::kTensor && field_ == kFields[kOffsets])
      at_ = At::kOffsets;
    else
      refuse();
    return true;
  }

  bool end_array() override {
    if (at_ == At::kOffsets && offsets_.size() != 2) stop("data_offsets is not a pair");
    at_ = At::kTensor;
    return true;
  }

  bool key(string_t& value) override {
    bool repeated = false;
    if (at_ == At::kHeader) {
      repeated = value == kMetadataName ? std::exchange(has_metadata_, true)
                                        : content_.tensors.find(value) != content_.tensors.end();
      name_ = value;
      seen_.fill(false);
      extents_.clear();
      offsets_.clear();
    } else if (at_ == At::kTensor) {
      const auto field = std::find(kFields.begin(), kFields.end(), value) - kFields.begin();
      if (field == kFieldCount) stop("unknown field " + printable(value));
      repeated = std::exchange(seen_[static_cast<std::size_t>(field)], true);
    } else {
      repeated = content_.metadata.find(value) != content_.metadata.end();
      SABREWING_CHECK(content_.metadata.size() < kMaxMetadata, kCorrupt,
                      "[safetensors] {}: __metadata__ has more than {} fields", what_, kMaxMetadata);
    }
    SABREWING_CHECK(!repeated, kCorrupt, "[safetensors] {}: duplicate key {}", what_, printable(value));
    field_ = std::move(value);
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception&) override {
    fail(ErrorCode::kCorrupt, "[safetensors] {}: malformed JSON at byte {} of the header", what_, position);
  }

 private:
  enum class At : std::uint8_t { kStart, kHeader, kMetadata, kTensor, kShape, kOffsets };
  enum Field : std::uint8_t { kDType, kShape, kOffsets, kFieldCount };
  static constexpr std::array<std::string_view, kFieldCount> kFields{"dtype", "shape", "data_offsets"};
  static constexpr std::string_view kMetadataName = "__metadata__";

  [[noreturn]] void stop(const std::string& why) const {
    fail(ErrorCode::kCorrupt, "[safetensors] {}: tensor {}: {}", what_, printable(name_), why);
  }

  /// The value that stands here cannot.
  [[noreturn]] void refuse() const {
    if (at_ == At::kMetadata)
      fail(ErrorCode::kCorrupt, "[safetensors] {}: __metadata__ field {} is not a string", what_,
           printable(field_));
    if (at_ == At::kHeader && name_ == kMetadataName)
      fail(ErrorCode::kCorrupt, "[safetensors] {}: __metadata__ is not an object", what_);
    if (at_ == At::kHeader) stop("is not an object");
    if (at_ == At::kShape) stop("shape holds something that is not an extent");
    if (at_ == At::kTensor && field_ == kFields[kDType]) stop("dtype is not a string");
    if (at_ == At::kTensor && field_ == kFields[kShape]) stop("shape is not an array");
    stop(at_ == At::kOffsets ? "data_offsets are not unsigned integers" : "data_offsets is not a pair");
  }

  void add_tensor() {
    for (std::size_t field = 0; field < kFieldCount; ++field)
      if (!seen_[field]) stop(fmt::format("field \"{}\" is missing", kFields[field]));
    const std::uint64_t begin = offsets_[0];
    const std::uint64_t end = offsets_[1];
    if (begin > end) stop(fmt::format("data_offsets [{}, {}] end before they begin", begin, end));
    if (end > data_.size())
      stop(fmt::format("data_offsets [{}, {}] are beyond the {} data bytes of the file; truncated?", begin,
                       end, data_.size()));
    TensorView view;
    view.dtype = dtype_;
    view.shape = Shape(extents_);
    view.bytes = data_.subspan(begin, end - begin);
    const auto elements = view.shape.checked_elements();
    if (!elements) stop(fmt::format("shape {} has too many elements", view.shape.to_string()));
    const std::size_t size = size_of(view.dtype);
    if (view.bytes.size() % size != 0 || view.bytes.size() / size != static_cast<std::uint64_t>(*elements))
      stop(fmt::format("data_offsets hold {} bytes, but {} {} needs {} elements of {}", view.bytes.size(),
                       to_string(view.dtype), view.shape.to_string(), *elements, size));
    content_.tensors.emplace(name_, std::move(view));
  }

  std::string_view what_;
  std::span<const std::byte> data_;
  SafetensorsContent& content_;
  At at_ = At::kStart;
  bool has_metadata_ = false;
  std::string name_;   ///< of the tensor
  std::string field_;  ///< the last key
  std::array<bool, kFieldCount> seen_{};
  DType dtype_{};
  std::vector<std::int64_t> extents_;
  std::vector<std::uint64_t> offsets_;
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

  SafetensorsContent content;
  HeaderReader reader(what, data, content);
  Json::sax_parse(text.begin(), text.end(), &reader);
  check_coverage(content.tensors, data, what);
  return content;
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : file_(path), content_(parse_safetensors(file_.bytes(), path.string())) {}

}  // namespace sabrewing::formats
