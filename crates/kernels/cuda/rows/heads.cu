// The projection of each head, P_h = s [W_h | b_h], of few rows: y_h = P_h^T x_h, x_h = P_h y_h, and the gradient of [W | b],
// s x_h y_h^T. x is [rows, H, size], y [rows, H, width + 1], W [H size, width] and b [H size].
//
// Bytes: W once for every GROUP rows, 2.4 MB for LED-base, and twice that for the gradient: 0.7 and 1.4 us at 3.35 TB/s. Rows are
// few, so that what counts is how long a block waits for memory: a thread's loads do not depend on each other.
//
// Schedule: y: a thread owns a column of a head and passes over the head's rows of W, side by side with its neighbours. x: a warp
// owns a row of W. Gradient: a thread owns a column of SLICE rows of W. All for GROUP rows of x and y at a time.

#include "../numbers.cuh"

namespace {

constexpr int THREADS = 128, GROUP = 8, SLICE = 8;

struct Sizes {
    int rows, heads, size, width;
};

struct Projection {
    const float *weight, *bias;
    float scale;
};

/// Dynamic shared memory: x of the group's rows, [GROUP][size].
template <typename T>
__global__ void __launch_bounds__(THREADS) fold(const T *x, Projection projection, Sizes sizes, float *y) {
    auto own = reinterpret_cast<float *>(dynamic_shared_memory());
    int head = blockIdx.y, first = blockIdx.z * GROUP, count = min(GROUP, sizes.rows - first);
    for (int i = threadIdx.x; i < GROUP * sizes.size; i += THREADS) {
        int row = i / sizes.size;
        int64_t at = (int64_t(first + row) * sizes.heads + head) * sizes.size + i % sizes.size;
        own[i] = row < count ? projection.scale * to_float(x[at]) : 0.0f;
    }
    __syncthreads();
    int column = blockIdx.x * THREADS + threadIdx.x;
    if (column > sizes.width) return;
    // The last column is the bias.
    bool is_bias = column == sizes.width;
    const float *weights = is_bias ? projection.bias + int64_t(head) * sizes.size
                                   : projection.weight + int64_t(head) * sizes.size * sizes.width + column;
    int64_t stride = is_bias ? 1 : sizes.width;
    float sums[GROUP] = {};
#pragma unroll 8
    for (int i = 0; i < sizes.size; i++) {
        float weight = weights[i * stride];
#pragma unroll
        for (int row = 0; row < GROUP; row++) sums[row] += own[row * sizes.size + i] * weight;
    }
#pragma unroll
    for (int row = 0; row < GROUP; row++) {
        int64_t at = (int64_t(first + row) * sizes.heads + head) * (sizes.width + 1) + column;
        if (row < count) y[at] = sums[row];
    }
}

template <typename T>
__global__ void __launch_bounds__(THREADS) project(const float *y, Projection projection, Sizes sizes, T *x) {
    int output = blockIdx.x * (THREADS / WARP) + warp_index();
    if (output >= sizes.heads * sizes.size) return;
    int head = output / sizes.size, first = blockIdx.y * GROUP, count = min(GROUP, sizes.rows - first);
    auto row_of = [&](int row) { return y + (int64_t(first + row) * sizes.heads + head) * (sizes.width + 1); };
    const float *weights = projection.weight + int64_t(output) * sizes.width;
    float sums[GROUP] = {};
#pragma unroll 8
    for (int column = lane_index(); column < sizes.width; column += WARP) {
        float weight = weights[column];
#pragma unroll
        for (int row = 0; row < GROUP; row++) {
            if (row < count) sums[row] += weight * row_of(row)[column];
        }
    }
#pragma unroll
    for (int row = 0; row < GROUP; row++) {
        float sum = lanes_sum(sums[row]);
        if (row >= count || lane_index() != 0) continue;
        float value = projection.scale * (sum + projection.bias[output] * row_of(row)[sizes.width]);
        x[int64_t(first + row) * sizes.heads * sizes.size + output] = from_float<T>(value);
    }
}

/// Adds to the gradients, of which either may be missing.
template <typename T>
__global__ void __launch_bounds__(THREADS)
    add_gradient(const T *x, const float *y, float scale, Sizes sizes, float *weight, float *bias) {
    int column = blockIdx.x * THREADS + threadIdx.x;
    int head = blockIdx.z, from = blockIdx.y * SLICE, count = min(SLICE, sizes.size - from);
    bool is_bias = column == sizes.width;
    if (column > sizes.width || (is_bias ? bias : weight) == nullptr) return;
    float sums[SLICE] = {};
#pragma unroll 4
    for (int row = 0; row < sizes.rows; row++) {
        int64_t lane = int64_t(row) * sizes.heads + head;
        float value = scale * y[lane * (sizes.width + 1) + column];
#pragma unroll
        for (int i = 0; i < SLICE; i++) {
            if (i < count) sums[i] += value * to_float(x[lane * sizes.size + from + i]);
        }
    }
#pragma unroll
    for (int i = 0; i < SLICE; i++) {
        int64_t output = int64_t(head) * sizes.size + from + i;
        if (i < count) (is_bias ? bias[output] : weight[output * sizes.width + column]) += sums[i];
    }
}

int groups(const Sizes &sizes) { return ceil_div(sizes.rows, GROUP); }

/// Whether grids and shared memory are large enough, on any processor.
bool fits(const Sizes &sizes) { return groups(sizes) <= 65535 && sizes.heads <= 65535 && sizes.size <= 3000; }

} // namespace

/// x in the type of the name, y in f32. Up to 524,280 rows; heads of up to 3,000 numbers.
#define HEADS(NAME, T)                                                                                                 \
    extern "C" int epitome_fold_heads_##NAME(                                                                          \
        int rows, int heads, int size, int width, const void *x, const float *weight, const float *bias, float scale,  \
        float *y, cudaStream_t stream                                                                                  \
    ) {                                                                                                                \
        Sizes sizes{rows, heads, size, width};                                                                         \
        if (!fits(sizes)) return INVALID;                                                                              \
        dim3 grid(ceil_div(width + 1, THREADS), heads, groups(sizes));                                                 \
        return launch(                                                                                                 \
            fold<T>, grid, THREADS, GROUP * size * sizeof(float), stream, static_cast<const T *>(x),                   \
            Projection{weight, bias, scale}, sizes, y                                                                  \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" int epitome_project_heads_##NAME(                                                                       \
        int rows, int heads, int size, int width, const float *y, const float *weight, const float *bias, float scale, \
        void *x, cudaStream_t stream                                                                                   \
    ) {                                                                                                                \
        Sizes sizes{rows, heads, size, width};                                                                         \
        if (!fits(sizes)) return INVALID;                                                                              \
        dim3 grid(ceil_div(heads * size, THREADS / WARP), groups(sizes));                                              \
        return launch(                                                                                                 \
            project<T>, grid, THREADS, 0, stream, y, Projection{weight, bias, scale}, sizes, static_cast<T *>(x)       \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" int epitome_add_head_gradients_##NAME(                                                                  \
        int rows, int heads, int size, int width, const void *x, const float *y, float scale, float *weight,           \
        float *bias, cudaStream_t stream                                                                               \
    ) {                                                                                                                \
        Sizes sizes{rows, heads, size, width};                                                                         \
        if (!fits(sizes)) return INVALID;                                                                              \
        dim3 grid(ceil_div(width + 1, THREADS), ceil_div(size, SLICE), heads);                                         \
        return launch(                                                                                                 \
            add_gradient<T>, grid, THREADS, 0, stream, static_cast<const T *>(x), y, scale, sizes, weight, bias        \
        );                                                                                                             \
    }

HEADS(f32, float)
HEADS(bf16, bf16)
