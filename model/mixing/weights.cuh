// What the mixing kernels share: sizes, the layout of threads over a map, weights in shared memory.
//
// Directional mixing (paper, equations 1, 4 and 5) computes, in one pass over the map,
// out[b,c,s,p] = sum over t of w[c,s,t] x[b,c,t,p].
//
// Letters: C channels, T times in, R rows out of one direction, S = D R rows out of all D
// directions, p pixels. Row s of the second direction (s >= R) reads time from the end. Its weights
// are reversed when they are staged, so the map is read once, forwards, and nothing is flipped or
// concatenated.
//
// Compiled in: the element type E; VEC elements in one access; TIMES >= T, because the map's frames
// are held in registers; and LAST, whether channels (true) or pixels (false) are adjacent in
// memory. Everything else is an argument.
//
// A block owns a tile of channels and walks over tiles of positions. There are fewer than 2^31
// positions. With LAST, threadIdx.x runs over vectors of channels and threadIdx.y over positions
// (batch, pixel). Without, threadIdx.x runs over positions (batch, vector of pixels) and
// threadIdx.y over channels. blockIdx.x is the channel tile, blockIdx.y the first position tile.
#pragma once
#include "elements.cuh"

// How weights are made from what was given: taken as they are, or made from logits (equation 5).
enum Mapping { PLAIN = 0, AFFINE = 1, MINMAX = 2 };

struct Sizes {
    int batches, channels, times, rows, directions, pixels, mapping, masked;
    __device__ __forceinline__ int rows_of_one() const { return rows / directions; }
};

// Elements to the next batch, to the next pixel (LAST) or channel, and to the next time.
struct Strides { long long batch, step, time; };

// The columns a row sees, in its own direction's time, counted from 0: the mask of the reference.
__device__ __forceinline__ int columns_seen(const Sizes& size, int row) {
    const int own = row % size.rows_of_one(), last = size.rows_of_one() - 1;
    return !size.masked || last == 0 ? size.times : own * (size.times - 1) / last + 1;
}

// The softmax of a row's open logits, and its mapping to [-1, 1]: the weights and their gradient
// both need them. `logit(t)` reads one logit.
template <typename A> struct SoftmaxRow {
    A largest, total, smallest_softmax, span;

    template <typename Read> __device__ __forceinline__ SoftmaxRow(const Read& logit, int seen) {
        largest = logit(0);
        A smallest = largest;
#pragma unroll 1
        for (int t = 1; t < seen; ++t) {
            const A value = logit(t);
            largest = value > largest ? value : largest;
            smallest = value < smallest ? value : smallest;
        }
        total = 0;
#pragma unroll 1
        for (int t = 0; t < seen; ++t) total += exp(logit(t) - largest);
        smallest_softmax = exp(smallest - largest) / total;
        span = 1 / total - smallest_softmax;
    }
    __device__ __forceinline__ A softmax(A logit) const { return exp(logit - largest) / total; }
    __device__ __forceinline__ A weight(A logit, int mapping) const {
        if (mapping == AFFINE) return 2 * softmax(logit) - 1;
        return span <= 0 ? A(1) : 2 * (softmax(logit) - smallest_softmax) / span - 1;
    }
};

// The channels, positions and places in shared memory of a thread.
template <int VEC, bool LAST> struct Lanes {
    int channel_lanes, channel_lane, position_lanes, position_lane;
    static constexpr int CHANNELS = LAST ? VEC : 1;  // of one thread
    static constexpr int GROUP = CHANNELS > 4 ? 4 : CHANNELS;

    __device__ __forceinline__ Lanes() {
        channel_lanes = LAST ? blockDim.x : blockDim.y;
        channel_lane = LAST ? threadIdx.x : threadIdx.y;
        position_lanes = LAST ? blockDim.y : blockDim.x;
        position_lane = LAST ? threadIdx.y : threadIdx.x;
    }
    __device__ __forceinline__ int tile_channels() const { return channel_lanes * CHANNELS; }
    __device__ __forceinline__ int first_channel() const { return blockIdx.x * tile_channels(); }
    __device__ __forceinline__ int channel() const {
        return first_channel() + channel_lane * CHANNELS;
    }
    // Adjacent threads read adjacent groups of 16 bytes, so their accesses do not conflict.
    __device__ __forceinline__ int slot(int entry, int lane, int k) const {
        const int group = entry * (CHANNELS / GROUP) + k / GROUP;
        return (group * channel_lanes + lane) * GROUP + k % GROUP;
    }
};

// One position of the map: where its first frame is, and whether this thread has a position.
template <int VEC, bool LAST> struct Place {
    int batch, along;
    bool active;

    __device__ __forceinline__ Place(const Sizes& size, const Lanes<VEC, LAST>& lanes, int tile) {
        const int per_batch = LAST ? size.pixels : size.pixels / VEC;
        const int position = tile * lanes.position_lanes + lanes.position_lane;
        active = position < size.batches * per_batch && lanes.channel() < size.channels;
        batch = position / per_batch;
        along = position % per_batch;
    }
    __device__ __forceinline__ long long offset(const Strides& stride, int channel) const {
        return batch * stride.batch
            + (LAST ? along * stride.step + channel
                    : channel * stride.step + static_cast<long long>(along) * VEC);
    }
};

__device__ __forceinline__ int position_tiles(const Sizes& size, int vec, bool last, int lanes) {
    return (size.batches * (last ? size.pixels : size.pixels / vec) + lanes - 1) / lanes;
}

// For every row: the first time that it reads, and the one after the last.
__device__ __forceinline__ void stage_bounds(int2* bounds, const Sizes& size) {
    for (
        int row = threadIdx.y * blockDim.x + threadIdx.x;
        row < size.rows;
        row += blockDim.x * blockDim.y
    ) {
        const int seen = columns_seen(size, row);
        const bool backwards = row >= size.rows_of_one();
        bounds[row] = backwards ? make_int2(size.times - seen, size.times) : make_int2(0, seen);
    }
}

// Puts the weights of `count` rows for the block's channels into shared memory, in the map's time,
// at the places that Lanes::slot gives. All threads of a block must call it. What was given is
// copied first, so that adjacent threads read adjacent values, and turned into weights in place.
template <typename A, int VEC, bool LAST>
__device__ __forceinline__ void stage_weights(
    A* tile, const A* __restrict__ given, const Sizes& size, const Lanes<VEC, LAST>& lanes,
    int first_row, int count
) {
    constexpr int OWN = Lanes<VEC, LAST>::CHANNELS;
    const int threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
    const int own_rows = size.rows_of_one(), entries = count * size.times;
    const int width = min(entries, threads), step = threads / width;
    const int channels = min(lanes.tile_channels(), size.channels - lanes.first_channel());
    const int of_channel = own_rows * size.times;
    if (thread < width * step)
        for (int entry = thread % width; entry < entries; entry += width) {
            const int row = first_row + entry / size.times, column = entry % size.times;
            const int direction = row / own_rows;
            const long long line_of_channels =
                static_cast<long long>(direction) * size.channels + lanes.first_channel();
            const A* line = given + line_of_channels * of_channel
                + (row % own_rows) * size.times + column;
            const int time = direction ? size.times - 1 - column : column;
            const int place = (row - first_row) * size.times + time;
#pragma unroll 4
            for (int local = thread / width; local < channels; local += step)
                tile[lanes.slot(place, local / OWN, local % OWN)] =
                    line[static_cast<long long>(local) * of_channel];
        }
    if (size.mapping == PLAIN) return;
    __syncthreads();
#pragma unroll 1
    for (int i = thread; i < channels * count; i += threads) {
        const int local = i % channels, row = first_row + i / channels;
        const int seen = columns_seen(size, row);
        const bool backwards = row >= own_rows;
        const auto logit = [&](int column) -> A& {
            const int time = backwards ? size.times - 1 - column : column;
            const int place = (row - first_row) * size.times + time;
            return tile[lanes.slot(place, local / OWN, local % OWN)];
        };
        const SoftmaxRow<A> of_row(logit, seen);
#pragma unroll 1
        for (int column = 0; column < seen; ++column)
            logit(column) = of_row.weight(logit(column), size.mapping);
    }
}

// The weights of one entry for a thread's channels; without LAST all pixels of a vector share one.
template <typename A, int VEC, bool LAST>
__device__ __forceinline__ void read_weights(
    A (&weight)[VEC], const A* tile, const Lanes<VEC, LAST>& lanes, int entry
) {
    if constexpr (LAST) {
        constexpr int GROUP = Lanes<VEC, LAST>::GROUP;
#pragma unroll
        for (int k = 0; k < VEC; k += GROUP) {
            const int slot = lanes.slot(entry, lanes.channel_lane, k);
            const Pack<A, GROUP> pack = load_pack<A, GROUP>(tile + slot);
#pragma unroll
            for (int i = 0; i < GROUP; ++i) weight[k + i] = pack.lane[i];
        }
    } else {
        const A value = tile[lanes.slot(entry, lanes.channel_lane, 0)];
#pragma unroll
        for (int k = 0; k < VEC; ++k) weight[k] = value;
    }
}

// Reads the frames of one position; frames beyond `times`, or of no position, are zero.
template <typename E, int VEC, int TIMES>
__device__ __forceinline__ void load_frames(
    Accumulator<E> (&frames)[TIMES][VEC], const E* first, long long stride, int times, bool active
) {
    Pack<E, VEC> packs[TIMES];
#pragma unroll
    for (int t = 0; t < TIMES; ++t)
        if (active && t < times) packs[t] = load_pack<E, VEC>(first + t * stride);
#pragma unroll
    for (int t = 0; t < TIMES; ++t) {
        if (active && t < times) {
            packs[t].widen_into(frames[t]);
        } else {
#pragma unroll
            for (int k = 0; k < VEC; ++k) frames[t][k] = 0;
        }
    }
}
