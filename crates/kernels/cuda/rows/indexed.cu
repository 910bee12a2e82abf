// Rows of a matrix by their numbers: gathered, written over, added to.
//
// Bytes a number of a row: 4 in bf16, 6 where it is added. Rows of global tokens are few: what counts is the launch.
//
// Schedule: a block owns a row.

#include "../numbers.cuh"

namespace {

constexpr int THREADS = 128;

/// What becomes of the matrix's row and the other one.
enum Change { GATHER, WRITE, ADD };

template <typename T, int CHANGE>
__global__ void __launch_bounds__(THREADS) change_rows(T *matrix, const uint32_t *index, T *rows, int64_t width) {
    T *own = matrix + int64_t(index[blockIdx.x]) * width, *other = rows + int64_t(blockIdx.x) * width;
#pragma unroll 4
    for (int64_t column = threadIdx.x; column < width; column += THREADS) {
        if constexpr (CHANGE == GATHER) other[column] = own[column];
        if constexpr (CHANGE == WRITE) own[column] = other[column];
        if constexpr (CHANGE == ADD) own[column] = from_float<T>(to_float(own[column]) + to_float(other[column]));
    }
}

} // namespace

/// matrix [any, width], rows [count, width] of its type. Rows that are written or added to are there once.
#define INDEXED(NAME, T)                                                                                               \
    extern "C" int epitome_change_rows_##NAME(                                                                         \
        int change, void *matrix, const uint32_t *index, void *rows, int count, int64_t width, cudaStream_t stream     \
    ) {                                                                                                                \
        auto kernel = change == GATHER  ? change_rows<T, GATHER>                                                       \
                      : change == WRITE ? change_rows<T, WRITE>                                                        \
                                        : change_rows<T, ADD>;                                                         \
        return launch(                                                                                                 \
            kernel, dim3(count), THREADS, 0, stream, static_cast<T *>(matrix), index, static_cast<T *>(rows), width    \
        );                                                                                                             \
    }

INDEXED(f32, float)
INDEXED(bf16, bf16)
