// GELU of x + bias in its exact form: z / 2 (1 + erf(z / sqrt 2)), z = x + bias; normal.cuh says how exact erf is.
//
// Bytes a number in bf16: forward 4 (x, y), backward 6 (x, dy, dx); [16,384, 3,072] is 101 MB: 60 and 90 us at 3.35 TB/s.
// Bound by bytes.
//
// Schedule: a thread owns columns (eight, where rows are aligned) of a chunk of rows, so that the bias is read once and its
// gradient summed in registers.

#include "normal.cuh"
#include "packs.cuh"
#include "partials.cuh"

namespace {

constexpr int THREADS = 128;
/// 1 / sqrt(2 pi).
constexpr float DENSITY_AT_0 = 0.398942280401433f;

/// The columns and rows of a thread.
template <int V> struct Part {
    int column;
    int64_t first, end;

    __device__ Part(int64_t rows) {
        column = (blockIdx.x * THREADS + threadIdx.x) * V;
        first = int64_t(blockIdx.y) * CHUNK_ROWS;
        end = min(first + CHUNK_ROWS, rows);
    }
};

template <int V> __device__ __forceinline__ void load_bias(float (&own)[V], const float *bias, int column) {
#pragma unroll
    for (int i = 0; i < V; i++) own[i] = bias == nullptr ? 0.0f : bias[column + i];
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) bias_gelu(const T *x, const float *bias, T *y, int64_t rows, int width) {
    Part<V> part(rows);
    if (part.column >= width) return;
    float own_bias[V];
    load_bias(own_bias, bias, part.column);
    for (int64_t row = part.first; row < part.end; row++) {
        float values[V];
        load_values(values, x + row * width + part.column);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float z = values[i] + own_bias[i];
            values[i] = z * normal_of<T>(z).distribution;
        }
        store_values(y + row * width + part.column, values);
    }
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 8) bias_gelu_backward(
    const T *x, const float *bias, const T *dy, T *dx, float *partials, int64_t rows, int width
) {
    Part<V> part(rows);
    if (part.column >= width) return;
    float own_bias[V], sums[V] = {};
    load_bias(own_bias, bias, part.column);
    for (int64_t row = part.first; row < part.end; row++) {
        float values[V], gradients[V];
        load_values(values, x + row * width + part.column);
        load_values(gradients, dy + row * width + part.column);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float z = values[i] + own_bias[i];
            Normal normal = normal_of<T>(z);
            gradients[i] *= normal.distribution + z * DENSITY_AT_0 * normal.bell;
            sums[i] += gradients[i];
        }
        store_values(dx + row * width + part.column, gradients);
    }
#pragma unroll
    for (int i = 0; i < V; i++) partials[int64_t(blockIdx.y) * width + part.column + i] = sums[i];
}

dim3 grid_of(int64_t rows, int width, bool packs) {
    return dim3(ceil_div(packs ? width / PACK : width, THREADS), (rows + CHUNK_ROWS - 1) / CHUNK_ROWS);
}

template <typename T> int forward(const T *x, const float *bias, T *y, int64_t rows, int width, cudaStream_t stream) {
    bool packs = takes_packs(width, x, y);
    auto kernel = packs ? bias_gelu<T, PACK> : bias_gelu<T, 1>;
    return launch(kernel, grid_of(rows, width, packs), THREADS, 0, stream, x, bias, y, rows, width);
}

template <typename T>
int backward(
    const T *x, const float *bias, const T *dy, T *dx, float *dbias, float *partials, int64_t rows, int width,
    cudaStream_t stream
) {
    bool packs = takes_packs(width, x, dy, dx);
    auto kernel = packs ? bias_gelu_backward<T, PACK> : bias_gelu_backward<T, 1>;
    dim3 grid = grid_of(rows, width, packs);
    int error = launch(kernel, grid, THREADS, 0, stream, x, bias, dy, dx, partials, rows, width);
    if (error == 0 && dbias != nullptr) error = add_partials({dbias, partials}, {}, grid.y, width, stream);
    return error;
}

} // namespace

/// x and y [rows, width] of one type, bias [width] f32 or null. Up to 4,194,240 rows.
#define BIAS_GELU(NAME, T)                                                                                             \
    extern "C" int epitome_bias_gelu_##NAME(                                                                           \
        const void *x, const float *bias, void *y, int64_t rows, int width, cudaStream_t stream                        \
    ) {                                                                                                                \
        return forward<T>(static_cast<const T *>(x), bias, static_cast<T *>(y), rows, width, stream);                  \
    }                                                                                                                  \
    extern "C" int epitome_bias_gelu_backward_##NAME(                                                                  \
        const void *x, const float *bias, const void *dy, void *dx, float *dbias, float *partials, int64_t rows,       \
        int width, cudaStream_t stream                                                                                 \
    ) {                                                                                                                \
        return backward<T>(                                                                                            \
            static_cast<const T *>(x), bias, static_cast<const T *>(dy), static_cast<T *>(dx), dbias, partials, rows,  \
            width, stream                                                                                              \
        );                                                                                                             \
    }

/// The backward writes dx and adds to the running sum dbias [width], if there is one. `partials`: [chunks of 64 rows, width].
BIAS_GELU(f32, float)
BIAS_GELU(bf16, bf16)
