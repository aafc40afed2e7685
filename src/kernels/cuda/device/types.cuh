#pragma once
// Types of device code. Compiled by NVRTC alone: no other header is included.

namespace sabrewing::device {

using u8 = unsigned char;
using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;
using i64 = long long;

#define SW_DEVICE __device__ __forceinline__

template <typename T>
inline constexpr bool kIsFloat = false;
template <>
inline constexpr bool kIsFloat<float> = true;

template <bool kFirst, typename First, typename Second>
struct SelectType {
  using Type = First;
};
template <typename First, typename Second>
struct SelectType<false, First, Second> {
  using Type = Second;
};
template <bool kFirst, typename First, typename Second>
using Select = typename SelectType<kFirst, First, Second>::Type;

}  // namespace sabrewing::device
