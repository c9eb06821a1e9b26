// The gradients of directional mixing: of the map, and of the weights or their logits.
#include "weights.cuh"

// Adds the sums of a block's threads over positions, always in the same order. Each block leaves
// one partial result: partials[split][row][time][channel].
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
        for (int i = 0; i < TIMES * OWN; ++i)
            scratch[i * threads + thread] = sums[r][i / OWN][i % OWN];
        for (int half = lanes.position_lanes / 2; half > 0; half /= 2) {
            __syncthreads();
            if (lanes.position_lane < half)
#pragma unroll
                for (int i = 0; i < TIMES * OWN; ++i)
                    scratch[i * threads + thread] +=
                        scratch[i * threads + thread + half * neighbour];
        }
        if (lanes.position_lane != 0 || lanes.channel() >= size.channels) continue;
        if (first_row + r >= size.rows) continue;
#pragma unroll 1
        for (int t = 0; t < size.times; ++t) {
            const long long line =
                (static_cast<long long>(blockIdx.y) * size.rows + first_row + r) * size.times + t;
            for (int k = 0; k < OWN; ++k)
                partials[line * size.channels + lanes.channel() + k] =
                    scratch[(t * OWN + k) * threads + thread];
        }
    }
}

// The gradients that MAP and WEIGHTS request. With both, there are at most ROWS rows, and the
// gradient and the map are each read once. Without WEIGHTS, a block takes all rows in groups; without MAP,
// blockIdx.z is the block's only group.
template <typename E, int VEC, int TIMES, int ROWS, bool LAST, bool MAP, bool WEIGHTS>
__global__ void __launch_bounds__(256, 1) mix_backward(
    const E* __restrict__ grad, const E* __restrict__ x, const Accumulator<E>* __restrict__ given,
    E* __restrict__ grad_x, Accumulator<E>* __restrict__ partials,
    int batches, int channels, int times, int rows, int directions, int pixels,
    int mapping, int masked, int chunk,
    long long grad_batch, long long grad_step, long long grad_time,
    long long x_batch, long long x_step, long long x_time,
    long long grad_x_batch, long long grad_x_step, long long grad_x_time
) {
    using A = Accumulator<E>;
    DYNAMIC_SHARED(shared);
    const Sizes size{batches, channels, times, rows, directions, pixels, mapping, masked};
    const Strides from{grad_batch, grad_step, grad_time}, map{x_batch, x_step, x_time};
    const Strides to{grad_x_batch, grad_x_step, grad_x_time};
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
        if constexpr (WEIGHTS) {
            const E* seen = x + place.offset(map, lanes.channel());
            load_frames<E, VEC, TIMES>(frames, seen, map.time, times, place.active);
        }
        const E* source = grad + place.offset(from, lanes.channel());
        for (int group = first_row; group < end_row; group += ROWS) {
            if (!staged && group % chunk == 0) {
                __syncthreads();
                const int count = min(chunk, rows - group);
                stage_weights<A, VEC, LAST>(scratch, given, size, lanes, group, count);
                __syncthreads();
                staged = chunk >= rows;
            }
            A gradients[ROWS][VEC];
            load_frames<E, VEC, ROWS>(
                gradients, source + group * from.time, from.time, end_row - group, place.active
            );
#pragma unroll
            for (int r = 0; r < ROWS; ++r) {
                if (group + r >= end_row) continue;
                const int2 open = bounds[group + r];
#pragma unroll
                for (int t = 0; t < TIMES; ++t) {
                    if (t < open.x || t >= open.y) continue;
                    if constexpr (MAP) {
                        A weight[VEC];
                        const int entry = (group % chunk + r) * times + t;
                        read_weights<A, VEC, LAST>(weight, scratch, lanes, entry);
#pragma unroll
                        for (int k = 0; k < VEC; ++k) result[t][k] += weight[k] * gradients[r][k];
                    }
                    if constexpr (WEIGHTS)
#pragma unroll
                        for (int k = 0; k < VEC; ++k)
                            sums[r][t][LAST ? k : 0] += gradients[r][k] * frames[t][k];
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
    if constexpr (WEIGHTS)
        reduce_weights<A, VEC, TIMES, ROWS, LAST>(
            sums, scratch, partials, size, lanes, first_row
        );
}

// Adds the partial results of all blocks, in order; if logits were given, it also goes back through
// the softmax. threadIdx.x runs over channels, threadIdx.y over times; blockIdx.y is the row.
// Masked entries become zero.
template <typename A>
__global__ void __launch_bounds__(512, 1) mix_backward_weights(
    const A* __restrict__ partials, const A* __restrict__ given, A* __restrict__ grad_given,
    int splits, int channels, int times, int rows, int directions, int mapping, int masked
) {
    DYNAMIC_SHARED(shared);
    const Sizes size{0, channels, times, rows, directions, 0, mapping, masked};
    const int channel = blockIdx.x * blockDim.x + threadIdx.x, time = threadIdx.y;
    const int row = blockIdx.y, own_rows = size.rows_of_one(), direction = row / own_rows;
    const int seen = columns_seen(size, row), column = direction ? times - 1 - time : time;
    const bool open = channel < channels && column < seen;
    A* sums = reinterpret_cast<A*>(shared);  // by column, channel
    A sum = 0;
    if (open)
#pragma unroll 16
        for (int split = 0; split < splits; ++split)  // one sum in order, its terms read together
            sum += partials[
                ((static_cast<long long>(split) * rows + row) * times + time) * channels + channel
            ];
    sums[column * blockDim.x + threadIdx.x] = sum;
    __syncthreads();
    if (channel >= channels) return;
    const long long line_of_channels = static_cast<long long>(direction) * channels + channel;
    const long long line = (line_of_channels * own_rows + row % own_rows) * times;
    if (open && mapping != PLAIN) {
        // weight = 2 softmax - 1, or 2 (softmax - smallest) / span - 1. The gradient of the softmax
        // then gives that of the logits.
        const SoftmaxRow<A> of_row([&](int t) { return given[line + t]; }, seen);
        const bool minmax = mapping == MINMAX, flat = minmax && of_row.span <= 0;
        const A scale = flat ? A(0) : minmax ? 2 / of_row.span : A(2);
        A of_smallest = 0, of_largest = 0;
        int smallest_count = 0, largest_count = 0;
        if (minmax && !flat) {
#pragma unroll 1
            for (int t = 0; t < seen; ++t) {
                const A softmax = of_row.softmax(given[line + t]);
                const A rise = (softmax - of_row.smallest_softmax) / of_row.span;
                of_smallest -= scale * sums[t * blockDim.x + threadIdx.x] * (1 - rise);
                of_largest -= scale * sums[t * blockDim.x + threadIdx.x] * rise;
                smallest_count += softmax <= of_row.smallest_softmax;
                largest_count += given[line + t] >= of_row.largest;
            }
        }
        const auto of_softmax = [&](int t, A softmax) {
            A value = scale * sums[t * blockDim.x + threadIdx.x];
            if (smallest_count && softmax <= of_row.smallest_softmax)
                value += of_smallest / smallest_count;
            if (largest_count && given[line + t] >= of_row.largest)
                value += of_largest / largest_count;
            return value;
        };
        A mean = 0;
#pragma unroll 1
        for (int t = 0; t < seen; ++t) {
            const A softmax = of_row.softmax(given[line + t]);
            mean += softmax * of_softmax(t, softmax);
        }
        const A softmax = of_row.softmax(given[line + column]);
        sum = softmax * (of_softmax(column, softmax) - mean);
    }
    grad_given[line + column] = open ? sum : A(0);
}
