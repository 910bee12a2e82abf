// Rows of tables looked up and added, and the sums of their gradients.
//
// Bytes a number in bf16: forward 6 (two tables, the sum), backward 2 and what the touched rows of the sums take, 8 each.
//
// The backward adds nothing atomically: the caller sorts the places of each id, on the host, where the ids are; a block
// owns an id and adds its rows in order.

#include "packs.cuh"

namespace {

constexpr int THREADS = 128;
/// Rows of a gradient that a thread asks for at once.
constexpr int AT_ONCE = 8;

/// `ids` of `table`, one a row of the result.
template <typename T> struct Table {
    const T *table;
    const uint32_t *ids;
};

template <typename T, typename Y, int V>
__global__ void __launch_bounds__(THREADS) embed(Table<T> words, Table<T> positions, Y *y, int width) {
    // It is not started early itself: a decoding step begins with it.
    ptx::let_next_kernel_start();
    int64_t row = blockIdx.x;
    for (int column = threadIdx.x * V; column < width; column += THREADS * V) {
        float sums[V];
        load_values(sums, words.table + int64_t(words.ids[row]) * width + column);
        if (positions.table != nullptr) {
            float values[V];
            load_values(values, positions.table + int64_t(positions.ids[row]) * width + column);
#pragma unroll
            for (int i = 0; i < V; i++) sums[i] += values[i];
        }
        store_values(y + row * width + column, sums);
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) accumulate(
    float *sums, const T *gradient, const uint32_t *ids, const uint32_t *starts, const uint32_t *places, int width
) {
    uint32_t first = starts[blockIdx.x], end = starts[blockIdx.x + 1];
    float *target = sums + int64_t(ids[blockIdx.x]) * width;
    for (int column = threadIdx.x * V; column < width; column += THREADS * V) {
        float own[V];
        load_values(own, target + column);
        for (uint32_t i = first; i < end; i += AT_ONCE) {
            float values[AT_ONCE][V];
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++) {
                load_values(values[j], gradient + int64_t(places[min(i + j, end - 1)]) * width + column);
            }
#pragma unroll
            for (int j = 0; j < AT_ONCE; j++) {
#pragma unroll
                for (int n = 0; n < V; n++) own[n] += i + j < end ? values[j][n] : 0.0f;
            }
        }
        store_values(target + column, own);
    }
}

template <typename T, typename Y>
int forward(Table<T> words, Table<T> positions, Y *y, int64_t rows, int width, cudaStream_t stream) {
    bool packs = takes_packs(width, words.table, positions.table, y);
    auto kernel = packs ? embed<T, Y, PACK> : embed<T, Y, 1>;
    return launch(kernel, dim3(rows), THREADS, 0, stream, words, positions, y, width);
}

template <typename T>
int backward(
    float *sums, const T *gradient, const uint32_t *ids, const uint32_t *starts, const uint32_t *places, int count, int width,
    cudaStream_t stream
) {
    auto kernel = takes_packs(width, sums, gradient) ? accumulate<T, PACK> : accumulate<T, 1>;
    return launch(kernel, dim3(count), THREADS, 0, stream, sums, gradient, ids, starts, places, width);
}

} // namespace

/// y [rows, width] = rows `ids` of `table` plus rows `position_ids` of `positions`, unless that is null.
#define EMBED(NAME, T, Y)                                                                                              \
    extern "C" int epitome_embed_##NAME(                                                                               \
        const void *table, const uint32_t *ids, const void *positions, const uint32_t *position_ids, void *y,          \
        int64_t rows, int width, cudaStream_t stream                                                                   \
    ) {                                                                                                                \
        Table<T> words{static_cast<const T *>(table), ids}, places{static_cast<const T *>(positions), position_ids};   \
        return forward<T, Y>(words, places, static_cast<Y *>(y), rows, width, stream);                                 \
    }

EMBED(f32, float, float)
EMBED(bf16, bf16, bf16)
EMBED(f32_bf16, float, bf16)

/// sums[ids[n]] += gradient[places[i]] for i in starts[n]..starts[n + 1], for each of `count` different ids.
#define ACCUMULATE_ROWS(NAME, T)                                                                                       \
    extern "C" int epitome_accumulate_rows_##NAME(                                                                     \
        float *sums, const void *gradient, const uint32_t *ids, const uint32_t *starts, const uint32_t *places,        \
        int count, int width, cudaStream_t stream                                                                      \
    ) {                                                                                                                \
        return backward<T>(sums, static_cast<const T *>(gradient), ids, starts, places, count, width, stream);         \
    }

ACCUMULATE_ROWS(f32, float)
ACCUMULATE_ROWS(bf16, bf16)
