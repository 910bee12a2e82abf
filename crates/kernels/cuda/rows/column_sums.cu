// Sums over the rows of a few matrices of one shape, which gradients of biases are.
//
// Bytes a number in bf16: 2; [16,384, 3,072] is 101 MB: 30 us at 3.35 TB/s. Bound by bytes.
//
// Schedule: a thread owns columns (eight, where rows are aligned) of a chunk of rows of a matrix; then chunks are added up
// (partials.cuh).

#include "packs.cuh"
#include "partials.cuh"

namespace {

constexpr int THREADS = 128;

/// A matrix [rows, width], and the sum [width] of its rows. Mirrors `ColumnSum` in src/cuda/ffi.rs.
struct ColumnSum {
    const void *x;
    float *sum;
};

struct Matrices {
    const void *x[MOST_SUMS];

    /// That of this block. By choice and not by index, for which a thread would copy all to its memory.
    __device__ __forceinline__ const void *own() const { return blockIdx.z == 0 ? x[0] : blockIdx.z == 1 ? x[1] : x[2]; }
};

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) sum_chunk(Matrices all, float *partials, int64_t rows, int width, int chunk) {
    auto x = static_cast<const T *>(all.own());
    int column = (blockIdx.x * THREADS + threadIdx.x) * V;
    if (column >= width) return;
    int64_t first = int64_t(blockIdx.y) * chunk, end = min(first + chunk, rows);
    float sums[V] = {};
#pragma unroll 8
    for (int64_t row = first; row < end; row++) {
        float values[V];
        load_values(values, x + row * width + column);
#pragma unroll
        for (int i = 0; i < V; i++) sums[i] += values[i];
    }
#pragma unroll
    for (int i = 0; i < V; i++) partials[(int64_t(blockIdx.z) * gridDim.y + blockIdx.y) * width + column + i] = sums[i];
}

template <typename T>
int start(const ColumnSum *list, int count, float *partials, int64_t rows, int width, int chunk, cudaStream_t stream) {
    if (count > MOST_SUMS) return INVALID;
    Matrices all{};
    PartialSums sums{{}, partials};
    bool packs = true;
    for (int i = 0; i < count; i++) {
        all.x[i] = list[i].x;
        sums.sums[i] = list[i].sum;
        packs = packs && takes_packs(width, list[i].x);
    }
    auto kernel = packs ? sum_chunk<T, PACK> : sum_chunk<T, 1>;
    dim3 grid(ceil_div(packs ? width / PACK : width, THREADS), chunks_of(rows, chunk), count);
    int error = launch(kernel, grid, THREADS, 0, stream, all, partials, rows, width, chunk);
    return error == 0 ? add_partials(sums, count, grid.y, width, stream) : error;
}

} // namespace

/// sum[c] += x[0][c] + x[1][c] + ... of up to three: x [rows, width], sum [width] in f32. Blocks take `chunk` rows each, of which there
/// are 65,535 at most. `partials`: [count, chunks, width].
#define COLUMN_SUMS(NAME, T)                                                                                           \
    extern "C" int epitome_column_sums_##NAME(                                                                         \
        const ColumnSum *list, int count, float *partials, int64_t rows, int width, int chunk, cudaStream_t stream     \
    ) {                                                                                                                \
        return start<T>(list, count, partials, rows, width, chunk, stream);                                            \
    }

COLUMN_SUMS(f32, float)
COLUMN_SUMS(bf16, bf16)
