#include "models/dummy_source.h"

#include <cstring>

#include "core/error.h"
#include "formats/numeric/float16.h"

namespace sabrewing::models {
namespace {

/// SplitMix64 (Steele, Lea, Flood 2014).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }

 private:
  std::uint64_t state_;
};

std::uint64_t name_hash(const std::string& name) {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

template <typename T, typename Make>
void fill(HostBuffer& buffer, Random& random, Make make) {
  T* values = buffer.as<T>();
  const std::size_t count = buffer.size() / sizeof(T);
  for (std::size_t i = 0; i < count; i += 4) {
    const std::uint64_t bits = random.next();
    for (std::size_t j = i; j < count && j < i + 4; ++j)
      values[j] = make(static_cast<std::uint16_t>(bits >> (16 * (j - i))));
  }
}

}  // namespace

DType DummySource::dtype_of(const std::string&, std::initializer_list<DType> accepted) const { return *accepted.begin(); }

bool DummySource::has(const std::string&) const { return true; }

TensorView DummySource::take(const std::string& name, const Shape& shape, std::initializer_list<DType> accepted) {
  const DType dtype = *accepted.begin();
  const auto elements = shape.checked_elements();
  SABREWING_CHECK(elements.has_value() && *elements <= (std::int64_t{1} << 48), kInvalidArgument,
                  "[dummy] tensor {} of shape {} is too large", name, shape.to_string());
  HostBuffer buffer(static_cast<std::size_t>(*elements) * size_of(dtype));
  Random random(seed_ ^ name_hash(name));
  const bool is_norm = ends_with(name, "norm.weight");
  // Uniform in +-0.05: activations stay of order one through many normalised layers.
  const auto weight = [is_norm](std::uint16_t bits) {
    const float value = (static_cast<float>(bits) / 32768.0F - 1.0F) * 0.05F;
    return is_norm ? 1.0F + value : value;
  };
  switch (dtype) {
    case DType::kBF16: fill<std::uint16_t>(buffer, random, [&](std::uint16_t b) { return formats::float_to_bf16(weight(b)); }); break;
    case DType::kF16: fill<std::uint16_t>(buffer, random, [&](std::uint16_t b) { return formats::float_to_fp16(weight(b)); }); break;
    case DType::kF32: fill<float>(buffer, random, weight); break;
    case DType::kU8:
      if (ends_with(name, "_scales")) {  // E8M0 around 2^-6
        fill<std::uint8_t>(buffer, random, [](std::uint16_t b) { return static_cast<std::uint8_t>(119 + (b & 3)); });
      } else {
        for (std::size_t i = 0; i < buffer.size(); i += sizeof(std::uint64_t)) {
          const std::uint64_t bits = random.next();
          std::memcpy(buffer.data() + i, &bits, std::min(sizeof(bits), buffer.size() - i));
        }
      }
      break;
    default: fail(ErrorCode::kUnsupported, "[dummy] no random values for tensor {} of dtype {}", name, to_string(dtype));
  }
  const TensorView view{dtype, shape, buffer.span()};
  held_.emplace(buffer.data(), std::move(buffer));
  return view;
}

void DummySource::release(const TensorView& tensor) { held_.erase(tensor.bytes.data()); }

void DummySource::finish(const std::vector<std::string>&) {}

}  // namespace sabrewing::models
