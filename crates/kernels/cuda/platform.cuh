// What kernels are compiled against: CUDA, or a header that runs them on the CPU (emulation/device.h).
#pragma once

#ifdef __CUDACC__

#include <cstdint>
#include <cuda_runtime.h>

/// The dynamic shared memory of the block, aligned for 16-byte accesses.
__device__ __forceinline__ unsigned char *dynamic_shared_memory() {
    extern __shared__ __align__(128) unsigned char dynamic_shared[];
    return dynamic_shared;
}

/// Starts a kernel. An empty grid is no work. Returns a cudaError_t, 0 for success.
template <typename... Parameters, typename... Arguments>
int launch(
    void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, cudaStream_t stream, Arguments... arguments
) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
    if (shared_bytes > 48 << 10) {
        // A block gets more than this only on request.
        auto error = cudaFuncSetAttribute(
            reinterpret_cast<const void *>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared_bytes)
        );
        if (error != cudaSuccess) {
            // Told here, and not by the next launch again.
            cudaGetLastError();
            return error;
        }
    }
    kernel<<<grid, threads, shared_bytes, stream>>>(arguments...);
    return cudaGetLastError();
}

#else

#include "emulation/device.h"

template <typename... Parameters, typename... Arguments>
int launch(
    void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, cudaStream_t, Arguments... arguments
) {
    emulation::run(grid, threads, shared_bytes, [&] { kernel(arguments...); });
    return 0;
}

#endif

constexpr int WARP = 32;

/// What a launcher returns when it has no kernel for its arguments: no CUDA error's number.
constexpr int INVALID = -1;

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
