#include "kernels/cpu/tier.h"

#include <array>
#include <cstring>

#include "core/error.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace sabrewing::kernels::cpu {
namespace {

constexpr std::array kTiers = {CpuTier::kScalar, CpuTier::kAvx2, CpuTier::kAvx512};

#if defined(__x86_64__)

struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned subleaf) {
  Registers r;
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
  return r;
}

bool bit(unsigned value, int position) { return (value >> position & 1u) != 0; }

std::uint64_t enabled_state() {
  unsigned low = 0;
  unsigned high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

std::string read_brand() {
  std::array<unsigned, 12> words{};
  if (cpuid(0x80000000u, 0).a < 0x80000004u) return "unknown";
  for (unsigned i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002u + i, 0);
    words[i * 4] = r.a;
    words[i * 4 + 1] = r.b;
    words[i * 4 + 2] = r.c;
    words[i * 4 + 3] = r.d;
  }
  std::array<char, sizeof(words) + 1> text{};
  std::memcpy(text.data(), words.data(), sizeof(words));
  const std::string_view brand(text.data());
  const std::size_t first = brand.find_first_not_of(' ');
  return first == std::string_view::npos ? "unknown" : std::string(brand.substr(first));
}

CpuFeatures detect() {
  CpuFeatures features;
  const Registers vendor = cpuid(0, 0);
  const Registers basic = cpuid(1, 0);
  const Registers extended = cpuid(7, 0);
  const Registers extended1 = extended.a >= 1 ? cpuid(7, 1) : Registers{};
  constexpr std::uint64_t kAvxState = 0x6;      // XMM, YMM
  constexpr std::uint64_t kAvx512State = 0xe6;  // and opmask, the upper halves, the upper 16 registers
  const std::uint64_t state = bit(basic.c, 27) ? enabled_state() : 0;
  const bool fma_f16c_avx = bit(basic.c, 12) && bit(basic.c, 29) && bit(basic.c, 28);
  features.avx2 = (state & kAvxState) == kAvxState && fma_f16c_avx && bit(extended.b, 5);
  const bool foundation =
      bit(extended.b, 16) && bit(extended.b, 17) && bit(extended.b, 30) && bit(extended.b, 31);
  const bool vbmi_vnni = bit(extended.c, 1) && bit(extended.c, 11);
  features.avx512 = features.avx2 && (state & kAvx512State) == kAvx512State && foundation && vbmi_vnni;
  features.avx512_bf16 = features.avx512 && bit(extended1.a, 5);

  std::array<char, 13> name{};
  std::memcpy(name.data(), &vendor.b, 4);
  std::memcpy(name.data() + 4, &vendor.d, 4);
  std::memcpy(name.data() + 8, &vendor.c, 4);
  features.fast_bf16_dot = features.avx512_bf16 && std::string_view(name.data()) == "AuthenticAMD";
  const unsigned base_family = basic.a >> 8 & 0xf;
  const unsigned family = base_family == 0xf ? base_family + (basic.a >> 20 & 0xff) : base_family;
  const unsigned model = (basic.a >> 4 & 0xf) | (basic.a >> 12 & 0xf0);
  features.brand = read_brand();
  features.cpuid =
      fmt::format("{} {}/{}/{} avx2={:d} avx512f={:d} avx512vbmi={:d} avx512vnni={:d} avx512bf16={:d}",
                  name.data(), family, model, basic.a & 0xf, features.avx2, bit(extended.b, 16),
                  bit(extended.c, 1), bit(extended.c, 11), bit(extended1.a, 5));
  return features;
}

#else

CpuFeatures detect() {
  CpuFeatures features;
  features.brand = "unknown";
  features.cpuid = "not an x86-64 processor";
  return features;
}

#endif

}  // namespace

const CpuFeatures& cpu_features() {
  static const CpuFeatures features = detect();
  return features;
}

std::string_view to_string(CpuTier tier) {
  switch (tier) {
    case CpuTier::kScalar:
      return "scalar";
    case CpuTier::kAvx2:
      return "avx2";
    case CpuTier::kAvx512:
      return "avx512";
  }
  return "unknown";
}

std::optional<CpuTier> parse_cpu_tier(std::string_view name) {
  for (const CpuTier tier : kTiers)
    if (to_string(tier) == name) return tier;
  return std::nullopt;
}

bool supports(const CpuFeatures& features, CpuTier tier) {
  switch (tier) {
    case CpuTier::kScalar:
      return true;
    case CpuTier::kAvx2:
      return features.avx2;
    case CpuTier::kAvx512:
      return features.avx512;
  }
  return false;
}

CpuTier best_tier(const CpuFeatures& features) {
  if (features.avx512) return CpuTier::kAvx512;
  return features.avx2 ? CpuTier::kAvx2 : CpuTier::kScalar;
}

CpuTier select_tier(std::string_view forced) {
  const CpuFeatures& features = cpu_features();
  if (forced.empty()) return best_tier(features);
  const std::optional<CpuTier> tier = parse_cpu_tier(forced);
  SABREWING_CHECK(tier.has_value(), kInvalidArgument,
                  "[cpu tier] unknown tier \"{}\": scalar, avx2 or avx512 expected", forced);
  SABREWING_CHECK(supports(features, *tier), kUnsupported,
                  "[cpu tier] {} is not available here: best is {} ({})", forced,
                  to_string(best_tier(features)), features.cpuid);
  return *tier;
}

}  // namespace sabrewing::kernels::cpu
