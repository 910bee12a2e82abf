// Layer normalisation of dropout(x) + residual, formulas as in src/cpu/layer_norm.rs: the sum is never stored, the backward makes
// it again.
//
// Bytes a number in bf16: forward 6 (x, residual, y), backward 8 (x, residual, dy, dx), 10 with dropout. A pass over
// [16,384, 768] is 25 MB: forward 23 us, backward 30 us at 3.35 TB/s. Bound by bytes.
//
// Schedule: a warp owns a row, a lane the same columns of every row. Between the passes over it a row of up to 1,024 numbers stays in
// registers, a longer one in shared memory, both in f32. In the backward a warp takes the rows of a chunk in turn and keeps its
// sums for weight and bias in the same way; those of dx, which are the gradient of the bias of the layer that x comes from and cost
// no bytes here, always in shared memory, since registers hold no more.

#include "packs.cuh"
#include "partials.cuh"

namespace {

/// Of a block of the forward.
constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;

/// Of a block of the backward, with N packs in registers; without, shared memory bounds them.
__host__ __device__ constexpr int backward_warps(int N) { return N == 0 ? 4 : 8; }

/// Blocks of the backward that a processor is to have room for, where that takes no numbers out of registers.
template <typename T> __host__ __device__ constexpr int backward_blocks(int N) { return sizeof(T) == 2 && N <= 3 ? 2 : 1; }

template <typename T> struct Inputs {
    const T *x;
    /// May be null.
    const T *residual;
    const float *weight;
    /// Dropout of x, whose first number has index `first`.
    Draws draws;
    uint64_t first;
    int64_t rows;
    int width;
    float eps;
};

/// Calls `visit(n, column)` for the packs of V numbers of a row that are this lane's; there are N of them at most, if N is not 0.
template <int V, int N, typename Visit> __device__ __forceinline__ void each_pack(int width, Visit visit) {
    if constexpr (N == 0) {
        for (int n = 0, column = V * lane_index(); column < width; n++, column += V * WARP) visit(n, column);
    } else {
#pragma unroll
        for (int n = 0; n < N; n++) {
            int column = V * (lane_index() + n * WARP);
            if (column < width) visit(n, column);
        }
    }
}

/// A number for each of this lane's columns, in registers.
template <int V, int N> struct Numbers {
    float values[N][V];

    __device__ Numbers(float *, int) {}
    __device__ __forceinline__ float &operator()(int n, int i) { return values[n][i]; }
};

/// The same in shared memory: numbers of a pack apart, beside those of the other lanes, which are read at the same time.
template <int V> struct Numbers<V, 0> {
    float *memory;
    int packs;

    __device__ Numbers(float *memory, int width) : memory(memory), packs(width / V) {}
    __device__ __forceinline__ float &operator()(int n, int i) { return memory[i * packs + n * WARP + lane_index()]; }
};

/// Leaves (x - mean) / standard deviation of a row in `row` and returns 1 / standard deviation. Mean and variance
/// take two passes, since E[x^2] - mean^2 cancels.
template <int V, int N, typename T>
__device__ __forceinline__ float normalize(Numbers<V, N> &row, const Inputs<T> &inputs, int64_t index) {
    int width = inputs.width;
    Packs<T, V, N> x(inputs.x + index * width, width);
    Packs<T, V, N> residual(inputs.residual == nullptr ? nullptr : inputs.residual + index * width, width);
    float sum = 0.0f;
    each_pack<V, N>(width, [&](int n, int column) {
        float values[V], others[V];
        x.values(values, n, column);
        residual.values(others, n, column);
        drop_values(values, inputs.draws, inputs.first + index * width + column);
#pragma unroll
        for (int i = 0; i < V; i++) {
            values[i] += others[i];
            row(n, i) = values[i];
            sum += values[i];
        }
    });
    float mean = lanes_sum(sum) / width, squares = 0.0f;
    each_pack<V, N>(width, [&](int n, int) {
#pragma unroll
        for (int i = 0; i < V; i++) {
            float difference = row(n, i) - mean;
            squares += difference * difference;
        }
    });
    float rstd = 1.0f / sqrtf(lanes_sum(squares) / width + inputs.eps);
    each_pack<V, N>(width, [&](int n, int) {
#pragma unroll
        for (int i = 0; i < V; i++) row(n, i) = (row(n, i) - mean) * rstd;
    });
    return rstd;
}

template <typename T, int V, int N>
__global__ void __launch_bounds__(THREADS) layer_norm(Inputs<T> inputs, const float *bias, T *y) {
    ptx::let_next_kernel_start();
    ptx::wait_for_kernels_before();
    int width = inputs.width;
    float *memory = reinterpret_cast<float *>(dynamic_shared_memory());
    Numbers<V, N> row(memory + warp_index() * width, width);
    int64_t index = int64_t(blockIdx.x) * WARPS + warp_index();
    if (index >= inputs.rows) return;
    normalize(row, inputs, index);
    each_pack<V, N>(width, [&](int n, int column) {
        float values[V], weights[V];
        load_values(weights, inputs.weight + column);
        load_values(values, bias + column);
#pragma unroll
        for (int i = 0; i < V; i++) values[i] += row(n, i) * weights[i];
        store_values(y + index * width + column, values);
    });
}

/// What a warp of the backward adds to.
template <int V, int N> struct WarpSums {
    Numbers<V, N> weight, bias;
    /// Of dx, where `has_x`.
    Numbers<V, 0> x;
    bool has_x;

    /// In `memory` [2 or 3, width].
    __device__ __forceinline__ WarpSums(float *memory, int width, bool has_x)
        : weight(memory, width), bias(memory + width, width), x(memory + 2 * width, width), has_x(has_x) {
        each_pack<V, N>(width, [&](int n, int) {
#pragma unroll
            for (int i = 0; i < V; i++) {
                weight(n, i) = bias(n, i) = 0.0f;
                if (has_x) x(n, i) = 0.0f;
            }
        });
    }

    /// Copies what is in registers to `memory`.
    __device__ __forceinline__ void store(float *memory, int width) {
        if constexpr (N > 0) {
            Numbers<V, 0> shared_weight(memory, width), shared_bias(memory + width, width);
            each_pack<V, N>(width, [&](int n, int) {
#pragma unroll
                for (int i = 0; i < V; i++) {
                    shared_weight(n, i) = weight(n, i);
                    shared_bias(n, i) = bias(n, i);
                }
            });
        }
    }
};

/// The gradients of a row, `dsum` and perhaps `dx`, from its normalised numbers; adds to this warp's sums.
template <typename T, int V, int N>
__device__ __forceinline__ void backward_row(
    Numbers<V, N> &row, WarpSums<V, N> &sums, const Inputs<T> &inputs, int64_t index, float rstd, const Packs<T, V, N> &dy, T *dsum,
    T *dx
) {
    int width = inputs.width;
    float sum = 0.0f, products = 0.0f;
    each_pack<V, N>(width, [&](int n, int column) {
        float values[V], weights[V];
        dy.values(values, n, column);
        load_values(weights, inputs.weight + column);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float xhat = row(n, i), g = values[i] * weights[i];
            sum += g;
            products += g * xhat;
            sums.weight(n, i) += values[i] * xhat;
            sums.bias(n, i) += values[i];
        }
    });
    float mean_gradient = lanes_sum(sum) / width, mean_product = lanes_sum(products) / width;
    each_pack<V, N>(width, [&](int n, int column) {
        int64_t at = index * width + column;
        float values[V], weights[V];
        dy.values(values, n, column);
        load_values(weights, inputs.weight + column);
#pragma unroll
        for (int i = 0; i < V; i++) {
            float g = values[i] * weights[i];
            values[i] = rstd * (g - mean_gradient - row(n, i) * mean_product);
        }
        store_values(dsum + at, values);
        if (dx != nullptr) {
            drop_values(values, inputs.draws, inputs.first + at);
            store_values(dx + at, values);
        }
        if (sums.has_x) {
            // All are read before the first is written, or each would wait for the one before.
#pragma unroll
            for (int i = 0; i < V; i++) values[i] += sums.x(n, i);
#pragma unroll
            for (int i = 0; i < V; i++) sums.x(n, i) = values[i];
        }
    });
}

template <typename T, int V, int N>
__global__ void __launch_bounds__(backward_warps(N) * WARP, backward_blocks<T>(N))
    layer_norm_backward(Inputs<T> inputs, const T *dy, T *dsum, T *dx, float *partials, int count, int chunk) {
    constexpr int BLOCK_WARPS = backward_warps(N);
    int width = inputs.width;
    // The sums of each warp, then the rows of the warps.
    float *memory = reinterpret_cast<float *>(dynamic_shared_memory()), *own = memory + warp_index() * count * width;
    Numbers<V, N> row(memory + (count * BLOCK_WARPS + warp_index()) * width, width);
    WarpSums<V, N> sums(own, width, count == MOST_SUMS);
    int64_t first = int64_t(blockIdx.x) * chunk, end = min(first + chunk, inputs.rows);
    for (int64_t index = first + warp_index(); index < end; index += BLOCK_WARPS) {
        Packs<T, V, N> gradient(dy + index * width, width);
        float rstd = normalize(row, inputs, index);
        backward_row(row, sums, inputs, index, rstd, gradient, dsum, dx);
    }
    sums.store(own, width);
    __syncthreads();
    for (int column = threadIdx.x; column < width; column += BLOCK_WARPS * WARP) {
        int at = column % V * (width / V) + column / V;
        for (int which = 0; which < count; which++) {
            float sum = 0.0f;
#pragma unroll
            for (int warp = 0; warp < BLOCK_WARPS; warp++) sum += memory[(warp * count + which) * width + at];
            partials[(int64_t(which) * gridDim.x + blockIdx.x) * width + column] = sum;
        }
    }
}

/// Packs of a lane that stay in registers, 0 where a row is too long.
int packs_in_registers(bool packs, int width) {
    int each = ceil_div(width, PACK * WARP);
    return packs && each <= 4 ? each : 0;
}

template <typename T> auto forward_kernel(bool packs, int width) {
    switch (packs_in_registers(packs, width)) {
    case 1: return layer_norm<T, PACK, 1>;
    case 2: return layer_norm<T, PACK, 2>;
    case 3: return layer_norm<T, PACK, 3>;
    case 4: return layer_norm<T, PACK, 4>;
    default: return packs ? layer_norm<T, PACK, 0> : layer_norm<T, 1, 0>;
    }
}

template <typename T> auto backward_kernel(bool packs, int width) {
    switch (packs_in_registers(packs, width)) {
    case 1: return layer_norm_backward<T, PACK, 1>;
    case 2: return layer_norm_backward<T, PACK, 2>;
    case 3: return layer_norm_backward<T, PACK, 3>;
    case 4: return layer_norm_backward<T, PACK, 4>;
    default: return packs ? layer_norm_backward<T, PACK, 0> : layer_norm_backward<T, 1, 0>;
    }
}

template <typename T>
int forward(const Inputs<T> &inputs, const float *bias, T *y, cudaStream_t stream) {
    int width = inputs.width;
    bool packs = takes_packs(width, inputs.x, inputs.residual, inputs.weight, bias, y);
    dim3 grid((inputs.rows + WARPS - 1) / WARPS);
    size_t bytes = packs_in_registers(packs, width) > 0 ? 0 : WARPS * width * sizeof(float);
    return launch_early(forward_kernel<T>(packs, width), grid, THREADS, bytes, stream, inputs, bias, y);
}

template <typename T>
int backward(
    const Inputs<T> &inputs, const T *dy, T *dsum, T *dx, const PartialSums &sums, int chunk, cudaStream_t stream
) {
    int width = inputs.width, chunks = chunks_of(inputs.rows, chunk), count = sums.sums[2] == nullptr ? 2 : MOST_SUMS;
    bool packs = takes_packs(width, inputs.x, inputs.residual, inputs.weight, dy, dsum, dx);
    auto kernel = backward_kernel<T>(packs, width);
    auto partials = const_cast<float *>(sums.partials);
    int in_registers = packs_in_registers(packs, width), warps = backward_warps(in_registers);
    size_t bytes = size_t(count + (in_registers == 0)) * warps * width * sizeof(float);
    int error = launch(kernel, dim3(chunks), warps * WARP, bytes, stream, inputs, dy, dsum, dx, partials, count, chunk);
    return error == 0 ? add_partials(sums, count, chunks, width, stream) : error;
}

} // namespace

/// x, residual (or null) and y [rows, width] of one type; weight and bias [width] f32. `draws` is dropout of x, element i of it
/// having index first + i.
#define LAYER_NORM(NAME, T)                                                                                            \
    extern "C" int epitome_layer_norm_##NAME(                                                                          \
        const void *x, const void *residual, const float *weight, const float *bias, Draws draws, uint64_t first, int64_t rows,        \
        int width, float eps, void *y, cudaStream_t stream                                                             \
    ) {                                                                                                                \
        Inputs<T> inputs{static_cast<const T *>(x), static_cast<const T *>(residual), weight, draws, first, rows, width, eps}; \
        return forward<T>(inputs, bias, static_cast<T *>(y), stream);                                                  \
    }                                                                                                                  \
    extern "C" int epitome_layer_norm_backward_##NAME(                                                                 \
        const void *x, const void *residual, const float *weight, Draws draws, uint64_t first, int64_t rows, int width, float eps,     \
        const void *dy, void *dsum, void *dx, float *dweight, float *dbias, float *x_sum, float *partials, int chunk,  \
        cudaStream_t stream                                                                                            \
    ) {                                                                                                                \
        Inputs<T> inputs{static_cast<const T *>(x), static_cast<const T *>(residual), weight, draws, first, rows, width, eps}; \
        return backward<T>(                                                                                            \
            inputs, static_cast<const T *>(dy), static_cast<T *>(dsum), static_cast<T *>(dx),                          \
            {{dweight, dbias, x_sum}, partials}, chunk, stream                                                         \
        );                                                                                                             \
    }

/// The backward writes dsum, the gradient of the residual, and with dropout dx, that of x (null without: it is dsum). It adds to
/// the running sums dweight, dbias and x_sum, that of dx's rows, [width], where they are not null. Blocks take `chunk` rows each.
/// `partials`: [3, or 2 without x_sum, chunks, width].
LAYER_NORM(f32, float)
LAYER_NORM(bf16, bf16)
