// Products of few rows with a weight, y = x W^T + b, as a decoding step has them, in bf16 with sums in f32: x [R, K], W [N, K]. Before
// it, if asked for, the layer norm of x + residual; after it, if asked for, GELU. What would be three launches is one.
//
// Bytes: W once, the rest is small: 1.2 MB for 768 x 768, 0.35 us at 3.35 TB/s, less than a launch takes. Bound by how soon a
// processor has all its bytes under way, and by the launch.
//
// Schedule: a block owns 8 outputs, its warps share the sum over K, so that each thread asks for all its bytes of W at once, before it
// looks at x, and where kernels are started early even before the one that makes x has ended: W and b are nobody's result. A thread
// has 8 numbers in a row of K for two products of the matrix unit, whose order in K is the thread's own: W and x agree in it. Every
// block normalises all rows, which are few, and the first writes them. Sums of warps are added in their order.

#include "../rows/normal.cuh"
#include "../rows/packs.cuh"

namespace {

/// Rows and outputs of a product of the matrix unit, and numbers of K in a warp's step: two products.
constexpr int ROWS = 16, OUTPUTS = 8, STEP = 32;

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
};

struct Layer {
    const bf16 *weight;
    /// May be null.
    const float *bias;
    bool gelu;
    int outputs;
};

/// The first of a thread's numbers of K.
template <int STEPS> __device__ __forceinline__ int first_column() {
    return warp_index() * STEPS * STEP + lane_index() % 4 * 8;
}

/// Of rows lane / 4 and 8 below, of which a lane has a part each: the mean, and the sum of squares of the differences from it. Each warp
/// takes those of its numbers, in two passes, and one barrier is enough to merge them (Chan et al. 1979).
template <int HALVES, int STEPS>
__device__ __forceinline__ void find_moments(
    const float (&values)[HALVES][STEPS][8], float (&mean)[HALVES], float (&squares)[HALVES]
) {
    constexpr int COUNT = STEPS * STEP, MOST = MOST_WARPS<true>;
    __shared__ float2 scratch[MOST][ROWS];
    int g = lane_index() / 4, warps = int(blockDim.x) / WARP;
#pragma unroll
    for (int half = 0; half < HALVES; half++) {
        float sum = 0.0f, own = 0.0f;
#pragma unroll
        for (int i = 0; i < STEPS * 8; i++) sum += values[half][i / 8][i % 8];
        float own_mean = lanes_sum<4>(sum) * (1.0f / COUNT);
#pragma unroll
        for (int i = 0; i < STEPS * 8; i++) {
            float difference = values[half][i / 8][i % 8] - own_mean;
            own += difference * difference;
        }
        own = lanes_sum<4>(own);
        if (lane_index() % 4 == 0) scratch[warp_index()][g + 8 * half] = {own_mean, own};
    }
    __syncthreads();
#pragma unroll
    for (int half = 0; half < HALVES; half++) {
        float2 parts[MOST];
        mean[half] = squares[half] = 0.0f;
#pragma unroll
        for (int warp = 0; warp < MOST; warp++) {
            parts[warp] = warp < warps ? scratch[warp][g + 8 * half] : float2{0.0f, 0.0f};
            mean[half] += parts[warp].x;
        }
        mean[half] /= warps;
#pragma unroll
        for (int warp = 0; warp < MOST; warp++) {
            float difference = parts[warp].x - mean[half];
            if (warp < warps) squares[half] += parts[warp].y + COUNT * difference * difference;
        }
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

/// Of a lane's numbers of both rows, all asked for at once; zeros where there is no row.
template <int HALVES, int STEPS>
__device__ __forceinline__ void load_rows(uint4 (&values)[HALVES][STEPS], const bf16 *from, const Rows &rows) {
#pragma unroll
    for (int half = 0; half < HALVES; half++) {
        int row = lane_index() / 4 + 8 * half;
        const bf16 *own = from + int64_t(row) * rows.width + first_column<STEPS>();
#pragma unroll
        for (int step = 0; step < STEPS; step++) {
            values[half][step] = row < rows.count ? ptx::load_16(own + step * STEP) : uint4{0, 0, 0, 0};
        }
    }
}

template <int HALVES, int STEPS>
__device__ __forceinline__ void normalise(
    uint4 (&x)[HALVES][STEPS], const Rows &rows, const Norm &norm, const float *parameters
) {
    float values[HALVES][STEPS][8], mean[HALVES], rstd[HALVES];
    uint4 residual[HALVES][STEPS];
    load_rows(x, rows.x, rows);
    load_rows(residual, norm.residual, rows);
#pragma unroll
    for (int half = 0; half < HALVES; half++) {
#pragma unroll
        for (int i = 0; i < STEPS * 8; i++) {
            auto number = [&](const uint4 &pack) { return to_float(reinterpret_cast<const bf16 *>(&pack)[i % 8]); };
            values[half][i / 8][i % 8] = number(x[half][i / 8]) + number(residual[half][i / 8]);
        }
    }
    // The barrier shows all threads the parameters, too.
    ptx::wait_copies<0>();
    find_moments(values, mean, rstd);
#pragma unroll
    for (int half = 0; half < HALVES; half++) rstd[half] = 1.0f / sqrtf(rstd[half] / rows.width + norm.eps);
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        float weight[8], bias[8];
        int column = first_column<STEPS>() + step * STEP;
        load_values(weight, parameters + column);
        load_values(bias, parameters + rows.width + column);
#pragma unroll
        for (int half = 0; half < HALVES; half++) {
            int row = lane_index() / 4 + 8 * half;
            float(&own)[8] = values[half][step];
#pragma unroll
            for (int i = 0; i < 8; i++) own[i] = (own[i] - mean[half]) * rstd[half] * weight[i] + bias[i];
            store_values(reinterpret_cast<bf16 *>(&x[half][step]), own);
            if (blockIdx.x == 0 && row < rows.count) {
                ptx::store_16(norm.y + int64_t(row) * rows.width + column, x[half][step]);
            }
        }
    }
}

/// One block a processor at least, and no more: or the compiler would ask for bytes late, to need fewer registers.
template <int STEPS, bool TALL, bool NORM>
__global__ void __launch_bounds__(MOST_WARPS<NORM> *WARP, 1) product(Rows rows, Norm norm, Layer layer, bf16 *y) {
    constexpr int HALVES = TALL ? 2 : 1;
    __shared__ float sums[MOST_WARPS<NORM>][ROWS][OUTPUTS];
    int g = lane_index() / 4, t = lane_index() % 4, column = first_column<STEPS>();
    const bf16 *weights = layer.weight + int64_t(blockIdx.x * OUTPUTS + g) * rows.width + column;
    // Of the output that this thread writes for some rows.
    int output = blockIdx.x * OUTPUTS + threadIdx.x % OUTPUTS;
    float bias = layer.bias == nullptr ? 0.0f : layer.bias[output];
    uint4 w[STEPS], x[HALVES][STEPS];
#pragma unroll
    for (int step = 0; step < STEPS; step++) w[step] = ptx::stream_16(weights + step * STEP);
    if constexpr (NORM) {
        const float *parameters = copy_parameters(norm, rows.width);
        ptx::let_next_kernel_start();
        ptx::wait_for_kernels_before();
        normalise(x, rows, norm, parameters);
    } else {
        ptx::let_next_kernel_start();
        ptx::wait_for_kernels_before();
        load_rows(x, rows.x, rows);
    }
    float c[4] = {};
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        uint4 low = x[0][step], high = TALL ? x[HALVES - 1][step] : uint4{0, 0, 0, 0};
        uint32_t first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
        ptx::multiply_add(c, first, w[step].x, w[step].y);
        ptx::multiply_add(c, second, w[step].z, w[step].w);
    }
#pragma unroll
    for (int i = 0; i < 4; i++) sums[warp_index()][g + i / 2 * 8][2 * t + i % 2] = c[i];
    __syncthreads();
    for (int i = threadIdx.x; i < ROWS * OUTPUTS; i += blockDim.x) {
        int row = i / OUTPUTS;
        if (row >= rows.count) break;
        float z = bias;
        for (int warp = 0; warp < int(blockDim.x) / WARP; warp++) z += sums[warp][row][i % OUTPUTS];
        if (layer.gelu) z *= normal_of<bf16>(z).distribution;
        y[int64_t(row) * layer.outputs + output] = from_float<bf16>(z);
    }
}

template <int STEPS, bool NORM>
int start(const Rows &rows, const Norm &norm, const Layer &layer, bf16 *y, int warps, cudaStream_t stream) {
    auto kernel = rows.count > ROWS / 2 ? product<STEPS, true, NORM> : product<STEPS, false, NORM>;
    size_t bytes = NORM ? 2 * rows.width * sizeof(float) : 0;
    return launch_early(kernel, dim3(layer.outputs / OUTPUTS), warps * WARP, bytes, stream, rows, norm, layer, y);
}

template <bool NORM>
int start_norm(const Rows &rows, const Norm &norm, const Layer &layer, bf16 *y, int steps, cudaStream_t stream) {
    int warps = rows.width / (STEP * steps);
    if (rows.count > ROWS || layer.outputs % OUTPUTS != 0 || warps * STEP * steps != rows.width) return INVALID;
    if (warps < 1 || warps > MOST_WARPS<NORM>) return INVALID;
    switch (steps) {
    case 1: return start<1, NORM>(rows, norm, layer, y, warps, stream);
    case 2: return start<2, NORM>(rows, norm, layer, y, warps, stream);
    case 4: return start<4, NORM>(rows, norm, layer, y, warps, stream);
    case 6: return start<6, NORM>(rows, norm, layer, y, warps, stream);
    case 8: return start<8, NORM>(rows, norm, layer, y, warps, stream);
    default: return INVALID;
    }
}

} // namespace

/// x [count, width], weight [outputs, width], y [count, outputs], all at multiples of 16 bytes; up to 16 rows. A warp takes `steps`
/// times 32 numbers of the width: 1, 2, 4, 6 or 8. With a residual [count, width], x becomes the layer norm of both's sum, which is
/// written to `normalised`.
extern "C" int epitome_few_rows_bf16(
    const void *x, int count, int width, int steps, const void *residual, const float *norm_weight,
    const float *norm_bias, float eps, void *normalised, const void *weight, const float *bias, int gelu, int outputs,
    void *y, cudaStream_t stream
) {
    if (count == 0 || outputs == 0) return 0;
    Rows rows{static_cast<const bf16 *>(x), count, width};
    Norm norm{static_cast<const bf16 *>(residual), norm_weight, norm_bias, eps, static_cast<bf16 *>(normalised)};
    Layer layer{static_cast<const bf16 *>(weight), bias, gelu != 0, outputs};
    auto to = static_cast<bf16 *>(y);
    return residual == nullptr ? start_norm<false>(rows, norm, layer, to, steps, stream)
                               : start_norm<true>(rows, norm, layer, to, steps, stream);
}
