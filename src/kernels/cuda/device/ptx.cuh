#pragma once
// Thin wrappers of PTX instructions.

#include "types.cuh"

namespace sabrewing::device {

SW_DEVICE u32 shared_address(const void* pointer) {
  return static_cast<u32>(__cvta_generic_to_shared(pointer));
}

SW_DEVICE int lane_id() { return static_cast<int>(threadIdx.x & 31); }

// The thread's number in its block, as if it could have changed: what is computed of it stays where it is.
SW_DEVICE int thread_id_again() {
  int out;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(out));
  return out;
}

// The warp's number in its block, in a form that the compiler knows to be the same in all lanes.
SW_DEVICE int warp_id() { return __shfl_sync(0xffffffffu, static_cast<int>(threadIdx.x) / 32, 0); }

// Two FP32 values rounded to one register of BF16, `low` in the low half.
SW_DEVICE u32 pack_bf16(float low, float high) {
  u32 out;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}
SW_DEVICE u32 pack_f16(float low, float high) {
  u32 out;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(out) : "f"(high), "f"(low));
  return out;
}

// Programmatic dependent launch.
SW_DEVICE void grid_dependency_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
SW_DEVICE void grid_launch_dependents() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

SW_DEVICE void load_shared(u32 from, u32* out) {
  asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(from)
               : "memory");
}
SW_DEVICE void load_shared_pair(u32 from, u32* out) {
  asm volatile("ld.shared.v2.u32 {%0,%1}, [%2];" : "=r"(out[0]), "=r"(out[1]) : "r"(from) : "memory");
}
SW_DEVICE u32 load_shared(u32 from) {
  u32 out;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(out) : "r"(from) : "memory");
  return out;
}
SW_DEVICE u16 load_shared_16(u32 from) {
  u16 out;
  asm volatile("ld.shared.u16 %0, [%1];" : "=h"(out) : "r"(from) : "memory");
  return out;
}

// Barrier `id` (1 to 15) of a warpgroup.
SW_DEVICE void group_barrier(int id) { asm volatile("bar.sync %0, 128;" ::"r"(id) : "memory"); }
SW_DEVICE void prefetch_l1(const void* from) { asm volatile("prefetch.global.L1 [%0];" ::"l"(from)); }
SW_DEVICE float2 load_shared_floats(u32 from) {
  float2 out;
  asm volatile("ld.shared.v2.f32 {%0,%1}, [%2];" : "=f"(out.x), "=f"(out.y) : "r"(from) : "memory");
  return out;
}
SW_DEVICE void store_shared(u32 to, float value) {
  asm volatile("st.shared.f32 [%0], %1;" ::"r"(to), "f"(value) : "memory");
}

// 16 bytes to shared memory; zeros when `valid` is false.
SW_DEVICE void copy_async_16(u32 to, const void* from, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(valid ? 16 : 0)
               : "memory");
}
SW_DEVICE void copy_async_4(u32 to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}
SW_DEVICE void copy_async_8(u32 to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(to), "l"(from) : "memory");
}
SW_DEVICE void copy_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
SW_DEVICE void copy_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

SW_DEVICE void load_matrix_x4(u32 from, u32 (&out)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(from)
               : "memory");
}

// mma.sync of 16 features by 8 tokens by 32 bytes along K.
#define SW_MMA(NAME, ACC, CONSTRAINT, SHAPE_AND_TYPES)                                                 \
  struct NAME {                                                                                        \
    using Acc = ACC;                                                                                   \
    SW_DEVICE static void run(ACC (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {                        \
      asm("mma.sync.aligned." SHAPE_AND_TYPES " {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};" \
          : CONSTRAINT(d[0]), CONSTRAINT(d[1]), CONSTRAINT(d[2]), CONSTRAINT(d[3])                     \
          : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                             \
    }                                                                                                  \
  };
SW_MMA(Bf16Mma, float, "+f", "m16n8k16.row.col.f32.bf16.bf16.f32")
SW_MMA(F16Mma, float, "+f", "m16n8k16.row.col.f32.f16.f16.f32")
SW_MMA(Int8Mma, int, "+r", "m16n8k32.row.col.s32.s8.s8.s32")
#if __CUDA_ARCH__ >= 890
SW_MMA(E4M3E4M3Mma, float, "+f", "m16n8k32.row.col.f32.e4m3.e4m3.f32")
SW_MMA(E4M3E5M2Mma, float, "+f", "m16n8k32.row.col.f32.e4m3.e5m2.f32")
SW_MMA(E5M2E4M3Mma, float, "+f", "m16n8k32.row.col.f32.e5m2.e4m3.f32")
SW_MMA(E5M2E5M2Mma, float, "+f", "m16n8k32.row.col.f32.e5m2.e5m2.f32")
#endif
#undef SW_MMA
SW_DEVICE void mma_bf16(float (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) { Bf16Mma::run(d, a, b0, b1); }

#if __CUDA_ARCH__ >= 900

SW_DEVICE void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
SW_DEVICE void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
SW_DEVICE u32 cluster_rank() {
  u32 rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
// Address in the cluster's window of `address` in the shared memory of block `rank`.
SW_DEVICE u32 cluster_address(u32 address, u32 rank) {
  u32 out;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(out) : "r"(address), "r"(rank));
  return out;
}
SW_DEVICE float4 load_cluster(u32 address) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0,%1,%2,%3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(address)
               : "memory");
  return v;
}

SW_DEVICE void barrier_init(u32 barrier, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
SW_DEVICE void barrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
// Executed by one lane of a converged warp, like the copies below.
SW_DEVICE void barrier_expect(u32 barrier, u32 bytes) {
  asm volatile(
      "{\n"
      ".reg .pred leader;\n"
      "elect.sync _|leader, 0xffffffff;\n"
      "@leader mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n"
      "}\n" ::"r"(barrier),
      "r"(bytes)
      : "memory");
}
SW_DEVICE void barrier_arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
// On the barrier at the same place in block `rank` of the cluster.
SW_DEVICE void barrier_arrive_at(u32 barrier, u32 rank) {
  asm volatile("mbarrier.arrive.shared::cluster.b64 _, [%0];" ::"r"(cluster_address(barrier, rank))
               : "memory");
}
SW_DEVICE void barrier_wait(u32 barrier, u32 parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(barrier),
      "r"(parity)
      : "memory");
}

SW_DEVICE u64 evict_first_policy() {
  u64 policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
SW_DEVICE u64 evict_normal_policy() {
  u64 policy;
  asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}

SW_DEVICE void copy_bulk(u32 to, const void* from, u32 bytes, u32 barrier, u64 policy) {
  asm volatile(
      "{\n"
      ".reg .pred leader;\n"
      "elect.sync _|leader, 0xffffffff;\n"
      "@leader cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4;\n"
      "}\n" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier), "l"(policy)
      : "memory");
}
SW_DEVICE void copy_tensor_2d(u32 to, const void* map, int x, int y, u32 barrier, u64 policy) {
  asm volatile(
      "{\n"
      ".reg .pred leader;\n"
      "elect.sync _|leader, 0xffffffff;\n"
      "@leader "
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%2, %3}], [%4], %5;\n"
      "}\n" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(barrier), "l"(policy)
      : "memory");
}

// To the same place in every block of the cluster that `blocks` has a bit for, and to its barrier.
SW_DEVICE void copy_tensor_2d(u32 to, const void* map, int x, int y, u32 barrier, u64 policy, u32 blocks) {
  asm volatile(
      "{\n"
      ".reg .pred leader;\n"
      "elect.sync _|leader, 0xffffffff;\n"
      "@leader "
      "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.multicast::cluster"
      ".L2::cache_hint [%0], [%1, {%2, %3}], [%4], %5, %6;\n"
      "}\n" ::"r"(to),
      "l"(map), "r"(x), "r"(y), "r"(barrier), "h"(static_cast<u16>(blocks)), "l"(policy)
      : "memory");
}

// Moves registers between warpgroups; all warps of one must call it.
template <int kRegisters>
SW_DEVICE void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
SW_DEVICE void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// Nothing that computes these moves behind it.
SW_DEVICE void pin_registers(u32 (&a)[4]) {
  asm volatile("" : "+r"(a[0]), "+r"(a[1]), "+r"(a[2]), "+r"(a[3]));
}

SW_DEVICE void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
SW_DEVICE void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int kPending>
SW_DEVICE void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// A K-major operand in shared memory in rows of 128 bytes with the 128-byte swizzle; 8 rows are 1024 bytes.
// `low` is of `operand_low`, plus 2 for each further 32 bytes along K.
SW_DEVICE u32 operand_low(u32 address) { return 1 << 16 | (address & 0x3ffff) >> 4; }
SW_DEVICE u64 swizzled_operand(u32 low) {
  constexpr u32 kHigh = 1u << 30 | 1024 >> 4;
  return static_cast<u64>(kHigh) << 32 | low;
}

// Four transposed 8x8 matrices of 16-bit elements: lane i gives the address of row i % 8 of matrix i / 8.
SW_DEVICE void store_matrix_x4(u32 to, u32 a, u32 b, u32 c, u32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(a), "r"(b),
               "r"(c), "r"(d)
               : "memory");
}
SW_DEVICE void store_matrix_trans_x4(u32 to, u32 a, u32 b, u32 c, u32 d) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(a),
               "r"(b), "r"(c), "r"(d)
               : "memory");
}
SW_DEVICE void store_matrix_trans_x2(u32 to, u32 a, u32 b) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1,%2};" ::"r"(to), "r"(a), "r"(b)
               : "memory");
}

#endif  // __CUDA_ARCH__ >= 900

}  // namespace sabrewing::device
