// The instructions of warp groups (wgmma, capability 9.0 alone, target sm_90a), as ptx.cuh has those of all processors: after
// the sections on asynchronous warpgroup-level matrix instructions and on proxies in the PTX reference.
//
// A warp group is four warps that follow each other. It multiplies 64 rows by N columns, 16 deep: warp w makes rows 16 w.., and
// each lane holds of them what it holds of the fragments of ptx.cuh, A [16, 16] and N / 8 times C [16, 8]. Products are
// asynchronous: they read shared memory and their registers until a wait.
#pragma once

#include "ptx.cuh"

#ifndef __CUDACC__
#include "emulation/products.h"
#endif

namespace ptx {

/// Bytes after which the pattern of a matrix in shared memory begins again.
constexpr int SWIZZLE_BYTES = 1024;

#ifdef __CUDACC__

/// Lets matrix units see what this thread's copies brought; others' products may read it after a barrier.
__device__ __forceinline__ void fence_copies() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Comes between whatever wrote the registers of products and the products.
__device__ __forceinline__ void fence_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

/// Ends a group of products.
__device__ __forceinline__ void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

/// Waits for all products but those of the latest PENDING groups.
template <int PENDING> __device__ __forceinline__ void wait_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/// Keeps the compiler from moving what touches these registers to the other side of a fence or wait.
template <int N> __device__ __forceinline__ void pin(float (&c)[N][4]) {
#pragma unroll
    for (int i = 0; i < 4 * N; i++) asm volatile("" : "+f"(c[i / 4][i % 4])::"memory");
}

template <int N> __device__ __forceinline__ void pin(uint32_t (&a)[N][4]) {
#pragma unroll
    for (int i = 0; i < 4 * N; i++) asm volatile("" : "+r"(a[i / 4][i % 4])::"memory");
}

/// Has `value`, which is not negative, computed before a wait that follows. The assembler puts a wait before whatever does not
/// need its products, unless a branch stands between: one of the whole warp, for else it makes products wait for each other.
__device__ __forceinline__ void come_before_wait(float value) {
    if (__any_sync(0xffffffff, value < 0.0f)) {
        // Or the assembler takes it for an end without a wait, and lets products wait for each other.
        wait_products<0>();
        __trap();
    }
}

/// The same of many values.
template <int N> __device__ __forceinline__ void come_before_wait(const float (&values)[N][4]) {
    uint32_t signs = 0;
#pragma unroll
    for (int i = 0; i < 4 * N; i++) signs |= __float_as_uint(values[i / 4][i % 4]);
    come_before_wait(__uint_as_float(signs));
}

#define SUMS(n) "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])
#define EIGHT_SUMS(n) \
    SUMS(n), SUMS(n + 1), SUMS(n + 2), SUMS(n + 3), SUMS(n + 4), SUMS(n + 5), SUMS(n + 6), SUMS(n + 7)

/// c [64, 64] += a b, or = a b: A in registers, B by its descriptor. The depth of B lies together in shared memory, or its columns
/// where it is TRANSPOSED.
template <bool TRANSPOSED>
__device__ __forceinline__ void multiply_group(float (&c)[8][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %37, 0; "
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "{%32, %33, %34, %35}, %36, p, 1, 1, %38; }"
                 : EIGHT_SUMS(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(accumulate)), "n"(int(TRANSPOSED)));
}

/// The same of 128 columns.
template <bool TRANSPOSED>
__device__ __forceinline__ void multiply_group(float (&c)[16][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %69, 0; "
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
                 "{%64, %65, %66, %67}, %68, p, 1, 1, %70; }"
                 : EIGHT_SUMS(0), EIGHT_SUMS(8)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(accumulate)), "n"(int(TRANSPOSED)));
}

/// c [64, 64] with A in shared memory too, its depth together.
template <bool TRANSPOSED>
__device__ __forceinline__ void multiply_group(float (&c)[8][4], uint64_t a, uint64_t b, bool accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %34, 0; "
                 "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}, "
                 "%32, %33, p, 1, 1, 0, %35; }"
                 : EIGHT_SUMS(0)
                 : "l"(a), "l"(b), "r"(int(accumulate)), "n"(int(TRANSPOSED)));
}

/// The same of 8 columns.
template <bool TRANSPOSED>
__device__ __forceinline__ void multiply_group(float (&c)[1][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %9, 0; "
                 "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, {%4, %5, %6, %7}, %8, p, 1, 1, %10; }"
                 : SUMS(0)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(int(accumulate)), "n"(int(TRANSPOSED)));
}

template <bool TRANSPOSED>
__device__ __forceinline__ void multiply_group(float (&c)[1][4], uint64_t a, uint64_t b, bool accumulate) {
    asm volatile("{ .reg .pred p; setp.ne.b32 p, %6, 0; "
                 "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, p, 1, 1, 0, %7; }"
                 : SUMS(0)
                 : "l"(a), "l"(b), "r"(int(accumulate)), "n"(int(TRANSPOSED)));
}

#undef EIGHT_SUMS
#undef SUMS

#else

using emulation::commit_products;
using emulation::fence_copies;
using emulation::fence_products;
using emulation::shared_address;

template <int PENDING> void wait_products() { emulation::wait_products(PENDING); }

template <typename Registers> void pin(Registers &) {}
inline void come_before_wait(float) {}

template <int N> void come_before_wait(const float (&)[N][4]) {}

template <bool TRANSPOSED, int N>
void multiply_group(float (&c)[N][4], const uint32_t (&a)[4], uint64_t b, bool accumulate) {
    emulation::multiply_group({c[0], a, 0, b, 8 * N, TRANSPOSED, accumulate});
}

template <bool TRANSPOSED, int N> void multiply_group(float (&c)[N][4], uint64_t a, uint64_t b, bool accumulate) {
    emulation::multiply_group({c[0], nullptr, a, b, 8 * N, TRANSPOSED, accumulate});
}

#endif

/// A descriptor with this lower word.
__device__ __forceinline__ uint64_t matrix_descriptor(uint32_t low, int stride) {
    constexpr uint32_t SWIZZLE_128 = 1;
    uint32_t high = stride >> 4 | SWIZZLE_128 << 30;
    return uint64_t(high) << 32 | low;
}

/// Describes a matrix in shared memory in the pattern of 128 bytes: chunk c of 16 bytes of line r of 128 lies at c ^ (r % 8).
/// Eight lines are a block of the matrix, and `stride` bytes lie between one block and the next in the direction across the
/// lines, `leading` in the direction along them.
/// It begins `offset` bytes after `tile`, to which the pattern belongs.
__device__ __forceinline__ uint64_t matrix_descriptor(const void *tile, int offset, int leading, int stride) {
    // A block's own shared memory is less than 256 KB: sums of addresses stay in their 14 bits.
    uint32_t low = ((shared_address(tile) & 0x3ffff) >> 4 | leading >> 4 << 16) + (offset >> 4);
    return matrix_descriptor(low, stride);
}

} // namespace ptx
