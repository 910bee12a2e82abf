// GELU of x + bias in its exact form: z / 2 (1 + erf(z / sqrt 2)), z = x + bias; normal.cuh says how exact erf is.
//
// Bytes a number in bf16: forward 4 (x, y), backward 6 (x, dy, dx), or 8 where it makes y again, too; [16,384, 3,072] is 101 MB: 60,
// 90 and 120 us at 3.35 TB/s. Bound by bytes.
//
// Schedule: a thread owns columns (eight, where rows are aligned) of a chunk of rows, so that the bias is read once and its
// gradient summed in registers.

#include "normal.cuh"
#include "packs.cuh"
#include "partials.cuh"

namespace {

constexpr int THREADS = 128;
/// Packs of numbers that a thread asks for at once.
constexpr int AT_ONCE = 4;
/// 1 / sqrt(2 pi).
constexpr float DENSITY_AT_0 = 0.398942280401433f;

/// The columns and rows of a thread.
template <int V> struct Part {
    int column, width;
    int64_t first, end;

    __device__ Part(int64_t rows, int width, int chunk) : width(width) {
        column = (blockIdx.x * THREADS + threadIdx.x) * V;
        first = int64_t(blockIdx.y) * chunk;
        end = min(first + chunk, rows);
    }

    /// Where the thread's numbers of a row begin.
    __device__ __forceinline__ int64_t place(int64_t row) const { return row * width + column; }
};

template <int V> __device__ __forceinline__ void load_bias(float (&own)[V], const float *bias, int column) {
#pragma unroll
    for (int i = 0; i < V; i++) own[i] = bias == nullptr ? 0.0f : bias[column + i];
}

/// Of N rows from `row` on.
template <int N, typename T, int V>
__device__ __forceinline__ void
gelu_of_rows(const T *x, const float (&bias)[V], T *y, const Part<V> &part, int64_t row) {
    float values[N][V];
#pragma unroll
    for (int j = 0; j < N; j++) load_values(values[j], x + part.place(row + j));
#pragma unroll
    for (int j = 0; j < N; j++) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            float z = values[j][i] + bias[i];
            values[j][i] = z * normal_of<T>(z).distribution;
        }
    }
#pragma unroll
    for (int j = 0; j < N; j++) store_values(y + part.place(row + j), values[j]);
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 8)
    bias_gelu(const T *x, const float *bias, T *y, int64_t rows, int width, int chunk) {
    Part<V> part(rows, width, chunk);
    if (part.column >= width) return;
    float own_bias[V];
    load_bias(own_bias, bias, part.column);
    int64_t row = part.first;
    for (; row + AT_ONCE <= part.end; row += AT_ONCE) gelu_of_rows<AT_ONCE>(x, own_bias, y, part, row);
    for (; row < part.end; row++) gelu_of_rows<1>(x, own_bias, y, part, row);
}

/// The gradient of N rows from `row` on, and what they become, where y is not null; adds the gradient to `sums`.
template <int N, typename T, int V>
__device__ __forceinline__ void gradient_of_rows(
    const T *x, const float (&bias)[V], const T *dy, T *dx, T *y, float (&sums)[V], const Part<V> &part, int64_t row
) {
    float values[N][V], gradients[N][V];
#pragma unroll
    for (int j = 0; j < N; j++) {
        load_values(values[j], x + part.place(row + j));
        load_values(gradients[j], dy + part.place(row + j));
    }
#pragma unroll
    for (int j = 0; j < N; j++) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            float z = values[j][i] + bias[i];
            Normal normal = normal_of<T>(z);
            gradients[j][i] *= normal.distribution + z * DENSITY_AT_0 * normal.bell;
            sums[i] += gradients[j][i];
            values[j][i] = z * normal.distribution;
        }
    }
#pragma unroll
    for (int j = 0; j < N; j++) store_values(dx + part.place(row + j), gradients[j]);
    if (y == nullptr) return;
#pragma unroll
    for (int j = 0; j < N; j++) store_values(y + part.place(row + j), values[j]);
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 6) bias_gelu_backward(
    const T *x, const float *bias, const T *dy, T *dx, T *y, float *partials, int64_t rows, int width, int chunk
) {
    constexpr int N = AT_ONCE / 2;
    Part<V> part(rows, width, chunk);
    if (part.column >= width) return;
    float own_bias[V], sums[V] = {};
    load_bias(own_bias, bias, part.column);
    int64_t row = part.first;
    for (; row + N <= part.end; row += N) gradient_of_rows<N>(x, own_bias, dy, dx, y, sums, part, row);
    for (; row < part.end; row++) gradient_of_rows<1>(x, own_bias, dy, dx, y, sums, part, row);
#pragma unroll
    for (int i = 0; i < V; i++) partials[int64_t(blockIdx.y) * width + part.column + i] = sums[i];
}

dim3 grid_of(int64_t rows, int width, int chunk, bool packs) {
    return dim3(ceil_div(packs ? width / PACK : width, THREADS), chunks_of(rows, chunk));
}

template <typename T>
int forward(const T *x, const float *bias, T *y, int64_t rows, int width, int chunk, cudaStream_t stream) {
    bool packs = takes_packs(width, x, y);
    auto kernel = packs ? bias_gelu<T, PACK> : bias_gelu<T, 1>;
    return launch(kernel, grid_of(rows, width, chunk, packs), THREADS, 0, stream, x, bias, y, rows, width, chunk);
}

template <typename T>
int backward(
    const T *x, const float *bias, const T *dy, T *dx, T *y, float *dbias, float *partials, int64_t rows, int width, int chunk,
    cudaStream_t stream
) {
    bool packs = takes_packs(width, x, dy, dx, y);
    auto kernel = packs ? bias_gelu_backward<T, PACK> : bias_gelu_backward<T, 1>;
    dim3 grid = grid_of(rows, width, chunk, packs);
    int error = launch(kernel, grid, THREADS, 0, stream, x, bias, dy, dx, y, partials, rows, width, chunk);
    if (error == 0 && dbias != nullptr) error = add_partials({{dbias}, partials}, 1, grid.y, width, stream);
    return error;
}

} // namespace

/// x and y [rows, width] of one type, bias [width] f32 or null. Blocks take `chunk` rows each, of which there are 65,535 at most.
#define BIAS_GELU(NAME, T)                                                                                             \
    extern "C" int epitome_bias_gelu_##NAME(                                                                           \
        const void *x, const float *bias, void *y, int64_t rows, int width, int chunk, cudaStream_t stream             \
    ) {                                                                                                                \
        return forward<T>(static_cast<const T *>(x), bias, static_cast<T *>(y), rows, width, chunk, stream);           \
    }                                                                                                                  \
    extern "C" int epitome_bias_gelu_backward_##NAME(                                                                  \
        const void *x, const float *bias, const void *dy, void *dx, void *y, float *dbias, float *partials,            \
        int64_t rows, int width, int chunk, cudaStream_t stream                                                        \
    ) {                                                                                                                \
        return backward<T>(                                                                                            \
            static_cast<const T *>(x), bias, static_cast<const T *>(dy), static_cast<T *>(dx), static_cast<T *>(y),    \
            dbias, partials, rows, width, chunk, stream                                                                \
        );                                                                                                             \
    }

/// The backward writes dx and, if y is not null, what the forward writes, and adds to the running sum dbias [width], if there is one.
/// `partials`: [chunks, width].
BIAS_GELU(f32, float)
BIAS_GELU(bf16, bf16)
