// CUDA's language on the CPU, enough for the kernels here: every thread of a block is a fiber, blocks run one after another.
// A fiber runs until it waits for its warp or block.
//
// Ends the process with a message when threads part where all must meet (a barrier, a warp's collective instruction), when
// an address is not aligned or not in shared memory, when a thread ends while its copies are in flight, and when nothing orders two
// accesses (races.h).
#pragma once

#include "copies.h"
#include "races.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#define __global__
#define __device__
#define __host__
// Compilers do not announce what a function returns into memory: races.h.
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
// Blocks of one launch run on one thread, one after another.
#define __shared__ static thread_local
#define threadIdx (emulation::current->index)
#define blockIdx (emulation::current->block_index)
#define blockDim (emulation::current->block_size)
#define gridDim (emulation::current->grid_size)

struct dim3 {
    unsigned x, y, z;
    dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(16) uint4 {
    uint32_t x, y, z, w;
};

struct alignas(8) float2 {
    float x, y;
};

using cudaStream_t = void *;

namespace emulation {

struct Thread {
    dim3 index, block_index, block_size, grid_size;
    /// Where the last collective instruction stands in the program.
    const void *collective = nullptr;
};

/// The thread that runs now.
extern __thread Thread *current;

/// What a thread does: a function and what it is called with.
struct Body {
    void (*function)(const void *kernel);
    const void *kernel;
};

/// Runs `body` as every thread of every block; threads are a multiple of a warp. `early`: it may begin before the launches before have
/// ended, as far as its threads do not wait for them.
void run(dim3 grid, int threads, size_t shared_bytes, bool early, Body body);

unsigned char *shared_memory();

/// Waits for all threads of the block.
void barrier();

/// What the 32 lanes of a warp do together: `operation` is called once, with what each lane gave, when all have come.
using Operation = void (*)(void *const lanes[32]);
/// `caller` is the kernel, where this is not called from there.
void collective(Operation operation, void *operands, const void *caller = nullptr);

/// Ends the process unless all bytes at `address`, a multiple of their number, are dynamic shared memory of this block.
void require_shared(const void *address, size_t bytes);
void require_aligned(const void *address, size_t bytes);

/// Ends the process, saying what is wrong with the kernel.
[[noreturn]] void fail(const char *what);

template <typename T> struct Shuffle {
    T value;
    int source;
    T result;

    static void exchange(void *const lanes[32]) {
        for (int lane = 0; lane < 32; lane++) {
            auto *own = static_cast<Shuffle *>(lanes[lane]);
            own->result = static_cast<Shuffle *>(lanes[own->source & 31])->value;
        }
    }
};

template <typename T> T shuffle(T value, int source) {
    Shuffle<T> operands{value, source, value};
    collective(Shuffle<T>::exchange, &operands);
    return operands.result;
}

} // namespace emulation

inline unsigned char *dynamic_shared_memory() { return emulation::shared_memory(); }

inline void __syncthreads() { emulation::barrier(); }
inline void __syncwarp() {
    emulation::collective([](void *const *) { emulation::order_warp(); }, nullptr);
}

template <typename T> T __shfl_sync(unsigned, T value, int source) { return emulation::shuffle(value, source); }
template <typename T> T __shfl_xor_sync(unsigned, T value, int mask) {
    return emulation::shuffle(value, int(threadIdx.x % 32) ^ mask);
}

inline bool __any_sync(unsigned lanes, bool own) {
    int any = own;
    for (int mask = 16; mask > 0; mask /= 2) any |= __shfl_xor_sync(lanes, any, mask);
    return any != 0;
}

inline uint32_t __reduce_max_sync(unsigned lanes, uint32_t own) {
    for (int mask = 16; mask > 0; mask /= 2) own = std::max(own, __shfl_xor_sync(lanes, own, mask));
    return own;
}

inline int __reduce_min_sync(unsigned lanes, int own) {
    for (int mask = 16; mask > 0; mask /= 2) own = std::min(own, __shfl_xor_sync(lanes, own, mask));
    return own;
}

template <typename T> T min(T a, T b) { return b < a ? b : a; }
template <typename T> T max(T a, T b) { return a < b ? b : a; }

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

inline float __uint_as_float(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline uint32_t __float_as_uint(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}
