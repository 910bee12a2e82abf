// The few rows that a product of few_rows.cu reads: which part of them a lane has, and their layer norm.
#pragma once

#include "../rows/packs.cuh"

namespace {

/// Numbers of K in a warp's step of two products of the matrix unit.
constexpr int STEP = 32;

/// Warps of a block at most; with a layer norm, which needs more registers, fewer.
template <bool NORM> constexpr int MOST_WARPS = NORM ? 8 : 16;

struct Rows {
    const bf16 *x;
    int count, width;
};

/// Of a layer norm of x + residual; the first block writes it to `y`.
struct Norm {
    const bf16 *residual;
    const float *weight, *bias;
    float eps;
    bf16 *y;
    /// Of a row's numbers and of a block's warps, 1 / count each.
    float of_width, of_warps;
};

/// The part of x that a lane has, of up to ROWS rows, in a warp of STEPS steps: of its row, and of the one 8 below if there are 16, 8
/// numbers of K in each of `OWN` steps. Of 4 rows lanes 16 and up have the odd steps, the others the even ones.
template <int ROWS, int STEPS> struct Part {
    static constexpr int HALVES = ROWS == 16 ? 2 : 1, SHARES = ROWS == 4 ? 2 : 1, OWN = STEPS / SHARES;
    static_assert(STEPS % SHARES == 0, "lanes share the steps");

    static __device__ __forceinline__ int row(int half) {
        return ROWS == 4 ? lane_index() / 4 % 4 : lane_index() / 4 + 8 * half;
    }
    static __device__ __forceinline__ int column(int step) {
        int share = ROWS == 4 ? lane_index() / 16 : 0;
        return (warp_index() * STEPS + step * SHARES + share) * STEP + lane_index() % 4 * 8;
    }
    /// The lane that speaks for those which have the same row.
    static __device__ __forceinline__ bool is_first() { return lane_index() % 4 == 0 && lane_index() < 32 / SHARES; }
};

/// The mean of some numbers, and the sum of squares of the differences from it.
struct Moments {
    float mean, squares;

    /// Adds as many numbers of the lane that differs in the bits of `mask`, `count` each (Chan et al. 1979).
    __device__ __forceinline__ void add_lane(int mask, int count) {
        float other = __shfl_xor_sync(ALL_LANES, mean, mask), more = __shfl_xor_sync(ALL_LANES, squares, mask);
        float difference = other - mean;
        mean = 0.5f * (mean + other);
        squares = (squares + more) + difference * difference * (0.5f * count);
    }
};

/// Sums of N numbers, four or more, in four chains.
template <int N, typename Number> __device__ __forceinline__ float sum_of(Number number) {
    float sums[4];
#pragma unroll
    for (int i = 0; i < N; i++) sums[i % 4] = i < 4 ? number(i) : sums[i % 4] + number(i);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/// Of the rows of which a lane has a part each. Each lane takes the moments of its numbers, in two passes, its warp merges those, and one
/// barrier is enough to merge the warps'. That barrier shows all threads what was copied, too.
template <int ROWS, int STEPS>
__device__ __forceinline__ void find_moments(
    const float (&values)[Part<ROWS, STEPS>::HALVES][Part<ROWS, STEPS>::OWN][8], const Norm &norm,
    Moments (&moments)[Part<ROWS, STEPS>::HALVES]
) {
    using P = Part<ROWS, STEPS>;
    constexpr int MOST = MOST_WARPS<true>, COUNT = 8 * P::OWN;
    // Rows lie so far apart that those a warp reads are in different banks.
    alignas(16) __shared__ float2 scratch[ROWS][MOST + 2];
#pragma unroll
    for (int half = 0; half < P::HALVES; half++) {
        auto value = [&](int i) { return values[half][i / 8][i % 8]; };
        Moments own;
        own.mean = sum_of<COUNT>(value) * (1.0f / COUNT);
        own.squares = sum_of<COUNT>([&](int i) { return (value(i) - own.mean) * (value(i) - own.mean); });
        own.add_lane(1, COUNT);
        own.add_lane(2, 2 * COUNT);
        if (P::SHARES == 2) own.add_lane(16, 4 * COUNT);
        if (P::is_first()) scratch[P::row(half)][warp_index()] = {own.mean, own.squares};
    }
    ptx::wait_copies<0>();
    __syncthreads();
    int warps = int(blockDim.x) / WARP;
#pragma unroll
    for (int half = 0; half < P::HALVES; half++) {
        float means[MOST], squares[MOST];
#pragma unroll
        for (int warp = 0; warp < MOST; warp += 2) {
            uint4 two = ptx::load_16(&scratch[P::row(half)][warp]);
            means[warp] = __uint_as_float(two.x);
            squares[warp] = __uint_as_float(two.y);
            means[warp + 1] = __uint_as_float(two.z);
            squares[warp + 1] = __uint_as_float(two.w);
        }
        float mean = sum_of<MOST>([&](int warp) { return warp < warps ? means[warp] : 0.0f; }) * norm.of_warps;
        moments[half] = {mean, sum_of<MOST>([&](int warp) {
            float difference = means[warp] - mean;
            return warp < warps ? squares[warp] + STEPS * STEP * (difference * difference) : 0.0f;
        })};
    }
}

/// Weight and bias of a norm, one after the other in shared memory, copied while other kernels may still run: they are nobody's result.
__device__ __forceinline__ float *copy_parameters(const Norm &norm, int width) {
    float *parameters = reinterpret_cast<float *>(dynamic_shared_memory());
    for (int i = 4 * threadIdx.x; i < width; i += 4 * blockDim.x) {
        ptx::copy_async(parameters + i, norm.weight + i, true);
        ptx::copy_async(parameters + width + i, norm.bias + i, true);
    }
    ptx::commit_copies();
    return parameters;
}

/// A lane's numbers, all asked for at once; zeros where there is no row.
template <int ROWS, int STEPS>
__device__ __forceinline__ void load_rows(
    uint4 (&values)[Part<ROWS, STEPS>::HALVES][Part<ROWS, STEPS>::OWN], const bf16 *from, const Rows &rows
) {
    using P = Part<ROWS, STEPS>;
#pragma unroll
    for (int half = 0; half < P::HALVES; half++) {
        const bf16 *own = from + unsigned(P::row(half) * rows.width + P::column(0));
#pragma unroll
        for (int step = 0; step < P::OWN; step++) {
            bool exists = P::row(half) < rows.count;
            values[half][step] = exists ? ptx::load_16(own + step * P::SHARES * STEP) : uint4{0, 0, 0, 0};
        }
    }
}

template <int ROWS, int STEPS>
__device__ __forceinline__ void normalise(
    uint4 (&x)[Part<ROWS, STEPS>::HALVES][Part<ROWS, STEPS>::OWN], const Rows &rows, const Norm &norm, const float *parameters
) {
    using P = Part<ROWS, STEPS>;
    float values[P::HALVES][P::OWN][8];
    Moments moments[P::HALVES];
    uint4 residual[P::HALVES][P::OWN];
    load_rows<ROWS, STEPS>(x, rows.x, rows);
    load_rows<ROWS, STEPS>(residual, norm.residual, rows);
#pragma unroll
    for (int half = 0; half < P::HALVES; half++) {
#pragma unroll
        for (int step = 0; step < P::OWN; step++) {
            float more[8];
            unpack(values[half][step], x[half][step], bf16());
            unpack(more, residual[half][step], bf16());
#pragma unroll
            for (int i = 0; i < 8; i++) values[half][step][i] += more[i];
        }
    }
    find_moments<ROWS, STEPS>(values, norm, moments);
    float rstd[P::HALVES];
#pragma unroll
    for (int half = 0; half < P::HALVES; half++) rstd[half] = rsqrtf(moments[half].squares * norm.of_width + norm.eps);
#pragma unroll
    for (int step = 0; step < P::OWN; step++) {
        float weight[8], bias[8];
        int column = P::column(step);
        load_values(weight, parameters + column);
        load_values(bias, parameters + rows.width + column);
#pragma unroll
        for (int half = 0; half < P::HALVES; half++) {
            float(&own)[8] = values[half][step];
#pragma unroll
            for (int i = 0; i < 8; i++) own[i] = (own[i] - moments[half].mean) * rstd[half] * weight[i] + bias[i];
            x[half][step] = pack(own, bf16());
            if (blockIdx.x == 0 && P::row(half) < rows.count) {
                ptx::store_16(norm.y + int64_t(P::row(half)) * rows.width + column, x[half][step]);
            }
        }
    }
}

} // namespace
