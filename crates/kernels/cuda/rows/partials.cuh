// Sums over all rows of a matrix, without atomics: a block of threads sums a chunk of rows and writes it to
// `partials` [chunks, width]; then the chunks are added up, always in the same order.
#pragma once

#include "../numbers.cuh"

inline int chunks_of(int64_t rows, int chunk) { return int((rows + chunk - 1) / chunk); }

/// Threads of a block that adds up the chunks of 32 columns: 8 warps share them.
constexpr int PARTIALS_THREADS = 8 * WARP;

/// A column and its sum. Of the threads that know it one should use it.
struct Column {
    int index;
    float sum;
    bool is_mine;
};

/// The sum of all chunks of this thread's column; all threads of the block call it together, once.
__device__ __forceinline__ Column sum_of_chunks(const float *partials, int chunks, int width) {
    constexpr int WARPS = PARTIALS_THREADS / WARP;
    __shared__ float sums[WARPS][WARP];
    int column = blockIdx.x * WARP + lane_index();
    float own = 0.0f;
    if (column < width) {
#pragma unroll 8
        for (int chunk = warp_index(); chunk < chunks; chunk += WARPS) own += partials[int64_t(chunk) * width + column];
    }
    sums[warp_index()][lane_index()] = own;
    __syncthreads();
    float total = 0.0f;
    for (int warp = 0; warp < WARPS; warp++) total += sums[warp][lane_index()];
    return {column, total, warp_index() == 0 && column < width};
}

/// Sums that one launch can add up.
constexpr int MOST_SUMS = 3;

/// Sums [width], of which some may be null, and what is to be added to them: [chunks, width] for each, one after the other.
struct PartialSums {
    float *sums[MOST_SUMS];
    const float *partials;
};

/// sum[c] += partials[0][c] + partials[1][c] + ... of the first `count` sums; launched in partials.cu.
int add_partials(PartialSums all, int count, int chunks, int width, cudaStream_t stream);
