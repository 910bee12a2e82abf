// Everything that CUDA C++ has no word for, as inline functions: the one place with PTX, and the one place with its
// counterpart on the CPU, written after the semantics in the PTX reference (sections on mma.m16n8k16, ldmatrix, cp.async,
// cvt and ex2).
//
// Fragments of a warp. With g = lane / 4 and t = lane % 4, a 32-bit register holds two bf16, the lower half first:
//   A [16, 16]:  a[0] = (g, 2t..), a[1] = (g + 8, 2t..), a[2] = (g, 2t + 8..), a[3] = (g + 8, 2t + 8..)
//   B [16, 8]:   b[0] = rows 2t, 2t + 1 of column g, b[1] = rows 2t + 8, 2t + 9 of column g
//   C [16, 8]:   c[0], c[1] = (g, 2t), (g, 2t + 1); c[2], c[3] = the same of row g + 8
#pragma once

#include "platform.cuh"

namespace ptx {

#ifdef __CUDACC__

__device__ __forceinline__ uint32_t shared_address(const void *pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

/// Two numbers rounded to bf16, `low` in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/// 2^x to about 2 units in the last place; 0 for minus infinity.
__device__ __forceinline__ float exp2_approximate(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// 1 / x to about 1 unit in the last place.
__device__ __forceinline__ float reciprocal_approximate(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

/// Four 8x8 matrices of bf16 whose rows begin at the addresses of lanes 0-7, 8-15, 16-23 and 24-31: register i gets the two
/// elements 2 (lane % 4) of row lane / 4 of matrix i.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/// The same of the transposed matrices.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

/// c += a b of fragments, bf16 products summed in f32.
__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
        "{%0, %1, %2, %3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/// Starts to copy 16 bytes to shared memory, past the first-level cache; zeros where there is no source.
__device__ __forceinline__ void copy_async(void *shared, const void *global, bool valid) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :
                 : "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)), "r"(valid ? 16 : 0)
                 : "memory");
}

/// The same of 4 bytes.
__device__ __forceinline__ void copy_async_4(void *shared, const void *global, bool valid) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;"
                 :
                 : "r"(shared_address(shared)), "l"(__cvta_generic_to_global(global)), "r"(valid ? 4 : 0)
                 : "memory");
}

/// Ends a group of copies.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits for this thread's copies but the latest PENDING groups; others see them after a barrier.
template <int PENDING> __device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

__device__ __forceinline__ uint4 load_16(const void *address) { return *static_cast<const uint4 *>(address); }
__device__ __forceinline__ void store_16(void *address, uint4 value) { *static_cast<uint4 *>(address) = value; }

/// Loads that are asked for where this stands, of what the kernel may have written.
__device__ __forceinline__ float load_4_here(const float *address) {
    float value;
    asm volatile("ld.global.f32 %0, [%1];" : "=f"(value) : "l"(__cvta_generic_to_global(address)) : "memory");
    return value;
}
__device__ __forceinline__ uint4 load_16_here(const void *address) {
    uint4 value;
    asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(__cvta_generic_to_global(address))
                 : "memory");
    return value;
}

/// Waits until the kernels before this one have ended, where it was started early.
__device__ __forceinline__ void wait_for_kernels_before() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the kernel after this one be started early, if it was launched so, as soon as all blocks have come here; it waits for what they
/// do afterwards.
__device__ __forceinline__ void let_next_kernel_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/// Counts a thread that has come to `counter`, which is 0 at first, and says whether it is the last of `count`, for which the counter is
/// 0 again. The last sees, and so do threads that wait for it at a barrier, what others and those they had waited for wrote before.
__device__ __forceinline__ bool count_arrival(int *counter, int count) {
    int before;
    asm volatile("atom.acq_rel.gpu.global.inc.u32 %0, [%1], %2;"
                 : "=r"(before)
                 : "l"(__cvta_generic_to_global(counter)), "r"(count - 1)
                 : "memory");
    return before == count - 1;
}

/// 16 bytes that the kernel does not write and nobody reads again soon; asked for where this stands, not where they are used.
__device__ __forceinline__ uint4 stream_16(const void *address) {
    uint4 value;
    asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(__cvta_generic_to_global(address)));
    return value;
}

#else

inline float widen(uint32_t bits) { return __uint_as_float(bits << 16); }

/// Round to nearest, ties to even.
inline uint32_t narrow(float value) {
    uint32_t bits = __float_as_uint(value);
    if (value != value) return 0x7fff;
    return (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

inline uint32_t pack_bf16(float low, float high) { return narrow(high) << 16 | narrow(low); }

inline float exp2_approximate(float x) { return std::exp2(x); }
inline float reciprocal_approximate(float x) { return 1.0f / x; }

struct Matrices {
    uint32_t *registers;
    const void *row;
};

template <bool TRANSPOSED> void gather_matrices(void *const lanes[32]) {
    for (int lane = 0; lane < 32; lane++) {
        for (int matrix = 0; matrix < 4; matrix++) {
            uint32_t halves[2];
            for (int half = 0; half < 2; half++) {
                int row = lane / 4, column = lane % 4 * 2 + half;
                if (TRANSPOSED) std::swap(row, column);
                auto *values = static_cast<const uint16_t *>(static_cast<Matrices *>(lanes[matrix * 8 + row])->row);
                emulation::note_warp_read(&values[column], sizeof *values);
                halves[half] = values[column];
            }
            static_cast<Matrices *>(lanes[lane])->registers[matrix] = halves[1] << 16 | halves[0];
        }
    }
}

inline void load_matrices(uint32_t (&r)[4], const void *row) {
    emulation::require_shared(row, 16);
    Matrices operands{r, row};
    emulation::collective(gather_matrices<false>, &operands);
}

inline void load_matrices_transposed(uint32_t (&r)[4], const void *row) {
    emulation::require_shared(row, 16);
    Matrices operands{r, row};
    emulation::collective(gather_matrices<true>, &operands);
}

struct Product {
    float *c;
    const uint32_t *a;
    uint32_t b[2];
};

inline void multiply_warp(void *const lanes[32]) {
    float a[16][16], b[16][8], c[16][8];
    for (int lane = 0; lane < 32; lane++) {
        auto *own = static_cast<Product *>(lanes[lane]);
        int g = lane / 4, t = lane % 4;
        for (int half = 0; half < 2; half++) {
            auto value = [half](uint32_t pair) { return widen(half ? pair >> 16 : pair & 0xffff); };
            for (int i = 0; i < 4; i++) a[g + i % 2 * 8][2 * t + i / 2 * 8 + half] = value(own->a[i]);
            for (int i = 0; i < 2; i++) {
                b[2 * t + i * 8 + half][g] = value(own->b[i]);
                c[g + i * 8][2 * t + half] = own->c[2 * i + half];
            }
        }
    }
    for (int row = 0; row < 16; row++) {
        for (int k = 0; k < 16; k++) {
            for (int column = 0; column < 8; column++) c[row][column] += a[row][k] * b[k][column];
        }
    }
    for (int lane = 0; lane < 32; lane++) {
        for (int i = 0; i < 4; i++) {
            static_cast<Product *>(lanes[lane])->c[i] = c[lane / 4 + i / 2 * 8][2 * (lane % 4) + i % 2];
        }
    }
}

inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    Product operands{c, a, {b0, b1}};
    emulation::collective(multiply_warp, &operands);
}

inline void copy_async(void *shared, const void *global, bool valid) {
    emulation::copy_async(shared, global, 16, valid);
}
inline void copy_async_4(void *shared, const void *global, bool valid) {
    emulation::copy_async(shared, global, 4, valid);
}
inline void commit_copies() { emulation::commit_copies(); }
template <int PENDING> void wait_copies() { emulation::wait_copies(PENDING); }

inline uint4 load_16(const void *address) {
    emulation::require_aligned(address, 16);
    uint4 value;
    std::memcpy(&value, address, sizeof value);
    return value;
}

inline void wait_for_kernels_before() { emulation::order_launches(); }
inline void let_next_kernel_start() {}
inline bool count_arrival(int *counter, int count) { return emulation::count_arrival(counter, count); }

inline uint4 stream_16(const void *address) { return load_16(address); }
inline float load_4_here(const float *address) { return *address; }
inline uint4 load_16_here(const void *address) { return load_16(address); }

inline void store_16(void *address, uint4 value) {
    emulation::require_aligned(address, 16);
    std::memcpy(address, &value, sizeof value);
}

#endif

} // namespace ptx
