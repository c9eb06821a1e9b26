// Reads buffers and launches from a file, runs them, writes the buffers back. Every buffer is its own allocation of exactly its size,
// so AddressSanitizer sees each access outside it.
#pragma once
#include <cstdint>
#include <cstring>
#include <fstream>

struct Kernel {
    void (*run)(dim3, dim3, size_t, shim::Order, const char*);
};
extern const std::vector<Kernel> KERNELS;

template <typename T> T read(std::ifstream& file) {
    T value;
    file.read(reinterpret_cast<char*>(&value), sizeof value);
    return value;
}

int main(int, char** names) {
    std::ifstream in(names[1], std::ios::binary);
    const auto order = static_cast<shim::Order>(std::atoi(names[3]));
    std::vector<std::pair<char*, int64_t>> buffers(read<int64_t>(in));
    for (auto& [data, bytes] : buffers) {
        bytes = read<int64_t>(in);
        data = static_cast<char*>(std::aligned_alloc(16, (bytes + 15) / 16 * 16));
        if (bytes % 16) data = static_cast<char*>(std::realloc(data, bytes));
        in.read(data, bytes);
    }
    const auto launches = read<int64_t>(in);
    for (int64_t i = 0; i < launches; ++i) {
        const auto kernel = read<int64_t>(in), shared = read<int64_t>(in);
        const auto grid = read<dim3>(in), threads = read<dim3>(in);
        std::vector<char> arguments(8 * read<int64_t>(in));
        for (size_t at = 0; at < arguments.size(); at += 8) {
            const auto buffer = read<int64_t>(in), value = read<int64_t>(in);
            const int64_t word = buffer < 0 ? value : reinterpret_cast<int64_t>(buffers[buffer].first + value);
            std::memcpy(&arguments[at], &word, 8);
        }
        KERNELS[kernel].run(grid, threads, shared, order, arguments.data());
    }
    std::ofstream out(names[2], std::ios::binary);
    for (const auto& [data, bytes] : buffers) out.write(data, bytes), std::free(data);
    return out ? 0 : 1;
}
