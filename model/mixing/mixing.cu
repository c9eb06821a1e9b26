// Directional mixing (paper, equations 1, 4, 5): out[b,c,s,p] = sum over t of w[c,s,t] x[b,c,t,p], one pass over the map.
//
// Letters: C channels, T times in, R rows out of one direction, S = D R rows out of all D directions, p pixels.
// Row s of the second direction (s >= R) reads time from the end: its weights are reversed when they are staged, so the
// map is read once, forwards, and nothing is flipped or concatenated.
//
// Compiled in: the element type E, VEC elements to an access, TIMES >= T (the map's frames are held in registers),
// and LAST: whether channels (true) or pixels (false) lie side by side in memory. All else is an argument.
//
// A block owns a tile of channels and walks over tiles of positions. With LAST, threadIdx.x runs over vectors of channels
// and threadIdx.y over positions (batch, pixel), of which there are fewer than 2^31; without, threadIdx.x runs over positions (batch, vector of pixels) and
// threadIdx.y over channels. blockIdx.x is the channel tile, blockIdx.y the first position tile.
#include "elements.cuh"

// How staged weights come from what was given: as they are, or from logits (equation 5).
enum Mapping { PLAIN = 0, AFFINE = 1, MINMAX = 2 };

struct Sizes {
    int batches, channels, times, rows, directions, pixels, mapping, masked;
    __device__ __forceinline__ int rows_of_one() const { return rows / directions; }
};

// Elements from one batch, pixel (LAST) or channel, and time to the next.
struct Strides { long long batch, step, time; };

// The columns a row sees, in its own direction's time, counted from 0: the mask of the reference.
__device__ __forceinline__ int columns_seen(const Sizes& size, int row) {
    const int own = row % size.rows_of_one(), last = size.rows_of_one() - 1;
    return !size.masked || last == 0 ? size.times : own * (size.times - 1) / last + 1;
}

// Softmax of a row's open logits and its way to [-1, 1]: what both the weights and their gradient need. `logit(t)` reads one.
template <typename A> struct Row {
    A largest, total, smallest_share, span;

    template <typename Read> __device__ __forceinline__ Row(const Read& logit, int seen) {
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
        smallest_share = exp(smallest - largest) / total;
        span = 1 / total - smallest_share;
    }
    __device__ __forceinline__ A share(A logit) const { return exp(logit - largest) / total; }
    __device__ __forceinline__ A weight(A logit, int mapping) const {
        if (mapping == AFFINE) return 2 * share(logit) - 1;
        return span <= 0 ? A(1) : 2 * (share(logit) - smallest_share) / span - 1;
    }
};

// Which channels, positions and shared slots a thread has.
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
    __device__ __forceinline__ int channel() const { return first_channel() + channel_lane * CHANNELS; }
    // Threads that follow each other read 16 bytes that follow each other: no two of them meet in a bank.
    __device__ __forceinline__ int slot(int entry, int lane, int k) const {
        return ((entry * (CHANNELS / GROUP) + k / GROUP) * channel_lanes + lane) * GROUP + k % GROUP;
    }
};

// One position of the map: where its first frame lies, and whether this thread has one at all.
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
        return batch * stride.batch + (LAST ? along * stride.step + channel : channel * stride.step + static_cast<long long>(along) * VEC);
    }
};

__device__ __forceinline__ int position_tiles(const Sizes& size, int vec, bool last, int lanes) {
    return (size.batches * (last ? size.pixels : size.pixels / vec) + lanes - 1) / lanes;
}

// First and one-past-last time that each row reads, for all rows.
__device__ __forceinline__ void stage_bounds(int2* bounds, const Sizes& size) {
    for (int row = threadIdx.y * blockDim.x + threadIdx.x; row < size.rows; row += blockDim.x * blockDim.y) {
        const int seen = columns_seen(size, row);
        const bool backwards = row >= size.rows_of_one();
        bounds[row] = backwards ? make_int2(size.times - seen, size.times) : make_int2(0, seen);
    }
}

// The weights of `count` rows for the block's channels, in the map's time, laid out by Lanes::slot. All threads of a block come here;
// what was given is copied first, so that reads of neighbours fall together, and made into weights where it then lies.
template <typename A, int VEC, bool LAST>
__device__ __forceinline__ void stage_weights(
    A* tile, const A* __restrict__ given, const Sizes& size, const Lanes<VEC, LAST>& lanes, int first_row, int count
) {
    constexpr int OWN = Lanes<VEC, LAST>::CHANNELS;
    const int threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
    const int own_rows = size.rows_of_one(), entries = count * size.times, width = min(entries, threads), step = threads / width;
    const int channels = min(lanes.tile_channels(), size.channels - lanes.first_channel());
    const int of_channel = own_rows * size.times;
    if (thread < width * step)
        for (int entry = thread % width; entry < entries; entry += width) {
            const int row = first_row + entry / size.times, column = entry % size.times, direction = row / own_rows;
            const A* line = given + (static_cast<long long>(direction) * size.channels + lanes.first_channel()) * of_channel
                + (row % own_rows) * size.times + column;
            const int place = (row - first_row) * size.times + (direction ? size.times - 1 - column : column);
#pragma unroll 4
            for (int local = thread / width; local < channels; local += step)
                tile[lanes.slot(place, local / OWN, local % OWN)] = line[static_cast<long long>(local) * of_channel];
        }
    if (size.mapping == PLAIN) return;
    __syncthreads();
#pragma unroll 1
    for (int i = thread; i < channels * count; i += threads) {
        const int local = i % channels, row = first_row + i / channels, seen = columns_seen(size, row);
        const bool backwards = row >= own_rows;
        const auto logit = [&](int column) -> A& {
            const int place = (row - first_row) * size.times + (backwards ? size.times - 1 - column : column);
            return tile[lanes.slot(place, local / OWN, local % OWN)];
        };
        const Row<A> softmax(logit, seen);
#pragma unroll 1
        for (int column = 0; column < seen; ++column) logit(column) = softmax.weight(logit(column), size.mapping);
    }
}

// The weights of one entry for a thread's channels; without LAST one weight serves the whole vector of pixels.
template <typename A, int VEC, bool LAST>
__device__ __forceinline__ void read_weights(A (&weight)[VEC], const A* tile, const Lanes<VEC, LAST>& lanes, int entry) {
    if constexpr (LAST) {
        constexpr int GROUP = Lanes<VEC, LAST>::GROUP;
#pragma unroll
        for (int k = 0; k < VEC; k += GROUP) {
            const Pack<A, GROUP> pack = load_pack<A, GROUP>(tile + lanes.slot(entry, lanes.channel_lane, k));
#pragma unroll
            for (int i = 0; i < GROUP; ++i) weight[k + i] = pack.lane[i];
        }
    } else {
        const A value = tile[lanes.slot(entry, lanes.channel_lane, 0)];
#pragma unroll
        for (int k = 0; k < VEC; ++k) weight[k] = value;
    }
}

template <typename E, int VEC, int TIMES>
__device__ __forceinline__ void load_frames(Accumulator<E> (&frames)[TIMES][VEC], const E* first, long long stride, int times, bool active) {
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

// The map to its mix: frames in registers, rows one after the other. `chunk` rows of weights fit into shared memory at once.
template <typename E, int VEC, int TIMES, bool LAST>
__global__ void __launch_bounds__(256, 1) mix_forward(
    const E* __restrict__ x, const Accumulator<E>* __restrict__ given, E* __restrict__ out,
    int batches, int channels, int times, int rows, int directions, int pixels, int mapping, int masked, int chunk,
    long long x_batch, long long x_step, long long x_time, long long out_batch, long long out_step, long long out_time
) {
    using A = Accumulator<E>;
    DYNAMIC_SHARED(shared);
    const Sizes size{batches, channels, times, rows, directions, pixels, mapping, masked};
    const Strides from{x_batch, x_step, x_time}, to{out_batch, out_step, out_time};
    const Lanes<VEC, LAST> lanes;
    int2* bounds = reinterpret_cast<int2*>(shared);
    A* tile_weights = reinterpret_cast<A*>(shared + (rows * sizeof(int2) + 15) / 16 * 16);

    stage_bounds(bounds, size);
    const int tiles = position_tiles(size, VEC, LAST, lanes.position_lanes);
    bool staged = false;
    for (int tile = blockIdx.y; tile < tiles; tile += gridDim.y) {
        const Place<VEC, LAST> place(size, lanes, tile);
        A frames[TIMES][VEC];
        load_frames<E, VEC, TIMES>(frames, x + place.offset(from, lanes.channel()), from.time, times, place.active);
        E* target = out + place.offset(to, lanes.channel());
        for (int first = 0; first < rows; first += chunk) {
            const int count = min(chunk, rows - first);
            if (!staged) {
                __syncthreads();
                stage_weights<A, VEC, LAST>(tile_weights, given, size, lanes, first, count);
                __syncthreads();
                staged = chunk >= rows;
            }
            if (!place.active) continue;
            for (int row = 0; row < count; ++row) {
                const int2 open = bounds[first + row];
                A sum[VEC] = {};
#pragma unroll
                for (int t = 0; t < TIMES; ++t) {
                    if (t < open.x || t >= open.y) continue;
                    A weight[VEC];
                    read_weights<A, VEC, LAST>(weight, tile_weights, lanes, row * times + t);
#pragma unroll
                    for (int k = 0; k < VEC; ++k) sum[k] += weight[k] * frames[t][k];
                }
                store_pack<E, VEC>(target + (first + row) * to.time, sum);
            }
        }
    }
}

// Sums over the block's positions, always in the same order, and one partial result per block:
// partials[split][row][time][channel].
template <typename A, int VEC, int TIMES, int ROWS, bool LAST>
__device__ __forceinline__ void reduce_weights(
    A (&sums)[ROWS][TIMES][Lanes<VEC, LAST>::CHANNELS], A* scratch, A* __restrict__ partials,
    const Sizes& size, const Lanes<VEC, LAST>& lanes, int first_row
) {
    constexpr int OWN = Lanes<VEC, LAST>::CHANNELS;
    const int threads = blockDim.x * blockDim.y, thread = threadIdx.y * blockDim.x + threadIdx.x;
    const int neighbour = LAST ? blockDim.x : 1;
#pragma unroll
    for (int r = 0; r < ROWS; ++r) {
        __syncthreads();
#pragma unroll
        for (int i = 0; i < TIMES * OWN; ++i) scratch[i * threads + thread] = sums[r][i / OWN][i % OWN];
        for (int half = lanes.position_lanes / 2; half > 0; half /= 2) {
            __syncthreads();
            if (lanes.position_lane < half)
#pragma unroll
                for (int i = 0; i < TIMES * OWN; ++i) scratch[i * threads + thread] += scratch[i * threads + thread + half * neighbour];
        }
        if (lanes.position_lane != 0 || lanes.channel() >= size.channels || first_row + r >= size.rows) continue;
#pragma unroll 1
        for (int t = 0; t < size.times; ++t) {
            const long long line = (static_cast<long long>(blockIdx.y) * size.rows + first_row + r) * size.times + t;
            for (int k = 0; k < OWN; ++k) partials[line * size.channels + lanes.channel() + k] = scratch[(t * OWN + k) * threads + thread];
        }
    }
}

// Gradients, as asked for by MAP and WEIGHTS. With both (at most ROWS rows) the gradient and the map are each read once.
// Without WEIGHTS all rows are walked in groups; without MAP blockIdx.z names the one group of this block.
template <typename E, int VEC, int TIMES, int ROWS, bool LAST, bool MAP, bool WEIGHTS>
__global__ void __launch_bounds__(256, 1) mix_backward(
    const E* __restrict__ grad, const E* __restrict__ x, const Accumulator<E>* __restrict__ given,
    E* __restrict__ grad_x, Accumulator<E>* __restrict__ partials,
    int batches, int channels, int times, int rows, int directions, int pixels, int mapping, int masked, int chunk,
    long long grad_batch, long long grad_step, long long grad_time, long long x_batch, long long x_step, long long x_time,
    long long grad_x_batch, long long grad_x_step, long long grad_x_time
) {
    using A = Accumulator<E>;
    DYNAMIC_SHARED(shared);
    const Sizes size{batches, channels, times, rows, directions, pixels, mapping, masked};
    const Strides from{grad_batch, grad_step, grad_time}, map{x_batch, x_step, x_time}, to{grad_x_batch, grad_x_step, grad_x_time};
    const Lanes<VEC, LAST> lanes;
    int2* bounds = reinterpret_cast<int2*>(shared);
    A* scratch = reinterpret_cast<A*>(shared + (rows * sizeof(int2) + 15) / 16 * 16);

    A sums[WEIGHTS ? ROWS : 1][WEIGHTS ? TIMES : 1][Lanes<VEC, LAST>::CHANNELS] = {};
    const int first_row = WEIGHTS && !MAP ? blockIdx.z * ROWS : 0;
    const int end_row = WEIGHTS ? min(first_row + ROWS, rows) : rows;

    stage_bounds(bounds, size);
    if (!MAP) __syncthreads();
    const int tiles = position_tiles(size, VEC, LAST, lanes.position_lanes);
    bool staged = !MAP;
    for (int tile = blockIdx.y; tile < tiles; tile += gridDim.y) {
        const Place<VEC, LAST> place(size, lanes, tile);
        A frames[WEIGHTS ? TIMES : 1][VEC], result[MAP ? TIMES : 1][VEC] = {};
        if constexpr (WEIGHTS)
            load_frames<E, VEC, TIMES>(frames, x + place.offset(map, lanes.channel()), map.time, times, place.active);
        const E* source = grad + place.offset(from, lanes.channel());
        for (int group = first_row; group < end_row; group += ROWS) {
            if (!staged && group % chunk == 0) {
                __syncthreads();
                stage_weights<A, VEC, LAST>(scratch, given, size, lanes, group, min(chunk, rows - group));
                __syncthreads();
                staged = chunk >= rows;
            }
            A gradients[ROWS][VEC];
            load_frames<E, VEC, ROWS>(gradients, source + group * from.time, from.time, end_row - group, place.active);
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                if (group + r >= end_row) continue;
                const int2 open = bounds[group + r];
#pragma unroll
                for (int t = 0; t < TIMES; ++t) {
                    if (t < open.x || t >= open.y) continue;
                    if constexpr (MAP) {
                        A weight[VEC];
                        read_weights<A, VEC, LAST>(weight, scratch, lanes, (group % chunk + r) * times + t);
#pragma unroll
                        for (int k = 0; k < VEC; ++k) result[t][k] += weight[k] * gradients[r][k];
                    }
                    if constexpr (WEIGHTS)
#pragma unroll
                        for (int k = 0; k < VEC; ++k) sums[r][t][LAST ? k : 0] += gradients[r][k] * frames[t][k];
                }
            }
        }
        if constexpr (MAP) {
            E* target = grad_x + place.offset(to, lanes.channel());
#pragma unroll
            for (int t = 0; t < TIMES; ++t)
                if (place.active && t < times) store_pack<E, VEC>(target + t * to.time, result[t]);
        }
    }
    if constexpr (WEIGHTS) reduce_weights<A, VEC, TIMES, ROWS, LAST>(sums, scratch, partials, size, lanes, first_row);
}

// Adds the partial results of all blocks in order, and goes back through the softmax where logits were given.
// threadIdx.x runs over channels, threadIdx.y over times; blockIdx.y is the row. Masked entries become zero.
template <typename A>
__global__ void __launch_bounds__(512, 1) mix_backward_weights(
    const A* __restrict__ partials, const A* __restrict__ given, A* __restrict__ grad_given,
    int splits, int channels, int times, int rows, int directions, int mapping, int masked
) {
    DYNAMIC_SHARED(shared);
    const Sizes size{0, channels, times, rows, directions, 0, mapping, masked};
    const int channel = blockIdx.x * blockDim.x + threadIdx.x, time = threadIdx.y, row = blockIdx.y, own_rows = size.rows_of_one();
    const int direction = row / own_rows, seen = columns_seen(size, row), column = direction ? times - 1 - time : time;
    const bool open = channel < channels && column < seen;
    A* sums = reinterpret_cast<A*>(shared);  // by column, channel
    A sum = 0;
    if (open)
#pragma unroll 16
        for (int split = 0; split < splits; ++split)  // one sum in order, its terms read together
            sum += partials[((static_cast<long long>(split) * rows + row) * times + time) * channels + channel];
    sums[column * blockDim.x + threadIdx.x] = sum;
    __syncthreads();
    if (channel >= channels) return;
    const long long line = ((static_cast<long long>(direction) * channels + channel) * own_rows + row % own_rows) * times;
    if (open && mapping != PLAIN) {
        // weight = 2 share - 1, or 2 (share - smallest) / span - 1; a share's gradient then goes through the softmax.
        const Row<A> softmax([&](int t) { return given[line + t]; }, seen);
        const bool minmax = mapping == MINMAX, flat = minmax && softmax.span <= 0;
        const A scale = flat ? A(0) : minmax ? 2 / softmax.span : A(2);
        A of_smallest = 0, of_largest = 0;
        int smallest_count = 0, largest_count = 0;
        if (minmax && !flat) {
#pragma unroll 1
            for (int t = 0; t < seen; ++t) {
                const A share = softmax.share(given[line + t]), rise = (share - softmax.smallest_share) / softmax.span;
                of_smallest -= scale * sums[t * blockDim.x + threadIdx.x] * (1 - rise);
                of_largest -= scale * sums[t * blockDim.x + threadIdx.x] * rise;
                smallest_count += share <= softmax.smallest_share;
                largest_count += given[line + t] >= softmax.largest;
            }
        }
        const auto of_share = [&](int t, A share) {
            A value = scale * sums[t * blockDim.x + threadIdx.x];
            if (smallest_count && share <= softmax.smallest_share) value += of_smallest / smallest_count;
            if (largest_count && given[line + t] >= softmax.largest) value += of_largest / largest_count;
            return value;
        };
        A mean = 0;
#pragma unroll 1
        for (int t = 0; t < seen; ++t) {
            const A share = softmax.share(given[line + t]);
            mean += share * of_share(t, share);
        }
        const A share = softmax.share(given[line + column]);
        sum = share * (of_share(column, share) - mean);
    }
    grad_given[line + column] = open ? sum : A(0);
}
