// Peak rates of a machine. The loops are assembly, so that no compiler option decides what is measured:
// twelve independent accumulators keep the multipliers busy.

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>

#include "core/buffer.h"
#include "core/thread_pool.h"
#include "kernels/cpu/bench.h"

namespace sabrewing::kernels::cpu {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// A register-only loop and the operations of one of its rounds.
struct RateLoop {
  void (*run)(long rounds) = nullptr;
  double ops_per_round = 0;
};

/// Sums `bytes` (a multiple of 512) from `data`.
using ReadLoop = void (*)(const std::byte* data, std::size_t bytes);

struct Loops {
  RateLoop int8, bf16, fp32;
  ReadLoop read = nullptr;
};

#if defined(__x86_64__)

#define SABREWING_TWELVE(OP) \
  OP("0") OP("1") OP("2") OP("3") OP("4") OP("5") OP("6") OP("7") OP("8") OP("9") OP("10") OP("11")
#define SABREWING_CLOBBERS                                                                                 \
  "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define SABREWING_RATE_LOOP(NAME, CLEAR, BODY)                                                      \
  void NAME(long rounds) {                                                                          \
    __asm__ volatile(SABREWING_TWELVE(CLEAR) CLEAR("12") "1:\n" BODY "dec %0\njnz 1b\nvzeroupper\n" \
                     : "+r"(rounds)                                                                 \
                     :                                                                              \
                     : SABREWING_CLOBBERS);                                                         \
  }
#define SABREWING_CLEAR_ZMM(R) "vpxor %%xmm" R ",%%xmm" R ",%%xmm" R "\n"
#define SABREWING_CLEAR_YMM(R) "vpxor %%xmm" R ",%%xmm" R ",%%xmm" R "\n"
#define SABREWING_VPDPBUSD(R) "vpdpbusd %%zmm12,%%zmm12,%%zmm" R "\n"
#define SABREWING_VDPBF16PS(R) "vdpbf16ps %%zmm12,%%zmm12,%%zmm" R "\n"
#define SABREWING_FMA_ZMM(R) "vfmadd231ps %%zmm12,%%zmm12,%%zmm" R "\n"
#define SABREWING_FMA_YMM(R) "vfmadd231ps %%ymm12,%%ymm12,%%ymm" R "\n"
#define SABREWING_MADD_YMM(R)                                                                               \
  "vpmaddubsw %%ymm12,%%ymm12,%%ymm13\nvpmaddwd %%ymm12,%%ymm13,%%ymm13\nvpaddd %%ymm13,%%ymm" R ",%%ymm" R \
  "\n"

SABREWING_RATE_LOOP(vpdpbusd_zmm, SABREWING_CLEAR_ZMM, SABREWING_TWELVE(SABREWING_VPDPBUSD))
SABREWING_RATE_LOOP(vdpbf16ps_zmm, SABREWING_CLEAR_ZMM, SABREWING_TWELVE(SABREWING_VDPBF16PS))
SABREWING_RATE_LOOP(fma_zmm, SABREWING_CLEAR_ZMM, SABREWING_TWELVE(SABREWING_FMA_ZMM))
SABREWING_RATE_LOOP(fma_ymm, SABREWING_CLEAR_YMM, SABREWING_TWELVE(SABREWING_FMA_YMM))
SABREWING_RATE_LOOP(madd_ymm, SABREWING_CLEAR_YMM, SABREWING_TWELVE(SABREWING_MADD_YMM))

void mul_add_xmm(long rounds) {
  __asm__ volatile(
      "xorps %%xmm12,%%xmm12\nxorps %%xmm0,%%xmm0\nxorps %%xmm1,%%xmm1\nxorps %%xmm2,%%xmm2\nxorps "
      "%%xmm3,%%xmm3\n"
      "xorps %%xmm8,%%xmm8\nxorps %%xmm9,%%xmm9\nxorps %%xmm10,%%xmm10\nxorps %%xmm11,%%xmm11\n"
      "1:\n"
      "mulps %%xmm12,%%xmm0\naddps %%xmm12,%%xmm8\nmulps %%xmm12,%%xmm1\naddps %%xmm12,%%xmm9\n"
      "mulps %%xmm12,%%xmm2\naddps %%xmm12,%%xmm10\nmulps %%xmm12,%%xmm3\naddps %%xmm12,%%xmm11\n"
      "dec %0\njnz 1b\n"
      : "+r"(rounds)
      :
      : SABREWING_CLOBBERS);
}

#define SABREWING_READ_LOOP(NAME, CLEAR, BODY, END)                                            \
  void NAME(const std::byte* data, std::size_t bytes) {                                        \
    const std::byte* end = data + bytes;                                                       \
    __asm__ volatile(SABREWING_TWELVE(CLEAR) "1:\n" BODY "add $512,%0\ncmp %1,%0\njb 1b\n" END \
                     : "+r"(data)                                                              \
                     : "r"(end)                                                                \
                     : SABREWING_CLOBBERS);                                                    \
  }
#define SABREWING_EIGHT_ZMM                                                                    \
  "vpaddd (%0),%%zmm0,%%zmm0\nvpaddd 64(%0),%%zmm1,%%zmm1\nvpaddd 128(%0),%%zmm2,%%zmm2\n"     \
  "vpaddd 192(%0),%%zmm3,%%zmm3\nvpaddd 256(%0),%%zmm4,%%zmm4\nvpaddd 320(%0),%%zmm5,%%zmm5\n" \
  "vpaddd 384(%0),%%zmm6,%%zmm6\nvpaddd 448(%0),%%zmm7,%%zmm7\n"
#define SABREWING_LINE_YMM(OFFSET, A, B) \
  "vpaddd " OFFSET "(%0),%%ymm" A ",%%ymm" A "\nvpaddd 32+" OFFSET "(%0),%%ymm" B ",%%ymm" B "\n"
#define SABREWING_EIGHT_YMM           \
  SABREWING_LINE_YMM("0", "0", "1")   \
  SABREWING_LINE_YMM("64", "2", "3")  \
  SABREWING_LINE_YMM("128", "4", "5") \
  SABREWING_LINE_YMM("192", "6", "7") \
  SABREWING_LINE_YMM("256", "0", "1") \
  SABREWING_LINE_YMM("320", "2", "3") SABREWING_LINE_YMM("384", "4", "5") SABREWING_LINE_YMM("448", "6", "7")
#define SABREWING_LINE_XMM(OFFSET)                                                \
  "paddd " OFFSET "(%0),%%xmm0\npaddd 16+" OFFSET "(%0),%%xmm1\npaddd 32+" OFFSET \
  "(%0),%%xmm2\n"                                                                 \
  "paddd 48+" OFFSET "(%0),%%xmm3\n"
#define SABREWING_EIGHT_XMM \
  SABREWING_LINE_XMM("0")   \
  SABREWING_LINE_XMM("64")  \
  SABREWING_LINE_XMM("128") \
  SABREWING_LINE_XMM("192") \
  SABREWING_LINE_XMM("256") SABREWING_LINE_XMM("320") SABREWING_LINE_XMM("384") SABREWING_LINE_XMM("448")
#define SABREWING_CLEAR_XMM(R) "pxor %%xmm" R ",%%xmm" R "\n"

SABREWING_READ_LOOP(read_zmm, SABREWING_CLEAR_ZMM, SABREWING_EIGHT_ZMM, "vzeroupper\n")
SABREWING_READ_LOOP(read_ymm, SABREWING_CLEAR_YMM, SABREWING_EIGHT_YMM, "vzeroupper\n")
SABREWING_READ_LOOP(read_xmm, SABREWING_CLEAR_XMM, SABREWING_EIGHT_XMM, "")

Loops loops_of(CpuTier tier) {
  Loops loops;
  switch (tier) {
    case CpuTier::kAvx512:
      loops.int8 = {vpdpbusd_zmm, 12 * 128};
      if (cpu_features().avx512_bf16) loops.bf16 = {vdpbf16ps_zmm, 12 * 64};
      loops.fp32 = {fma_zmm, 12 * 32};
      loops.read = read_zmm;
      break;
    case CpuTier::kAvx2:
      loops.int8 = {madd_ymm, 12 * 64};
      loops.fp32 = {fma_ymm, 12 * 16};
      loops.read = read_ymm;
      break;
    case CpuTier::kScalar:
      loops.fp32 = {mul_add_xmm, 8 * 4};
      loops.read = read_xmm;
      break;
  }
  return loops;
}

#else

void read_words(const std::byte* data, std::size_t bytes) {
  std::uint64_t sum = 0;
  for (std::size_t i = 0; i < bytes; i += sizeof(sum)) {
    std::uint64_t word = 0;
    std::memcpy(&word, data + i, sizeof(word));
    sum += word;
  }
  __asm__ volatile("" : : "r"(sum));
}

Loops loops_of(CpuTier) { return {{}, {}, {}, read_words}; }

#endif

constexpr long kWindowRounds = 1500000;

double window_ops(const RateLoop& loop, const ThreadPool& pool) {
  return static_cast<double>(kWindowRounds) * loop.ops_per_round * pool.threads();
}

double measure_window(const RateLoop& loop, ThreadPool& pool) {
  const double start = now();
  pool.parallel_for(pool.threads(), [&](std::int64_t, int) { loop.run(kWindowRounds); });
  return window_ops(loop, pool) / (now() - start);
}

double measure_loop(const RateLoop& loop, ThreadPool& pool) {
  if (loop.run == nullptr) return 0;
  constexpr int kPasses = 20;
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) best = std::max(best, measure_window(loop, pool));
  return best;
}

double measure_read(ReadLoop loop, ThreadPool& pool, const HostBuffer& memory) {
  constexpr std::size_t kChunk = std::size_t{1} << 20;
  constexpr std::size_t kWindow = std::size_t{192} << 20;
  constexpr int kPasses = 4;
  double best = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    for (std::size_t first = 0; first + kWindow <= memory.size(); first += kWindow) {
      const double start = now();
      pool.parallel_for(kWindow / kChunk, [&](std::int64_t chunk, int) {
        loop(memory.data() + first + static_cast<std::size_t>(chunk) * kChunk, kChunk);
      });
      best = std::max(best, kWindow / (now() - start));
    }
  }
  return best;
}

}  // namespace

std::size_t last_level_cache_bytes() {
  std::size_t largest = std::size_t{1} << 20;
  for (int index = 0; index < 8; ++index) {
    std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu0/cache/index{}/size", index));
    std::size_t kilobytes = 0;
    if (file >> kilobytes) largest = std::max(largest, kilobytes << 10);
  }
  return largest;
}

MachineRates measure_rates(int threads, CpuTier tier, std::size_t read_bytes) {
  constexpr std::size_t kLeastRead = std::size_t{192} << 20;
  ThreadPool pool(threads > 0 ? threads : available_processors());
  const Loops loops = loops_of(tier);
  MachineRates rates;
  rates.threads = pool.threads();
  rates.int8_ops_per_second = measure_loop(loops.int8, pool);
  rates.bf16_ops_per_second = measure_loop(loops.bf16, pool);
  rates.fp32_ops_per_second = measure_loop(loops.fp32, pool);
  HostBuffer memory(std::max(read_bytes > 0 ? read_bytes : 4 * last_level_cache_bytes(), kLeastRead));
  std::memset(memory.data(), 1, memory.size());
  rates.read_bytes_per_second = measure_read(loops.read, pool, memory);
  return rates;
}

Int8Rate measure_int8_rate(ThreadPool& pool, double seconds, CpuTier tier) {
  const RateLoop loop = loops_of(tier).int8;
  Int8Rate rate;
  const double start = now();
  for (int windows = 1; loop.run != nullptr; ++windows) {
    rate.best = std::max(rate.best, measure_window(loop, pool));
    const double elapsed = now() - start;
    rate.sustained = windows * window_ops(loop, pool) / elapsed;
    if (elapsed >= seconds) break;
  }
  return rate;
}

}  // namespace sabrewing::kernels::cpu
