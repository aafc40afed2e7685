#include "capi/descriptors.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <string_view>

#include "formats/numeric/bit_stream.h"

namespace sabrewing::capi {
namespace {

using formats::ElementType;

constexpr std::size_t kLargestStructure = 4096;
constexpr std::int64_t kMaxExtent = std::numeric_limits<std::int32_t>::max();
constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;
constexpr std::size_t kMaxParts = 1 << 16;

ElementType to_element_type(const sabrewing_element_type& from, const char* what) {
  ElementType type;
  switch (from.kind) {
    case SABREWING_KIND_INT:
      type.kind = ElementType::Kind::kInt;
      break;
    case SABREWING_KIND_UINT:
      type.kind = ElementType::Kind::kUInt;
      break;
    case SABREWING_KIND_MINIFLOAT:
      type.kind = ElementType::Kind::kMinifloat;
      break;
    case SABREWING_KIND_IEEE:
      type.kind = ElementType::Kind::kIeee;
      break;
    case SABREWING_KIND_EXPONENT:
      type.kind = ElementType::Kind::kExponent;
      break;
    default:
      fail(ErrorCode::kInvalidArgument, "[format] {}: kind {} is no sabrewing_element_kind", what, from.kind);
  }
  type.bits = from.bits;
  type.exponent = from.exponent;
  type.mantissa = from.mantissa;
  // 16-bit integers exist as activations.
  SABREWING_CHECK(type.is_valid() || type == ElementType::integer(16), kInvalidArgument,
                  "[format] {}: there is no type of kind {} with {} bits, {} of exponent, {} of mantissa",
                  what, from.kind, from.bits, from.exponent, from.mantissa);
  return type;
}

std::optional<ElementType> to_optional_element(const sabrewing_element_type& from, const char* what) {
  if (from.kind != SABREWING_KIND_NONE) return to_element_type(from, what);
  SABREWING_CHECK(from.bits == 0 && from.exponent == 0 && from.mantissa == 0, kInvalidArgument,
                  "[format] {}: no kind, but {} bits", what, from.bits);
  return std::nullopt;
}

void check_extent(std::int64_t value, std::int64_t least, const char* what) {
  SABREWING_CHECK(value >= least && value <= kMaxExtent, kInvalidArgument,
                  "[gemm] {} is {}: {} to {} expected", what, value, least, kMaxExtent);
}

void check_elements(std::int64_t rows, std::int64_t columns, const char* what) {
  SABREWING_CHECK(rows <= kMaxElements / columns, kInvalidArgument,
                  "[gemm] {}: {} by {} elements are more than 2^40", what, rows, columns);
}

void check_reserved(std::int32_t value, const char* what) {
  SABREWING_CHECK(value == 0, kInvalidArgument, "[{}] reserved is {}: 0 expected", what, value);
}

/// "cuda", "cuda:3"; nothing for another device.
std::optional<int> cuda_ordinal(std::string_view device) {
  if (device == "cuda") return 0;
  constexpr std::string_view kPrefix = "cuda:";
  if (!device.starts_with(kPrefix)) return std::nullopt;
  device.remove_prefix(kPrefix.size());
  int ordinal = 0;
  const auto [end, error] = std::from_chars(device.data(), device.data() + device.size(), ordinal);
  if (error != std::errc() || end != device.data() + device.size() || ordinal < 0) return std::nullopt;
  return ordinal;
}

/// A stride in bytes, 0 standing for rows that follow each other; all rows lie inside `bytes`.
std::int64_t checked_rows(const void* data, std::size_t bytes, std::int64_t stride, std::int64_t rows,
                          std::size_t row_bytes, const char* what) {
  SABREWING_CHECK(data != nullptr, kInvalidArgument, "[pack] {} are null", what);
  const auto length = static_cast<std::int64_t>(row_bytes);
  if (stride == 0) stride = length;
  SABREWING_CHECK(stride >= length, kInvalidArgument, "[pack] {}: rows are {} bytes apart and {} long", what,
                  stride, length);
  SABREWING_CHECK(bytes >= row_bytes && static_cast<std::size_t>(rows - 1) <=
                                            (bytes - row_bytes) / static_cast<std::size_t>(stride),
                  kInvalidArgument, "[pack] {}: {} rows of {} bytes, {} apart, are not in {} bytes", what,
                  rows, length, stride, bytes);
  return stride;
}

}  // namespace

void check_pointer(const void* pointer, std::size_t alignment, const char* what) {
  SABREWING_CHECK(pointer != nullptr, kInvalidArgument, "[argument] {} is null", what);
  SABREWING_CHECK(reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0, kInvalidArgument,
                  "[argument] {} is at {}, no multiple of {} bytes", what, pointer, alignment);
}

void read_structure(const void* from, std::size_t first, std::size_t known, void* to, const char* what) {
  std::size_t size = 0;
  std::memcpy(&size, from, sizeof size);
  SABREWING_CHECK(size >= first && size <= kLargestStructure, kInvalidArgument,
                  "[argument] {}: struct_size is {}, {} expected", what, size, known);
  const auto* bytes = static_cast<const unsigned char*>(from);
  for (std::size_t i = known; i < size; ++i)
    SABREWING_CHECK(bytes[i] == 0, kUnsupported,
                    "[argument] {}: struct_size is {}; this library knows {} bytes, and byte {} is not zero",
                    what, size, known, i);
  std::memcpy(to, from, std::min(size, known));
}

formats::WeightFormat to_weight_format(const sabrewing_weight_format* from) {
  const auto in = read_descriptor(from, "weight format");
  formats::WeightFormat format;
  format.element = to_element_type(in.element, "weight element");
  format.scale = to_optional_element(in.scale, "weight scale");
  format.second_scale = to_optional_element(in.second_scale, "weight second_scale");
  SABREWING_CHECK(in.zero_point >= SABREWING_ZERO_POINT_NONE && in.zero_point <= SABREWING_ZERO_POINT_FLOAT,
                  kInvalidArgument, "[format] zero_point {} is no sabrewing_zero_point", in.zero_point);
  format.zero_point = static_cast<formats::ZeroPoint>(in.zero_point);
  check_extent(in.block_n, 0, "block_n");
  check_extent(in.block_k, 0, "block_k");
  SABREWING_CHECK(format.scale || format.zero_point == formats::ZeroPoint::kNone, kInvalidArgument,
                  "[format] zero points without a scale");
  SABREWING_CHECK(format.scale || (in.block_n == 0 && in.block_k == 0), kInvalidArgument,
                  "[format] blocks of {} by {} without a scale", in.block_n, in.block_k);
  format.block = {in.block_n, in.block_k};
  return format;
}

formats::ActivationFormat to_activation_format(const sabrewing_activation_format* from) {
  const auto in = read_descriptor(from, "activation format");
  check_reserved(in.reserved, "format");
  formats::ActivationFormat format;
  format.element = to_element_type(in.element, "activation element");
  format.scale = to_optional_element(in.scale, "activation scale");
  SABREWING_CHECK(in.granularity >= SABREWING_SCALE_NONE && in.granularity <= SABREWING_SCALE_GROUP,
                  kInvalidArgument, "[format] granularity {} is no sabrewing_granularity", in.granularity);
  format.granularity = static_cast<formats::ActivationFormat::Granularity>(in.granularity);
  SABREWING_CHECK(format.scale.has_value() == (in.granularity != SABREWING_SCALE_NONE), kInvalidArgument,
                  "[format] activations with granularity {} {} a scale type", in.granularity,
                  format.scale ? "have" : "lack");
  check_extent(in.group, in.granularity == SABREWING_SCALE_GROUP ? 1 : 0, "activation group");
  SABREWING_CHECK(in.granularity == SABREWING_SCALE_GROUP || in.group == 0, kInvalidArgument,
                  "[format] activations in groups of {} with granularity {}", in.group, in.granularity);
  format.group = in.group;
  return format;
}

sabrewing_element_type to_element(const ElementType& type) {
  sabrewing_element_type out{};
  switch (type.kind) {
    case ElementType::Kind::kInt:
      out.kind = SABREWING_KIND_INT;
      break;
    case ElementType::Kind::kUInt:
      out.kind = SABREWING_KIND_UINT;
      break;
    case ElementType::Kind::kMinifloat:
      out.kind = SABREWING_KIND_MINIFLOAT;
      break;
    case ElementType::Kind::kIeee:
      out.kind = SABREWING_KIND_IEEE;
      break;
    case ElementType::Kind::kExponent:
      out.kind = SABREWING_KIND_EXPONENT;
      break;
  }
  out.bits = type.bits;
  out.exponent = type.exponent;
  out.mantissa = type.mantissa;
  return out;
}

void write_activation_format(const formats::ActivationFormat& from, sabrewing_activation_format* to) {
  read_descriptor(to, "activation format");
  const std::size_t size = to->struct_size;
  *to = {};
  to->struct_size = size;
  to->element = to_element(from.element);
  if (from.scale) to->scale = to_element(*from.scale);
  to->granularity = static_cast<std::int32_t>(from.granularity);
  to->group = from.group;
}

kernels::Accuracy to_accuracy(std::int32_t accuracy) {
  switch (accuracy) {
    case SABREWING_ACCURACY_DEFAULT:
      return kernels::Accuracy::kDefault;
    case SABREWING_ACCURACY_HIGH:
      return kernels::Accuracy::kHigh;
    case SABREWING_ACCURACY_EXACT:
      return kernels::Accuracy::kExact;
    default:
      fail(ErrorCode::kInvalidArgument, "[gemm] accuracy {} is no sabrewing_accuracy", accuracy);
  }
}

DType to_dtype(std::int32_t dtype, const char* what) {
  switch (dtype) {
    case SABREWING_BF16:
      return DType::kBF16;
    case SABREWING_F16:
      return DType::kF16;
    case SABREWING_F32:
      return DType::kF32;
    case SABREWING_F8_E4M3:
      return DType::kF8E4M3;
    case SABREWING_F8_E5M2:
      return DType::kF8E5M2;
    case SABREWING_I8:
      return DType::kI8;
    default:
      fail(ErrorCode::kInvalidArgument, "[gemm] {}: {} is no sabrewing_dtype", what, dtype);
  }
}

std::shared_ptr<DeviceContext> open_context(const sabrewing_context_desc* from) {
  const auto in = read_descriptor(from, "context descriptor");
  check_reserved(in.reserved, "context");
  SABREWING_CHECK(in.device != nullptr, kInvalidArgument, "[context] device is null");
  const std::string_view device = in.device;
  const auto refuse = [&](bool given, const char* what, const char* where) {
    SABREWING_CHECK(!given, kInvalidArgument, "[context] {} is for {}, not for {}", what, where, device);
  };
  if (device == "cpu") {
    refuse(in.nvrtc_path != nullptr, "nvrtc_path", "cuda");
    refuse(in.kernel_cache != nullptr, "kernel_cache", "cuda");
    SABREWING_CHECK(in.threads >= 0, kInvalidArgument, "[context] threads is {}", in.threads);
    return make_cpu_context({in.cpu_tier == nullptr ? "" : in.cpu_tier, in.threads});
  }
  const std::optional<int> ordinal = cuda_ordinal(device);
  SABREWING_CHECK(ordinal.has_value(), kInvalidArgument,
                  "[context] device \"{}\": \"cpu\" or \"cuda:N\" expected", device);
  refuse(in.cpu_tier != nullptr, "cpu_tier", "cpu");
  refuse(in.threads != 0, "threads", "cpu");
  CudaContextOptions options;
  options.ordinal = *ordinal;
  if (in.nvrtc_path != nullptr) options.nvrtc_path = in.nvrtc_path;
  options.default_cache = in.kernel_cache == nullptr;
  if (in.kernel_cache != nullptr) options.cache_folder = in.kernel_cache;
  return make_cuda_context(options);
}

Problem to_problem(const DeviceContext& context, const sabrewing_gemm_desc* from) {
  const auto in = read_descriptor(from, "gemm descriptor");
  check_reserved(in.reserved, "gemm");
  Problem problem;
  kernels::GemmDesc& desc = problem.desc;
  desc.weight = to_weight_format(in.weight);
  desc.accuracy = to_accuracy(in.accuracy);
  desc.output = to_dtype(in.output, "output");
  check_extent(in.n, 1, "n");
  check_extent(in.k, 1, "k");
  check_extent(in.min_m, 0, "min_m");
  check_extent(in.max_m, 1, "max_m");
  problem.min_m = std::max<std::int64_t>(in.min_m, 1);
  problem.max_m = in.max_m;
  SABREWING_CHECK(problem.min_m <= problem.max_m, kInvalidArgument, "[gemm] min_m is {}, above max_m, {}",
                  in.min_m, in.max_m);
  check_elements(in.n, in.k, "weight");
  check_elements(in.max_m, in.k, "a");
  check_elements(in.max_m, in.n, "c");
  SABREWING_CHECK(in.bias == 0 || in.bias == 1, kInvalidArgument, "[gemm] bias is {}: 0 or 1 expected",
                  in.bias);
  desc.n = in.n;
  desc.k = in.k;
  desc.bias = in.bias == 1;
  desc.activation = in.activation == nullptr ? context.preferred_activation(desc.weight, desc.accuracy)
                                             : to_activation_format(in.activation);
  return problem;
}

kernels::WeightSource to_source(const kernels::GemmDesc& desc, const DeviceContext& context,
                                const sabrewing_weight_source* from) {
  const auto in = read_descriptor(from, "weight source");
  const formats::WeightFormat& format = desc.weight;
  SABREWING_CHECK(in.part_count >= 1 && in.part_count <= kMaxParts, kInvalidArgument,
                  "[pack] part_count is {}: 1 to {} expected", in.part_count, kMaxParts);
  check_pointer(in.parts, alignof(sabrewing_weight_rows), "weight parts");
  const std::size_t value_bytes =
      formats::packed_bytes(static_cast<std::size_t>(desc.k), format.element.bits);
  const formats::BlockShape grid = format.scale_grid(desc.n, desc.k);
  const std::size_t scale_bytes =
      format.scale ? static_cast<std::size_t>(grid.k) * (format.scale->bits / 8u) : std::size_t{0};
  const std::size_t zero_bytes =
      format.zero_point == formats::ZeroPoint::kInteger
          ? formats::packed_bytes(static_cast<std::size_t>(grid.k), format.element.bits)
          : scale_bytes;
  check_reserved(in.reserved, "pack");
  SABREWING_CHECK(
      format.second_scale ? in.second_scale != 0 && std::isfinite(in.second_scale) : in.second_scale == 0,
      kInvalidArgument, "[pack] second_scale is {}: {} expected for {}", in.second_scale,
      format.second_scale ? "a finite number other than 0" : "0", formats::to_string(format));
  kernels::WeightSource source;
  source.format = format;
  source.k = desc.k;
  if (format.second_scale) source.second_scale = in.second_scale;
  const auto* next = reinterpret_cast<const std::byte*>(in.parts);
  const std::size_t part_size = in.parts->struct_size;
  std::int64_t rows = 0;
  for (std::size_t i = 0; i < in.part_count; ++i, next += part_size) {
    const auto part = read_descriptor(reinterpret_cast<const sabrewing_weight_rows*>(next), "weight rows");
    SABREWING_CHECK(part.struct_size == part_size, kInvalidArgument,
                    "[pack] part {}: struct_size is {}, that of the first {}", i, part.struct_size,
                    part_size);
    SABREWING_CHECK(part.rows >= 1 && part.rows <= desc.n - rows, kInvalidArgument,
                    "[pack] part {} has {} rows: 1 to {} are left of {}", i, part.rows, desc.n - rows,
                    desc.n);
    kernels::WeightRows out;
    out.row_stride =
        checked_rows(part.values, part.values_bytes, part.row_stride, part.rows, value_bytes, "values");
    context.check_host_memory(part.values, "values");
    out.values = static_cast<const std::byte*>(part.values);
    out.rows_per_scale = format.block.n == 0 ? part.rows : format.block.n;
    const std::int64_t scale_rows = (part.rows + out.rows_per_scale - 1) / out.rows_per_scale;
    if (format.scale) {
      out.scale_row_stride = checked_rows(part.scales, part.scales_bytes, part.scale_row_stride, scale_rows,
                                          scale_bytes, "scales");
      context.check_host_memory(part.scales, "scales");
      out.scales = static_cast<const std::byte*>(part.scales);
    } else {
      SABREWING_CHECK(part.scales == nullptr, kInvalidArgument,
                      "[pack] part {}: {} has no scales, the part has", i, formats::to_string(format));
    }
    if (format.zero_point != formats::ZeroPoint::kNone) {
      out.zero_row_stride =
          checked_rows(part.zeros, part.zeros_bytes, part.zero_row_stride, scale_rows, zero_bytes, "zeros");
      context.check_host_memory(part.zeros, "zeros");
      out.zeros = static_cast<const std::byte*>(part.zeros);
    } else {
      SABREWING_CHECK(part.zeros == nullptr, kInvalidArgument,
                      "[pack] part {}: {} has no zero points, the part has", i, formats::to_string(format));
    }
    out.rows = part.rows;
    rows += part.rows;
    source.parts.push_back(out);
  }
  SABREWING_CHECK(rows == desc.n, kInvalidArgument, "[pack] the parts have {} rows, the plan {}", rows,
                  desc.n);
  return source;
}

std::int64_t checked_stride(std::int64_t stride, std::int64_t columns, std::int64_t rows, const char* what) {
  if (stride == 0) return columns;
  SABREWING_CHECK(stride >= columns && stride <= kMaxElements / rows, kInvalidArgument,
                  "[gemm] {} is {}: {} to 2^40 over {} rows expected", what, stride, columns, rows);
  return stride;
}

}  // namespace sabrewing::capi
