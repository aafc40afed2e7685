#pragma once
// Types of device code. Compiled by NVRTC alone: no other header is included.

namespace sabrewing::device {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i64 = long long;

#define SW_DEVICE __device__ __forceinline__

}  // namespace sabrewing::device
