// Numbers in memory, and sums and maxima over the threads of a warp or block. Everything is computed in f32.
#pragma once

#include "ptx.cuh"

/// A bfloat16 in memory.
struct bf16 {
    uint16_t bits;
};

constexpr float LOG2_E = 1.44269504088896f;
constexpr float LN_2 = 0.693147180559945f;
constexpr unsigned ALL_LANES = 0xffffffff;

__device__ __forceinline__ float to_float(float value) { return value; }
__device__ __forceinline__ float to_float(bf16 value) { return __uint_as_float(uint32_t(value.bits) << 16); }

template <typename T> __device__ __forceinline__ T from_float(float value);
template <> __device__ __forceinline__ float from_float<float>(float value) { return value; }
template <> __device__ __forceinline__ bf16 from_float<bf16>(float value) {
    return {uint16_t(ptx::pack_bf16(value, 0.0f))};
}

__device__ __forceinline__ int lane_index() { return threadIdx.x % WARP; }
__device__ __forceinline__ int warp_index() { return threadIdx.x / WARP; }

/// Over groups of LANES lanes that follow each other; every lane gets the result.
template <int LANES = WARP> __device__ __forceinline__ float lanes_sum(float value) {
#pragma unroll
    for (int mask = LANES / 2; mask > 0; mask /= 2) value += __shfl_xor_sync(ALL_LANES, value, mask);
    return value;
}

template <int LANES = WARP> __device__ __forceinline__ float lanes_max(float value) {
#pragma unroll
    for (int mask = LANES / 2; mask > 0; mask /= 2) value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, mask));
    return value;
}

struct Plus {
    template <typename T> __device__ __forceinline__ T operator()(T a, T b) const { return a + b; }
};

/// `combine` over all threads of the block, always in the same order; every thread gets the result. May be called again at
/// once. `scratch` is shared memory for one number a warp.
template <typename T, typename Combine>
__device__ __forceinline__ T block_reduce(T value, T *scratch, Combine combine) {
#pragma unroll
    for (int mask = WARP / 2; mask > 0; mask /= 2) value = combine(value, __shfl_xor_sync(ALL_LANES, value, mask));
    if (lane_index() == 0) scratch[warp_index()] = value;
    __syncthreads();
    T result = scratch[0];
    for (int warp = 1; warp < int(blockDim.x) / WARP; warp++) result = combine(result, scratch[warp]);
    __syncthreads();
    return result;
}
