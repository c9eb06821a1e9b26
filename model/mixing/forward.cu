// The mixing kernel: frames are held in registers, rows are computed one after the other.
#include "weights.cuh"

// The map to its mix. `chunk` rows of weights are in shared memory at the same time.
template <typename E, int VEC, int TIMES, bool LAST>
__global__ void __launch_bounds__(256, 1) mix_forward(
    const E* __restrict__ x, const Accumulator<E>* __restrict__ given, E* __restrict__ out,
    int batches, int channels, int times, int rows, int directions, int pixels,
    int mapping, int masked, int chunk,
    long long x_batch, long long x_step, long long x_time,
    long long out_batch, long long out_step, long long out_time
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
        const E* source = x + place.offset(from, lanes.channel());
        load_frames<E, VEC, TIMES>(frames, source, from.time, times, place.active);
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
