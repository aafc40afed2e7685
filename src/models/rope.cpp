#include "models/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "core/printable.h"

namespace sabrewing::models {
namespace {

/// 1 / theta^(2i / head_dim), in the FP32 steps of the reference implementation.
std::vector<float> plain_frequencies(std::int64_t head_dim, double theta) {
  std::vector<float> frequencies;
  for (std::int64_t i = 0; i < head_dim / 2; ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(head_dim);
    frequencies.push_back(1.0F / std::pow(static_cast<float>(theta), exponent));
  }
  return frequencies;
}

/// The dimension whose wavelength makes `rotations` turns within `positions`.
double correction_dimension(double rotations, std::int64_t head_dim, double theta, double positions) {
  return static_cast<double>(head_dim) * std::log(positions / (rotations * 2 * std::numbers::pi)) /
         (2 * std::log(theta));
}

double log_scale(double factor, double mscale) {
  return factor <= 1 ? 1.0 : 0.1 * mscale * std::log(factor) + 1.0;
}

Rope yarn(ConfigReader& fields, std::int64_t head_dim, std::int64_t max_positions, double theta) {
  const double original = static_cast<double>(
      fields.integer_or("original_max_position_embeddings", max_positions, 1, std::int64_t{1} << 40));
  const double factor = fields.number_or("factor", static_cast<double>(max_positions) / original, 1e-3, 1e6);
  // A value of zero means the default, as in the reference implementation.
  const auto or_default = [](double value, double fallback) { return value == 0 ? fallback : value; };
  const double beta_fast = or_default(fields.number_or("beta_fast", 32, 0, 1e6), 32);
  const double beta_slow = or_default(fields.number_or("beta_slow", 1, 0, 1e6), 1);
  const bool truncate = fields.boolean_or("truncate", true);
  const double mscale = fields.number_or("mscale", 0, 0, 1e6);
  const double mscale_all = fields.number_or("mscale_all_dim", 0, 0, 1e6);
  const double inferred = mscale != 0 && mscale_all != 0
                              ? log_scale(factor, mscale) / log_scale(factor, mscale_all)
                              : log_scale(factor, 1);
  const double attention_factor = fields.number_or("attention_factor", inferred, 0, 1e6);

  double low = correction_dimension(beta_fast, head_dim, theta, original);
  double high = correction_dimension(beta_slow, head_dim, theta, original);
  if (truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(head_dim - 1));
  if (low == high) high += 0.001;  // the reference implementation's way round a division by zero

  Rope rope;
  rope.attention_factor = static_cast<float>(attention_factor);
  rope.inverse_frequency = plain_frequencies(head_dim, theta);
  for (std::size_t i = 0; i < rope.inverse_frequency.size(); ++i) {
    const double ramp = std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0);
    const double extrapolated = rope.inverse_frequency[i];
    rope.inverse_frequency[i] = static_cast<float>(extrapolated / factor * ramp + extrapolated * (1 - ramp));
  }
  rope.description = fmt::format("yarn x{} over {}, theta {}", factor, original, theta);
  return rope;
}

}  // namespace

Rope read_rope(ConfigReader& config, std::int64_t head_dim, std::int64_t max_positions, double default_theta,
               const Json& default_scaling) {
  const Json* parameters = config.find("rope_parameters");
  const Json* scaling = config.find("rope_scaling");
  const double outer_theta = config.number_or("rope_theta", default_theta, 1, 1e12);
  const Json& source = parameters != nullptr ? *parameters : scaling != nullptr ? *scaling : default_scaling;
  const char* name = parameters != nullptr ? "rope_parameters" : "rope_scaling";

  const Json empty = Json::object();
  if (!source.is_object() && !source.is_null()) config.reject(name, "is no object");
  for (const auto& [key, value] : source.items())
    SABREWING_CHECK(!value.is_object(), kUnsupported,
                    "[config] {}: field \"{}\" differs per layer type (\"{}\"), "
                    "which is not supported",
                    config.where(), name, key);
  ConfigReader fields(source.is_null() ? empty : source, config.where() + ": " + name);

  const double theta = fields.number_or("rope_theta", outer_theta, 1, 1e12);
  SABREWING_CHECK(theta > 1, kCorrupt, "[config] {}: rope_theta is {}, expected more than 1", config.where(),
                  theta);
  std::string type = fields.text_or("rope_type", "");
  if (type.empty()) type = fields.text_or("type", "default");
  fields.require_neutral("partial_rotary_factor", 1.0);

  Rope rope;
  if (type == "default") {
    rope.inverse_frequency = plain_frequencies(head_dim, theta);
    rope.description = fmt::format("default, theta {}", theta);
    fields.ignore({"factor", "original_max_position_embeddings"});
  } else if (type == "linear") {
    const double factor = fields.number("factor", 1e-3, 1e6);
    rope.inverse_frequency = plain_frequencies(head_dim, theta);
    for (float& frequency : rope.inverse_frequency) frequency /= static_cast<float>(factor);
    rope.description = fmt::format("linear x{}, theta {}", factor, theta);
  } else if (type == "yarn") {
    rope = yarn(fields, head_dim, max_positions, theta);
  } else {
    fail(ErrorCode::kUnsupported,
         "[config] {}: {} type {} is not supported; supported: default, linear, yarn", config.where(), name,
         printable(type));
  }
  fields.ignore({"type", "rope_type"});
  for (const std::string& key : fields.unread())
    fail(ErrorCode::kUnsupported, "[config] {}: field {} of {} is not supported for type \"{}\"",
         config.where(), printable(key), name, type);
  return rope;
}

}  // namespace sabrewing::models
