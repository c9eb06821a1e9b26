// The clip gather: from the ring of all cameras' last frames to a normalised batch, in one pass.
// uint8 in, the network's number format out.
//
// ring[slot][frame][byte] and out[clip][frame][byte] have the same order within a frame (pixel by
// pixel, red, green, blue), so a channels-last batch is written in the order it is read. `head` is
// the position of a clip's oldest frame; the frames after it follow round the ring.
#include "elements.cuh"

// V bytes that move in one access, four to a word.
template <int V> struct alignas(V) Bytes {
    unsigned word[V / 4];
    __device__ __forceinline__ float value(int i) const {
        return static_cast<float>(word[i / 4] >> (8 * (i % 4)) & 0xffu);
    }
};
template <> struct Bytes<1> {
    unsigned char byte;
    __device__ __forceinline__ float value(int) const { return static_cast<float>(byte); }
};

// blockIdx.x: vectors of a frame; blockIdx.y: frame of the clip; blockIdx.z: clip.
// VEC bytes become VEC elements of E.
template <typename E, int VEC>
__global__ void __launch_bounds__(256, 1) gather_clips(
    const unsigned char* __restrict__ ring, const int* __restrict__ clips, E* __restrict__ out,
    int frames, int frame_bytes,
    float scale_red, float scale_green, float scale_blue,
    float shift_red, float shift_green, float shift_blue
) {
    constexpr int EACH = 4;  // vectors of one thread; their reads overlap
    const int slot = clips[2 * blockIdx.z], head = clips[2 * blockIdx.z + 1];
    const int frame = blockIdx.y, place = (head + frame) % frames, vectors = frame_bytes / VEC;
    const unsigned char* from =
        ring + (static_cast<long long>(slot) * frames + place) * frame_bytes;
    E* to = out + (static_cast<long long>(blockIdx.z) * frames + frame) * frame_bytes;
    const int first = blockIdx.x * EACH * blockDim.x + threadIdx.x;
    Bytes<VEC> bytes[EACH];
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int vector = first + i * blockDim.x;
        if (vector < vectors) bytes[i] = *reinterpret_cast<const Bytes<VEC>*>(from + vector * VEC);
    }
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        const int vector = first + i * blockDim.x;
        if (vector >= vectors) continue;
        // The first byte's colour depends on the vector; the colours of the others follow from it.
        const int turn = vector * VEC % 3;
        const float scale[3] = {
            turn == 0 ? scale_red : turn == 1 ? scale_green : scale_blue,
            turn == 0 ? scale_green : turn == 1 ? scale_blue : scale_red,
            turn == 0 ? scale_blue : turn == 1 ? scale_red : scale_green,
        };
        const float shift[3] = {
            turn == 0 ? shift_red : turn == 1 ? shift_green : shift_blue,
            turn == 0 ? shift_green : turn == 1 ? shift_blue : shift_red,
            turn == 0 ? shift_blue : turn == 1 ? shift_red : shift_green,
        };
        float values[VEC];
#pragma unroll
        for (int k = 0; k < VEC; ++k) values[k] = bytes[i].value(k) * scale[k % 3] + shift[k % 3];
        store_pack<E, VEC>(to + static_cast<long long>(vector) * VEC, values);
    }
}
