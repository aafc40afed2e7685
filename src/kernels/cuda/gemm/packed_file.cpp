#include "kernels/cuda/gemm/packed_file.h"

#include <fmt/core.h>

#include <bit>
#include <cstring>
#include <fstream>
#include <string_view>

namespace sabrewing::kernels::cuda {

namespace {

constexpr std::string_view kMagic = "SABRPACK";
constexpr std::uint32_t kHeaderVersion = 1;
constexpr std::int64_t kMaxFileExtent = std::int64_t{1} << 31;

static_assert(std::endian::native == std::endian::little);

struct Header {
  char magic[8];
  std::uint32_t header_version;
  std::uint32_t layout_version;
  std::int64_t n;
  std::int64_t k;
  std::uint64_t bytes;
  std::uint32_t has_factors;
  std::uint32_t reserved;
  char format[96];
  char layout[112];
};
static_assert(sizeof(Header) == 256);

/// The decoder's name says everything about a layout but its version.
const std::string& layout_name(const WeightLayout& layout) {
  return layout.decoder.empty() ? layout.decoder_after : layout.decoder;
}

template <std::size_t kSize>
void put(char (&to)[kSize], const std::string& text) {
  SABREWING_CHECK(text.size() < kSize, kInternal, "[packed weight] \"{}\" does not fit the header", text);
  std::memcpy(to, text.data(), text.size());
}

template <std::size_t kSize>
std::string_view get(const char (&from)[kSize]) {
  return {from, strnlen(from, kSize)};
}

}  // namespace

void PackedFile::save(const std::filesystem::path& path, const formats::WeightFormat& format,
                      const WeightLayout& layout, const PackedHostWeight& weight) {
  Header header{};
  std::memcpy(header.magic, kMagic.data(), kMagic.size());
  header.header_version = kHeaderVersion;
  header.layout_version = WeightLayout::kVersion;
  header.n = weight.shape.n;
  header.k = weight.shape.k;
  header.bytes = weight.bytes.size();
  header.has_factors = weight.has_factors ? 1 : 0;
  put(header.format, formats::to_string(format));
  put(header.layout, layout_name(layout));
  std::filesystem::path partial = path;
  partial += ".partial";
  {
    std::ofstream file(partial, std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(&header), sizeof header);
    file.write(reinterpret_cast<const char*>(weight.bytes.data()),
               static_cast<std::streamsize>(weight.bytes.size()));
    file.close();
    if (!file) {
      std::error_code ignored;
      std::filesystem::remove(partial, ignored);
      fail(ErrorCode::kIo, "[packed weight] {} cannot be written", path.string());
    }
  }
  std::error_code error;
  std::filesystem::rename(partial, path, error);
  SABREWING_CHECK(!error, kIo, "[packed weight] {}: {}", path.string(), error.message());
}

PackedFile::PackedFile(const std::filesystem::path& path, const formats::WeightFormat& format,
                       const WeightLayout& layout)
    : file_(path) {
  const std::string name = path.string();
  const std::span<const std::byte> all = file_.bytes();
  SABREWING_CHECK(all.size() >= sizeof(Header), kCorrupt, "[packed weight] {}: {} bytes, no header", name,
                  all.size());
  Header header;
  std::memcpy(&header, all.data(), sizeof header);
  SABREWING_CHECK(std::memcmp(header.magic, kMagic.data(), kMagic.size()) == 0, kCorrupt,
                  "[packed weight] {}: not a packed weight", name);
  SABREWING_CHECK(header.header_version == kHeaderVersion && header.layout_version == WeightLayout::kVersion,
                  kCorrupt, "[packed weight] {}: versions {} and {}, expected {} and {}", name,
                  header.header_version, header.layout_version, kHeaderVersion, WeightLayout::kVersion);
  SABREWING_CHECK(get(header.format) == formats::to_string(format), kCorrupt,
                  "[packed weight] {}: format \"{}\", expected \"{}\"", name, get(header.format),
                  formats::to_string(format));
  SABREWING_CHECK(get(header.layout) == layout_name(layout), kCorrupt,
                  "[packed weight] {}: layout \"{}\", expected \"{}\"", name, get(header.layout),
                  layout_name(layout));
  SABREWING_CHECK(header.n > 0 && header.n < kMaxFileExtent && header.k > 0 && header.k < kMaxFileExtent,
                  kCorrupt, "[packed weight] {}: {} by {}", name, header.n, header.k);
  shape_ = PackedShape::of(layout, header.n, header.k);
  SABREWING_CHECK(header.bytes == shape_.bytes && all.size() - sizeof(Header) == shape_.bytes, kCorrupt,
                  "[packed weight] {}: {} bytes, {} expected", name, all.size() - sizeof(Header),
                  shape_.bytes);
  has_factors_ = header.has_factors != 0;
}

std::span<const std::byte> PackedFile::bytes() const { return file_.bytes().subspan(sizeof(Header)); }

}  // namespace sabrewing::kernels::cuda
