#include "jit/cache_entry.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"

namespace sabrewing::jit {

namespace {

constexpr std::string_view kMagic = "SBWKRNL1";
constexpr std::size_t kHeaderBytes = 8 + 32 + 32 + 8;

void put_integer(std::string& out, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) out.push_back(static_cast<char>(value >> 8 * i));
}

void put_text(std::string& out, std::string_view text) {
  put_integer(out, text.size(), 4);
  out += text;
}

class Reader {
 public:
  Reader(std::string_view bytes, std::string_view what) : bytes_(bytes), what_(what) {}

  std::string_view take(std::size_t count) {
    SABREWING_CHECK(count <= bytes_.size(), kCorrupt, "[cache] {} ends early: {} bytes wanted, {} left",
                    what_, count, bytes_.size());
    const std::string_view part = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return part;
  }
  std::uint64_t integer(int bytes) {
    const std::string_view part = take(static_cast<std::size_t>(bytes));
    std::uint64_t value = 0;
    for (int i = bytes; i-- > 0;)
      value = value << 8 | static_cast<unsigned char>(part[static_cast<std::size_t>(i)]);
    return value;
  }
  std::string_view text() { return take(integer(4)); }
  int count() { return static_cast<int>(static_cast<std::int32_t>(integer(4))); }
  Digest digest() {
    Digest digest;
    std::memcpy(digest.data(), take(digest.size()).data(), digest.size());
    return digest;
  }
  std::size_t left() const { return bytes_.size(); }

 private:
  std::string_view bytes_;
  std::string_view what_;
};

bool is_compiler_name(std::string_view text) {
  return !text.empty() && text.size() <= 100 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-';
  });
}

}  // namespace

std::string CacheKey::file_name() const {
  return fmt::format("{}-{}{}", to_hex(content), compiler, kEntrySuffix);
}

std::string encode_entry(const CacheKey& key, const CompiledKernels& kernels) {
  SABREWING_CHECK(is_compiler_name(key.compiler), kInternal, "[cache] not a compiler name: {}", key.compiler);
  std::string payload;
  put_text(payload, key.compiler);
  put_text(payload, kernels.name);
  put_text(payload, kernels.compiler);
  put_text(payload, kernels.architecture.to_string());
  put_text(payload, kernels.warnings);
  put_integer(payload, kernels.functions.size(), 4);
  for (const CompiledKernels::Function& function : kernels.functions) {
    put_text(payload, function.expression);
    put_text(payload, function.lowered_name);
    for (const int value : {function.resources.registers, function.resources.spill_store_bytes,
                            function.resources.spill_load_bytes, function.resources.stack_bytes,
                            function.resources.shared_bytes})
      put_integer(payload, static_cast<std::uint32_t>(value), 4);
  }
  put_text(payload, {reinterpret_cast<const char*>(kernels.cubin.data()), kernels.cubin.size()});

  const auto as_text = [](const Digest& digest) {
    return std::string_view(reinterpret_cast<const char*>(digest.data()), digest.size());
  };
  const Digest digest = sha256(std::as_bytes(std::span(payload)));
  std::string entry;
  entry.reserve(kHeaderBytes + payload.size());
  entry += kMagic;
  entry += as_text(key.content);
  entry += as_text(digest);
  put_integer(entry, payload.size(), 8);
  entry += payload;
  return entry;
}

CacheEntryContent decode_entry(std::string_view bytes, std::string_view what) {
  SABREWING_CHECK(bytes.starts_with(kMagic), kCorrupt, "[cache] {} is not a compiled kernel of this version",
                  what);
  Reader header(bytes.substr(kMagic.size()), what);
  CacheEntryContent entry;
  entry.key.content = header.digest();
  const Digest digest = header.digest();
  const std::uint64_t payload_bytes = header.integer(8);
  SABREWING_CHECK(payload_bytes == header.left(), kCorrupt, "[cache] {} holds {} bytes of payload, not {}",
                  what, header.left(), payload_bytes);
  const std::string_view payload = header.take(payload_bytes);
  SABREWING_CHECK(sha256(std::as_bytes(std::span(payload))) == digest, kCorrupt,
                  "[cache] {} is damaged: its content does not have the recorded digest", what);

  Reader reader(payload, what);
  entry.key.compiler = reader.text();
  SABREWING_CHECK(is_compiler_name(entry.key.compiler), kCorrupt, "[cache] {} does not name a compiler",
                  what);
  entry.kernels.name = reader.text();
  entry.kernels.compiler = reader.text();
  try {
    entry.kernels.architecture = Architecture::parse(reader.text());
  } catch (const Error& error) {
    fail(ErrorCode::kCorrupt, "[cache] {}: {}", what, error.what());
  }
  entry.kernels.warnings = reader.text();
  const std::uint64_t functions = reader.integer(4);
  for (std::uint64_t i = 0; i < functions; ++i) {
    CompiledKernels::Function function;
    function.expression = reader.text();
    function.lowered_name = reader.text();
    function.resources.registers = reader.count();
    function.resources.spill_store_bytes = reader.count();
    function.resources.spill_load_bytes = reader.count();
    function.resources.stack_bytes = reader.count();
    function.resources.shared_bytes = reader.count();
    entry.kernels.functions.push_back(std::move(function));
  }
  const auto cubin = std::as_bytes(std::span(reader.text()));
  entry.kernels.cubin.assign(cubin.begin(), cubin.end());
  SABREWING_CHECK(reader.left() == 0, kCorrupt, "[cache] {} has {} bytes too many", what, reader.left());
  return entry;
}

}  // namespace sabrewing::jit
