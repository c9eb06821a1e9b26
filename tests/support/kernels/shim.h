// CUDA's execution model on one CPU thread: every thread of a block is a fiber, __syncthreads() hands over to the next.
// Fibers run in a chosen order, so that a missing barrier shows as a difference between two orders.
#pragma once
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define DYNAMIC_SHARED(name) unsigned char* name = shim::block.shared

struct dim3 { int x, y, z; };
struct int2 { int x, y; };
inline int2 make_int2(int x, int y) { return {x, y}; }
inline float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
using std::exp;
using std::min;

inline dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace shim {

enum class Order { FORWARDS, BACKWARDS, SHUFFLED };

constexpr size_t STACK_BYTES = 64 * 1024;

struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
    dim3 thread{};
    bool done = false;
    void* fake_stack = nullptr;
};

struct Block {
    unsigned char* shared = nullptr;
    std::vector<Fiber> fibers;
    Fiber* running = nullptr;
    ucontext_t scheduler;
    void* scheduler_fake_stack = nullptr;
    const void* scheduler_stack = nullptr;
    size_t scheduler_stack_bytes = 0;
    std::function<void()> body;
};
inline Block block;

inline void leave(Fiber& fiber, bool for_good) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &fiber.fake_stack, block.scheduler_stack, block.scheduler_stack_bytes);
#else
    (void)for_good;
#endif
    swapcontext(&fiber.context, &block.scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fiber.fake_stack, nullptr, nullptr);
#endif
}

inline void start() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &block.scheduler_stack, &block.scheduler_stack_bytes);
#endif
    Fiber& fiber = *block.running;
    block.body();
    fiber.done = true;
    leave(fiber, true);
}

inline void resume(Fiber& fiber) {
    block.running = &fiber;
    threadIdx = fiber.thread;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&block.scheduler_fake_stack, fiber.stack.get(), STACK_BYTES);
#endif
    swapcontext(&block.scheduler, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(block.scheduler_fake_stack, nullptr, nullptr);
#endif
}

// From one barrier to the next until all are done. A thread that ends while others wait at a barrier is an error here, as
// it is undefined on a GPU for the barrier that all threads must reach.
inline void run_block(std::vector<int> order) {
    for (Fiber& fiber : block.fibers) {
        fiber.done = false;
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = fiber.stack.get();
        fiber.context.uc_stack.ss_size = STACK_BYTES;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, start, 0);
    }
    for (bool first = true;; first = false) {
        const size_t done = std::count_if(block.fibers.begin(), block.fibers.end(), [](const Fiber& fiber) { return fiber.done; });
        if (!first && done == block.fibers.size()) return;
        if (done) {
            std::fprintf(stderr, "barrier not reached by %zu of %zu threads of block %d,%d,%d\n", done, block.fibers.size(), blockIdx.x, blockIdx.y, blockIdx.z);
            std::exit(3);
        }
        for (int index : order) resume(block.fibers[index]);
    }
}

inline void launch(dim3 grid, dim3 threads, size_t shared_bytes, Order order, std::function<void()> body) {
    gridDim = grid;
    blockDim = threads;
    block.body = std::move(body);
    block.fibers = std::vector<Fiber>(threads.x * threads.y);
    std::vector<int> sequence(block.fibers.size());
    for (size_t i = 0; i < sequence.size(); ++i) {
        sequence[i] = i;
        block.fibers[i].thread = {int(i) % threads.x, int(i) / threads.x, 0};
    }
    if (order == Order::BACKWARDS) std::reverse(sequence.begin(), sequence.end());
    unsigned state = 12345;
    if (order == Order::SHUFFLED)
        for (size_t i = sequence.size(); i > 1; --i) std::swap(sequence[i - 1], sequence[(state = state * 1664525u + 1013904223u) % i]);
    for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
                // Exactly as large as asked for and full of noise: what is read before it is written shows.
                std::unique_ptr<unsigned char[]> shared(new (std::align_val_t{16}) unsigned char[shared_bytes]);
                for (size_t i = 0; i < shared_bytes; ++i) shared[i] = 0xff;
                block.shared = shared.get();
                run_block(sequence);
                ::operator delete[](shared.release(), std::align_val_t{16});
            }
}

// Arguments lie one after the other, eight bytes each.
template <typename T> T argument(const char* place) {
    T value;
    __builtin_memcpy(&value, place, sizeof value);
    return value;
}
template <typename... P, size_t... I>
void call(void (*kernel)(P...), const char* arguments, std::index_sequence<I...>) {
    kernel(argument<P>(arguments + 8 * I)...);
}
template <typename... P> void run(void (*kernel)(P...), dim3 grid, dim3 threads, size_t shared_bytes, Order order, const char* arguments) {
    launch(grid, threads, shared_bytes, order, [=] { call(kernel, arguments, std::index_sequence_for<P...>{}); });
}

}  // namespace shim

inline void __syncthreads() { shim::leave(*shim::block.running, false); threadIdx = shim::block.running->thread; }
