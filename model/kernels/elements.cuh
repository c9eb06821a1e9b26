// Element types, the types that sums are kept in, and vectors of elements that move in one access.
//
// It needs no CUDA header, so NVRTC compiles it on any machine. The part without CUDA is for tests,
// which run kernels on the CPU.
#pragma once

struct bfloat16 { unsigned short bits; };
struct float16 { unsigned short bits; };

template <typename E> struct AccumulatorOf { using type = float; };
template <> struct AccumulatorOf<double> { using type = double; };
template <typename E> using Accumulator = typename AccumulatorOf<E>::type;

#ifdef __CUDACC__
#define DYNAMIC_SHARED(name) extern __shared__ __align__(16) unsigned char name[]

__device__ __forceinline__ float half_to_float(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
__device__ __forceinline__ unsigned short float_to_half(float value) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
__device__ __forceinline__ unsigned short float_to_bfloat(float value) {
    unsigned short bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
    return bits;
}
// Two conversions in one instruction; the first value goes into the low half.
__device__ __forceinline__ unsigned narrow_pair(float low, float high, bfloat16) {
    unsigned word;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
__device__ __forceinline__ unsigned narrow_pair(float low, float high, float16) {
    unsigned word;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
    return word;
}
#else
inline float half_to_float(unsigned short bits) {
    return static_cast<float>(__builtin_bit_cast(_Float16, bits));
}
inline unsigned short float_to_half(float value) {
    return __builtin_bit_cast(unsigned short, static_cast<_Float16>(value));
}
inline unsigned short float_to_bfloat(float value) {
    const unsigned bits = __builtin_bit_cast(unsigned, value);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return 0x7fff;  // NaN, as the hardware writes it
    return static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}
inline unsigned narrow_pair(float low, float high, bfloat16) {
    return float_to_bfloat(low) | unsigned(float_to_bfloat(high)) << 16;
}
inline unsigned narrow_pair(float low, float high, float16) {
    return float_to_half(low) | unsigned(float_to_half(high)) << 16;
}
#endif

__device__ __forceinline__ double widen(double value) { return value; }
__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ float widen(float16 value) { return half_to_float(value.bits); }
__device__ __forceinline__ float widen(bfloat16 value) {
    return __uint_as_float(unsigned(value.bits) << 16);
}

__device__ __forceinline__ void narrow(double value, double& out) { out = value; }
__device__ __forceinline__ void narrow(float value, float& out) { out = value; }
__device__ __forceinline__ void narrow(float value, float16& out) {
    out.bits = float_to_half(value);
}
__device__ __forceinline__ void narrow(float value, bfloat16& out) {
    out.bits = float_to_bfloat(value);
}

// V adjacent elements, read or written by one instruction of up to 16 bytes.
template <typename E, int V> struct alignas(sizeof(E) * V) Pack {
    E lane[V];

    __device__ __forceinline__ void widen_into(Accumulator<E> (&values)[V]) const {
#pragma unroll
        for (int i = 0; i < V; ++i) values[i] = widen(lane[i]);
    }
    __device__ __forceinline__ void narrow_from(const Accumulator<E> (&values)[V]) {
#pragma unroll
        for (int i = 0; i < V; ++i) narrow(values[i], lane[i]);
    }
};

// 16-bit elements, two to a word: compilers use wide accesses for words, not for short integers.
template <typename E, int V> struct alignas(2 * V) WordPack {
    unsigned word[V / 2];

    __device__ __forceinline__ void widen_into(float (&values)[V]) const {
#pragma unroll
        for (int i = 0; i < V / 2; ++i) {
            values[2 * i] = widen(E{static_cast<unsigned short>(word[i] & 0xffffu)});
            values[2 * i + 1] = widen(E{static_cast<unsigned short>(word[i] >> 16)});
        }
    }
    __device__ __forceinline__ void narrow_from(const float (&values)[V]) {
#pragma unroll
        for (int i = 0; i < V / 2; ++i)
            word[i] = narrow_pair(values[2 * i], values[2 * i + 1], E{});
    }
};
template <> struct Pack<bfloat16, 2> : WordPack<bfloat16, 2> {};
template <> struct Pack<bfloat16, 4> : WordPack<bfloat16, 4> {};
template <> struct Pack<bfloat16, 8> : WordPack<bfloat16, 8> {};
template <> struct Pack<float16, 2> : WordPack<float16, 2> {};
template <> struct Pack<float16, 4> : WordPack<float16, 4> {};
template <> struct Pack<float16, 8> : WordPack<float16, 8> {};

template <typename E, int V>
__device__ __forceinline__ Pack<E, V> load_pack(const E* place) {
    return *reinterpret_cast<const Pack<E, V>*>(place);
}

// Compilers split the store of a struct into narrow ones, so wide stores are written out.
template <typename P>
__device__ __forceinline__ void store_whole(void* place, const P& pack) {
#ifdef __CUDACC__
    if constexpr (sizeof(P) == 16) {
        const uint4 words = reinterpret_cast<const uint4&>(pack);
        asm volatile(
            "st.global.v4.b32 [%0], {%1, %2, %3, %4};"
            :: "l"(place), "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w)
            : "memory"
        );
        return;
    }
    if constexpr (sizeof(P) == 8) {
        const uint2 words = reinterpret_cast<const uint2&>(pack);
        asm volatile(
            "st.global.v2.b32 [%0], {%1, %2};"
            :: "l"(place), "r"(words.x), "r"(words.y)
            : "memory"
        );
        return;
    }
#endif
    *reinterpret_cast<P*>(place) = pack;
}

template <typename E, int V>
__device__ __forceinline__ void store_pack(E* place, const Accumulator<E> (&values)[V]) {
    Pack<E, V> pack;
    pack.narrow_from(values);
    store_whole(place, pack);
}
