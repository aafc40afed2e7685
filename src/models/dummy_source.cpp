#include "models/dummy_source.h"

#include "core/error.h"
#include "formats/checkpoint/dummy.h"
#include "formats/numeric/float16.h"

namespace sabrewing::models {
namespace {

std::uint64_t name_hash(const std::string& name) {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

bool ends_with(const std::string& text, std::string_view end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

void add_one(HostBuffer& buffer, DType dtype) {
  const std::size_t count = buffer.size() / size_of(dtype);
  for (std::size_t i = 0; i < count; ++i) {
    if (dtype == DType::kF32)
      buffer.as<float>()[i] += 1;
    else if (dtype == DType::kF16)
      buffer.as<std::uint16_t>()[i] =
          formats::float_to_fp16(1 + formats::fp16_to_float(buffer.as<std::uint16_t>()[i]));
    else
      buffer.as<std::uint16_t>()[i] =
          formats::float_to_bf16(1 + formats::bf16_to_float(buffer.as<std::uint16_t>()[i]));
  }
}

}  // namespace

DType DummySource::dtype_of(const std::string&, std::initializer_list<DType> accepted) const {
  return *accepted.begin();
}

bool DummySource::has(const std::string&) const { return true; }

TensorView DummySource::take(const std::string& name, const Shape& shape,
                             std::initializer_list<DType> accepted) {
  const DType dtype = *accepted.begin();
  const auto elements = shape.checked_elements();
  SABREWING_CHECK(elements.has_value() && *elements <= (std::int64_t{1} << 48), kInvalidArgument,
                  "[dummy] tensor {} of shape {} is too large", name, shape.to_string());
  HostBuffer buffer(static_cast<std::size_t>(*elements) * size_of(dtype));
  const std::uint64_t seed = seed_ ^ name_hash(name);
  // Small weights keep activations of order one through many normalised layers.
  constexpr double kRms = 0.02;
  switch (dtype) {
    case DType::kBF16:
    case DType::kF16:
    case DType::kF32: {
      const formats::ElementType type = dtype == DType::kBF16  ? formats::kBF16
                                        : dtype == DType::kF16 ? formats::kFP16
                                                               : formats::kFP32;
      formats::fill_dummy_values(type, kRms, seed, buffer.span(), &pool_);
      if (ends_with(name, "norm.weight")) add_one(buffer, dtype);
      break;
    }
    case DType::kU8: {
      // Blocks and scales of one MXFP4 matrix are asked for one at a time.
      const bool scales = ends_with(name, "_scales");
      const std::span<std::byte> none;
      formats::fill_dummy_weight(formats::WeightFormat::mxfp4(), kRms, seed, scales ? none : buffer.span(),
                                 scales ? buffer.span() : none, &pool_);
      break;
    }
    default:
      fail(ErrorCode::kUnsupported, "[dummy] no random values for tensor {} of dtype {}", name,
           to_string(dtype));
  }
  const TensorView view{dtype, shape, buffer.span()};
  held_.emplace(buffer.data(), std::move(buffer));
  return view;
}

void DummySource::discard(std::span<const std::byte> part) { discard_pages(part); }

void DummySource::release(const TensorView& tensor) { held_.erase(tensor.bytes.data()); }

void DummySource::finish(const std::vector<std::string>&) {}

}  // namespace sabrewing::models
