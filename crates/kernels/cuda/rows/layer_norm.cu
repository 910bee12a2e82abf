// Layer normalisation of dropout(x) + residual, formulas as in src/cpu/layer_norm.rs: the sum is never stored, the backward makes
// it again.
//
// Bytes a number in bf16: forward 6 (x, residual, y), backward 8 (x, residual, dy, dx), 10 with dropout. A pass over
// [16,384, 768] is 25 MB: forward 23 us, backward 30 us at 3.35 TB/s. Bound by bytes.
//
// Schedule: a warp owns a row, which lies in shared memory in f32 between the passes over it. In the backward a warp takes
// the rows of a chunk in turn and keeps its sums for weight and bias in shared memory, too: a lane owns the same columns in
// every row.

#include "packs.cuh"
#include "partials.cuh"

namespace {

/// Of a block of the forward, and of the backward.
constexpr int WARPS = 4;
constexpr int BACKWARD_WARPS = 8;
constexpr int THREADS = WARPS * WARP;
constexpr int BACKWARD_THREADS = BACKWARD_WARPS * WARP;

/// Rows of a block of the backward: few, so that there are enough blocks. `NORM_CHUNK_ROWS` in src/cuda/rows.rs is the same.
constexpr int NORM_CHUNK_ROWS = 32;

template <typename T> struct Inputs {
    const T *x;
    /// May be null.
    const T *residual;
    const float *weight;
    /// Dropout of x, whose first number has index 0.
    Draws draws;
    int64_t rows;
    int width;
    float eps;
};

/// Calls `visit(column)` for this lane's share of a row in steps of V.
template <int V, typename Visit> __device__ __forceinline__ void each_column(int width, Visit visit) {
    for (int column = V * lane_index(); column < width; column += V * WARP) visit(column);
}

/// Where number `column + i` of a row lies in shared memory: apart from its neighbours, next to those of the other lanes, which
/// are read at the same time.
template <int V> __device__ __forceinline__ int place(int width, int column, int i) {
    return i * (width / V) + column / V;
}

/// Leaves (x - mean) / standard deviation of a row in shared memory and returns 1 / standard deviation. Mean and variance
/// take two passes, since E[x^2] - mean^2 cancels.
template <int V, typename T>
__device__ __forceinline__ float normalize(float *row, const Inputs<T> &inputs, int64_t index) {
    int width = inputs.width;
    float sum = 0.0f;
    each_column<V>(width, [&](int column) {
        int64_t at = index * width + column;
        float values[V];
        load_values(values, inputs.x + at);
        drop_values(values, inputs.draws, at);
        if (inputs.residual != nullptr) {
            float others[V];
            load_values(others, inputs.residual + at);
#pragma unroll
            for (int i = 0; i < V; i++) values[i] += others[i];
        }
#pragma unroll
        for (int i = 0; i < V; i++) {
            row[place<V>(width, column, i)] = values[i];
            sum += values[i];
        }
    });
    float mean = lanes_sum(sum) / width, squares = 0.0f;
    each_column<V>(width, [&](int column) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            float difference = row[place<V>(width, column, i)] - mean;
            squares += difference * difference;
        }
    });
    float rstd = 1.0f / sqrtf(lanes_sum(squares) / width + inputs.eps);
    each_column<V>(width, [&](int column) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            float &value = row[place<V>(width, column, i)];
            value = (value - mean) * rstd;
        }
    });
    return rstd;
}

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) layer_norm(Inputs<T> inputs, const float *bias, T *y) {
    int width = inputs.width;
    float *row = reinterpret_cast<float *>(dynamic_shared_memory()) + warp_index() * width;
    int64_t index = int64_t(blockIdx.x) * WARPS + warp_index();
    if (index >= inputs.rows) return;
    normalize<V>(row, inputs, index);
    each_column<V>(width, [&](int column) {
        float values[V], weights[V];
        load_values(weights, inputs.weight + column);
        load_values(values, bias + column);
#pragma unroll
        for (int i = 0; i < V; i++) values[i] += row[place<V>(width, column, i)] * weights[i];
        store_values(y + index * width + column, values);
    });
}

template <typename T, int V>
__global__ void __launch_bounds__(BACKWARD_THREADS)
    layer_norm_backward(Inputs<T> inputs, const T *dy, T *dsum, T *dx, float *partial_weight, float *partial_bias) {
    int width = inputs.width;
    float *memory = reinterpret_cast<float *>(dynamic_shared_memory());
    float *row = memory + warp_index() * 3 * width, *weight_sums = row + width, *bias_sums = weight_sums + width;
    each_column<V>(width, [&](int column) {
#pragma unroll
        for (int i = 0; i < V; i++) weight_sums[place<V>(width, column, i)] = bias_sums[place<V>(width, column, i)] = 0.0f;
    });
    int64_t first = int64_t(blockIdx.x) * NORM_CHUNK_ROWS;
    for (int64_t index = first + warp_index(); index < min(first + NORM_CHUNK_ROWS, inputs.rows); index += BACKWARD_WARPS) {
        float rstd = normalize<V>(row, inputs, index);
        float sum = 0.0f, products = 0.0f;
        each_column<V>(width, [&](int column) {
            float values[V], weights[V];
            load_values(values, dy + index * width + column);
            load_values(weights, inputs.weight + column);
#pragma unroll
            for (int i = 0; i < V; i++) {
                int at = place<V>(width, column, i);
                float xhat = row[at], g = values[i] * weights[i];
                sum += g;
                products += g * xhat;
                weight_sums[at] += values[i] * xhat;
                bias_sums[at] += values[i];
            }
        });
        float mean_gradient = lanes_sum(sum) / width, mean_product = lanes_sum(products) / width;
        each_column<V>(width, [&](int column) {
            int64_t at = index * width + column;
            float values[V], weights[V];
            load_values(values, dy + at);
            load_values(weights, inputs.weight + column);
#pragma unroll
            for (int i = 0; i < V; i++) {
                float g = values[i] * weights[i];
                values[i] = rstd * (g - mean_gradient - row[place<V>(width, column, i)] * mean_product);
            }
            store_values(dsum + at, values);
            if (dx != nullptr) {
                drop_values(values, inputs.draws, at);
                store_values(dx + at, values);
            }
        });
    }
    __syncthreads();
    for (int column = threadIdx.x; column < width; column += BACKWARD_THREADS) {
        int at = place<V>(width, column / V * V, column % V);
        float weight_sum = 0.0f, bias_sum = 0.0f;
        for (int warp = 0; warp < BACKWARD_WARPS; warp++) {
            weight_sum += memory[(3 * warp + 1) * width + at];
            bias_sum += memory[(3 * warp + 2) * width + at];
        }
        partial_weight[int64_t(blockIdx.x) * width + column] = weight_sum;
        partial_bias[int64_t(blockIdx.x) * width + column] = bias_sum;
    }
}

template <typename T>
int forward(const Inputs<T> &inputs, const float *bias, T *y, cudaStream_t stream) {
    bool packs = takes_packs(inputs.width, inputs.x, inputs.residual, inputs.weight, bias, y);
    auto kernel = packs ? layer_norm<T, PACK> : layer_norm<T, 1>;
    dim3 grid((inputs.rows + WARPS - 1) / WARPS);
    return launch(kernel, grid, THREADS, WARPS * inputs.width * sizeof(float), stream, inputs, bias, y);
}

template <typename T>
int backward(
    const Inputs<T> &inputs, const T *dy, T *dsum, T *dx, float *dweight, float *dbias, float *partials, cudaStream_t stream
) {
    int width = inputs.width, chunks = (inputs.rows + NORM_CHUNK_ROWS - 1) / NORM_CHUNK_ROWS;
    bool packs = takes_packs(width, inputs.x, inputs.residual, inputs.weight, dy, dsum, dx);
    auto kernel = packs ? layer_norm_backward<T, PACK> : layer_norm_backward<T, 1>;
    float *partial_bias = partials + int64_t(chunks) * width;
    size_t bytes = 3 * BACKWARD_WARPS * width * sizeof(float);
    int error = launch(kernel, dim3(chunks), BACKWARD_THREADS, bytes, stream, inputs, dy, dsum, dx, partials, partial_bias);
    if (error == 0 && dweight != nullptr) error = add_partials(dweight, partials, chunks, width, stream);
    if (error == 0 && dbias != nullptr) error = add_partials(dbias, partial_bias, chunks, width, stream);
    return error;
}

} // namespace

/// x, residual (or null) and y [rows, width] of one type; weight and bias [width] f32. `draws` is dropout of x, element i of it
/// having index i.
#define LAYER_NORM(NAME, T)                                                                                            \
    extern "C" int epitome_layer_norm_##NAME(                                                                          \
        const void *x, const void *residual, const float *weight, const float *bias, Draws draws, int64_t rows,        \
        int width, float eps, void *y, cudaStream_t stream                                                             \
    ) {                                                                                                                \
        Inputs<T> inputs{static_cast<const T *>(x), static_cast<const T *>(residual), weight, draws, rows, width, eps}; \
        return forward<T>(inputs, bias, static_cast<T *>(y), stream);                                                  \
    }                                                                                                                  \
    extern "C" int epitome_layer_norm_backward_##NAME(                                                                 \
        const void *x, const void *residual, const float *weight, Draws draws, int64_t rows, int width, float eps,     \
        const void *dy, void *dsum, void *dx, float *dweight, float *dbias, float *partials, cudaStream_t stream       \
    ) {                                                                                                                \
        Inputs<T> inputs{static_cast<const T *>(x), static_cast<const T *>(residual), weight, draws, rows, width, eps}; \
        return backward<T>(                                                                                            \
            inputs, static_cast<const T *>(dy), static_cast<T *>(dsum), static_cast<T *>(dx), dweight, dbias,          \
            partials, stream                                                                                           \
        );                                                                                                             \
    }

/// The backward writes dsum, the gradient of the residual, and with dropout dx, that of x (null without: it is dsum). It adds to
/// the running sums dweight and dbias [width], where they are not null. `partials`: [2, chunks of 32 rows, width].
LAYER_NORM(f32, float)
LAYER_NORM(bf16, bf16)
