// What kernels are compiled against: CUDA, or a header that runs them on the CPU (emulation/device.h).
#pragma once

#ifdef __CUDACC__

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <cuda_runtime.h>

/// The dynamic shared memory of the block, aligned for 16-byte accesses.
__device__ __forceinline__ unsigned char *dynamic_shared_memory() {
    extern __shared__ __align__(128) unsigned char dynamic_shared[];
    return dynamic_shared;
}

/// Lets the blocks of a kernel have so much shared memory.
template <typename... Parameters> int allow_shared_memory(void (*kernel)(Parameters...), size_t bytes) {
    // A block gets more than 48 KiB only on request, what it has without asking for it among them.
    if (bytes <= 40 << 10) return cudaSuccess;
    auto pointer = reinterpret_cast<const void *>(kernel);
    auto error = cudaFuncSetAttribute(pointer, cudaFuncAttributeMaxDynamicSharedMemorySize, int(bytes));
    // Told here, and not by the next launch again.
    if (error != cudaSuccess) cudaGetLastError();
    return error;
}

/// Starts a kernel. An empty grid is no work. Returns a cudaError_t, 0 for success.
template <typename... Parameters, typename... Arguments>
int launch(
    void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, cudaStream_t stream, Arguments... arguments
) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
    int error = allow_shared_memory(kernel, shared_bytes);
    if (error != cudaSuccess) return error;
    kernel<<<grid, threads, shared_bytes, stream>>>(arguments...);
    return cudaGetLastError();
}

/// Processors of the device, of the first one that asks.
inline int processor_count() {
    static const int count = [] {
        int device, count;
        bool known = cudaGetDevice(&device) == cudaSuccess &&
                     cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) == cudaSuccess;
        // Any number will do.
        return known ? count : 128;
    }();
    return count;
}

/// Whether kernels are started early: on capability 9.0 and later, unless EPITOME_EARLY_LAUNCHES is 0.
inline bool starts_early() {
    static const bool starts = [] {
        const char *wish = getenv("EPITOME_EARLY_LAUNCHES");
        int device, major;
        bool wanted = wish == nullptr || std::strcmp(wish, "0") != 0;
        return wanted && cudaGetDevice(&device) == cudaSuccess &&
               cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess && major >= 9;
    }();
    return starts;
}

/// The same for a kernel that calls `ptx::wait_for_kernels_before` ahead of all that it writes or reads, but for what no kernel that may
/// still run has written, such as a model's parameters: it may be started when the kernel before it has called
/// `ptx::let_next_kernel_start` (programmatic dependent launch).
template <typename... Parameters, typename... Arguments>
int launch_early(
    void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, cudaStream_t stream, Arguments... arguments
) {
    if (!starts_early()) return launch(kernel, grid, threads, shared_bytes, stream, arguments...);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return cudaSuccess;
    int error = allow_shared_memory(kernel, shared_bytes);
    if (error != cudaSuccess) return error;
    cudaLaunchAttribute early{};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{grid, dim3(threads), shared_bytes, stream, &early, 1};
    error = cudaLaunchKernelEx(&config, kernel, arguments...);
    return error == cudaSuccess ? cudaGetLastError() : (cudaGetLastError(), error);
}

#else

#include "emulation/device.h"

template <typename Call> int emulate(dim3 grid, int threads, size_t shared_bytes, bool early, const Call &call) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return 0;
    emulation::run(
        grid, threads, shared_bytes, early,
        {[](const void *kernel) { (*static_cast<const Call *>(kernel))(); }, &call}
    );
    return 0;
}

template <typename... Parameters, typename... Arguments>
int launch(
    void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, cudaStream_t, Arguments... arguments
) {
    return emulate(grid, threads, shared_bytes, false, [&] { kernel(arguments...); });
}

/// So few that what stays on one to the end has several turns in tests.
inline int processor_count() { return 1; }

template <typename... Parameters, typename... Arguments>
int launch_early(
    void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared_bytes, cudaStream_t, Arguments... arguments
) {
    return emulate(grid, threads, shared_bytes, true, [&] { kernel(arguments...); });
}

#endif

constexpr int WARP = 32;

/// What a launcher returns when it has no kernel for its arguments: no CUDA error's number.
constexpr int INVALID = -1;

__host__ __device__ constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
