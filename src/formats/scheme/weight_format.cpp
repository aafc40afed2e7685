#include "formats/scheme/weight_format.h"

#include <fmt/core.h>

#include "core/error.h"

namespace sabrewing::formats {
namespace {

std::string to_string(BlockShape block) {
  if (block == BlockShape{0, 0}) return "tensor";
  if (block == BlockShape{1, 0}) return "channel";
  if (block.n == 1) return fmt::format("g{}", block.k);
  return fmt::format("{}x{}", block.n, block.k);
}

std::int64_t blocks(std::int64_t extent, std::int64_t block) {
  if (block == 0) return extent == 0 ? 0 : 1;
  return extent / block + (extent % block != 0 ? 1 : 0);
}

}  // namespace

BlockShape WeightFormat::scale_grid(std::int64_t n, std::int64_t k) const {
  if (!scale) return {};
  SABREWING_CHECK(n >= 0 && k >= 0 && block.n >= 0 && block.k >= 0, kInvalidArgument,
                  "[weight format] no scale grid of a {}x{} matrix with {}x{} blocks", n, k, block.n,
                  block.k);
  return {blocks(n, block.n), blocks(k, block.k)};
}

std::string to_string(const WeightFormat& format) {
  if (format == WeightFormat::mxfp4()) return "mxfp4";
  if (format == WeightFormat::mxfp8()) return "mxfp8";
  if (format == WeightFormat::nvfp4()) return "nvfp4";
  std::string text = to_string(format.element);
  if (format.scale) text += fmt::format(" {} {}", to_string(format.block), to_string(*format.scale));
  if (format.second_scale) text += fmt::format(" x {}", to_string(*format.second_scale));
  if (format.zero_point == ZeroPoint::kInteger) text += " zp";
  if (format.zero_point == ZeroPoint::kFloat) text += " fzp";
  return text;
}

std::string to_string(const ActivationFormat& format) {
  if (format == ActivationFormat::mx(kE4M3)) return "mxfp8";
  if (format == ActivationFormat::mx(kE2M1)) return "mxfp4";
  std::string text = to_string(format.element);
  switch (format.granularity) {
    case ActivationFormat::Granularity::kNone:
      break;
    case ActivationFormat::Granularity::kTensor:
      text += " tensor";
      break;
    case ActivationFormat::Granularity::kToken:
      text += " token";
      break;
    case ActivationFormat::Granularity::kGroup:
      text += fmt::format(" g{}", format.group);
      break;
  }
  if (format.scale && (format.granularity == ActivationFormat::Granularity::kGroup || *format.scale != kFP32))
    text += fmt::format(" {}", to_string(*format.scale));
  return text;
}

}  // namespace sabrewing::formats
