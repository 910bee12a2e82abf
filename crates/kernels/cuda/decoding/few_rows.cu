// Products of few rows with a weight, y = x W^T + b, as a decoding step has them, in bf16 with sums in f32: x [R, K], W [N, K]. Before
// it, if asked for, the layer norm of x + residual; after it, if asked for, GELU. What would be three launches is one.
//
// Bytes: W once, the rest is small: 1.2 MB for 768 x 768, 0.35 us at 3.35 TB/s, less than a launch takes. Bound by how soon a
// processor has all its bytes under way, by the launch, and by how long the chain from x to y is.
//
// Schedule: a block owns 8 outputs, its warps share the sum over K, so that each thread asks for all its bytes of W at once, before it
// looks at x, and where kernels are started early even before the one that makes x has ended: W and b are nobody's result. A thread
// has 8 numbers in a row of K for two products of the matrix unit, whose order in K is the thread's own: W and x agree in it. Every
// block normalises all rows, which are few, and the first writes them; so after a norm, where there are many outputs, a block owns 24
// or 32 of them, that no processor has to do it twice. Up to 4 rows lie in the operand twice, with other numbers of K each time, so
// that all lanes have some, and half as many products do. Sums of warps are added in a fixed order.

#include "../rows/normal.cuh"
#include "../rows/packs.cuh"

namespace {

/// Outputs of a product of the matrix unit, numbers of K in a warp's step of two products, and the most rows.
constexpr int OUTPUTS = 8, STEP = 32, MOST_ROWS = 16;

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
    /// Of a row's numbers and of a block's warps, 1 / count each.
    float of_width, of_warps;
};

struct Layer {
    const bf16 *weight;
    /// May be null.
    const float *bias;
    bool gelu;
    int outputs;
};

/// The part of x that a lane has, of up to ROWS rows, in a warp of STEPS steps: of its row, and of the one 8 below if there are 16, 8
/// numbers of K in each of `OWN` steps. Of 4 rows lanes 16 and up have the odd steps, the others the even ones.
template <int ROWS, int STEPS> struct Part {
    static constexpr int HALVES = ROWS == 16 ? 2 : 1, SHARES = ROWS == 4 ? 2 : 1, OWN = STEPS / SHARES;
    static_assert(STEPS % SHARES == 0, "lanes share the steps");

    static __device__ __forceinline__ int row(int half) {
        return ROWS == 4 ? lane_index() / 4 % 4 : lane_index() / 4 + 8 * half;
    }
    static __device__ __forceinline__ int column(int step) {
        int share = ROWS == 4 ? lane_index() / 16 : 0;
        return (warp_index() * STEPS + step * SHARES + share) * STEP + lane_index() % 4 * 8;
    }
    /// The lane that speaks for those which have the same row.
    static __device__ __forceinline__ bool is_first() { return lane_index() % 4 == 0 && lane_index() < 32 / SHARES; }
};

/// The mean of some numbers, and the sum of squares of the differences from it.
struct Moments {
    float mean, squares;

    /// Adds as many numbers of the lane that differs in the bits of `mask`, `count` each (Chan et al. 1979).
    __device__ __forceinline__ void add_lane(int mask, int count) {
        float other = __shfl_xor_sync(ALL_LANES, mean, mask), more = __shfl_xor_sync(ALL_LANES, squares, mask);
        float difference = other - mean;
        mean = 0.5f * (mean + other);
        squares = (squares + more) + difference * difference * (0.5f * count);
    }
};

/// Sums of N numbers, in four chains.
template <int N, typename Number> __device__ __forceinline__ float sum_of(Number number) {
    float sums[4] = {};
#pragma unroll
    for (int i = 0; i < N; i++) sums[i % 4] += number(i);
    return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

/// Of the rows of which a lane has a part each. Each lane takes the moments of its numbers, in two passes, its warp merges those, and one
/// barrier is enough to merge the warps'. That barrier shows all threads what was copied, too.
template <int ROWS, int STEPS>
__device__ __forceinline__ void find_moments(
    const float (&values)[Part<ROWS, STEPS>::HALVES][Part<ROWS, STEPS>::OWN][8], const Norm &norm,
    Moments (&moments)[Part<ROWS, STEPS>::HALVES]
) {
    using P = Part<ROWS, STEPS>;
    constexpr int MOST = MOST_WARPS<true>, COUNT = 8 * P::OWN;
    // Rows lie so far apart that those a warp reads are in different banks.
    alignas(16) __shared__ float2 scratch[ROWS][MOST + 2];
#pragma unroll
    for (int half = 0; half < P::HALVES; half++) {
        auto value = [&](int i) { return values[half][i / 8][i % 8]; };
        Moments own;
        own.mean = sum_of<COUNT>(value) * (1.0f / COUNT);
        own.squares = sum_of<COUNT>([&](int i) { return (value(i) - own.mean) * (value(i) - own.mean); });
        own.add_lane(1, COUNT);
        own.add_lane(2, 2 * COUNT);
        if (P::SHARES == 2) own.add_lane(16, 4 * COUNT);
        if (P::is_first()) scratch[P::row(half)][warp_index()] = {own.mean, own.squares};
    }
    ptx::wait_copies<0>();
    __syncthreads();
    int warps = int(blockDim.x) / WARP;
#pragma unroll
    for (int half = 0; half < P::HALVES; half++) {
        float means[MOST], squares[MOST];
#pragma unroll
        for (int warp = 0; warp < MOST; warp += 2) {
            uint4 two = ptx::load_16(&scratch[P::row(half)][warp]);
            means[warp] = __uint_as_float(two.x);
            squares[warp] = __uint_as_float(two.y);
            means[warp + 1] = __uint_as_float(two.z);
            squares[warp + 1] = __uint_as_float(two.w);
        }
        float mean = sum_of<MOST>([&](int warp) { return warp < warps ? means[warp] : 0.0f; }) * norm.of_warps;
        moments[half] = {mean, sum_of<MOST>([&](int warp) {
            float difference = means[warp] - mean;
            return warp < warps ? squares[warp] + STEPS * STEP * (difference * difference) : 0.0f;
        })};
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

/// A lane's numbers, all asked for at once; zeros where there is no row.
template <int ROWS, int STEPS>
__device__ __forceinline__ void load_rows(
    uint4 (&values)[Part<ROWS, STEPS>::HALVES][Part<ROWS, STEPS>::OWN], const bf16 *from, const Rows &rows
) {
    using P = Part<ROWS, STEPS>;
#pragma unroll
    for (int half = 0; half < P::HALVES; half++) {
        const bf16 *own = from + int64_t(P::row(half)) * rows.width;
#pragma unroll
        for (int step = 0; step < P::OWN; step++) {
            values[half][step] = P::row(half) < rows.count ? ptx::load_16(own + P::column(step)) : uint4{0, 0, 0, 0};
        }
    }
}

template <int ROWS, int STEPS>
__device__ __forceinline__ void normalise(
    uint4 (&x)[Part<ROWS, STEPS>::HALVES][Part<ROWS, STEPS>::OWN], const Rows &rows, const Norm &norm, const float *parameters
) {
    using P = Part<ROWS, STEPS>;
    float values[P::HALVES][P::OWN][8];
    Moments moments[P::HALVES];
    uint4 residual[P::HALVES][P::OWN];
    load_rows<ROWS, STEPS>(x, rows.x, rows);
    load_rows<ROWS, STEPS>(residual, norm.residual, rows);
#pragma unroll
    for (int half = 0; half < P::HALVES; half++) {
#pragma unroll
        for (int i = 0; i < P::OWN * 8; i++) {
            auto number = [&](const uint4 &pack) { return to_float(reinterpret_cast<const bf16 *>(&pack)[i % 8]); };
            values[half][i / 8][i % 8] = number(x[half][i / 8]) + number(residual[half][i / 8]);
        }
    }
    find_moments<ROWS, STEPS>(values, norm, moments);
    float rstd[P::HALVES];
#pragma unroll
    for (int half = 0; half < P::HALVES; half++) rstd[half] = rsqrtf(moments[half].squares * norm.of_width + norm.eps);
#pragma unroll
    for (int step = 0; step < P::OWN; step++) {
        float weight[8], bias[8];
        int column = P::column(step);
        load_values(weight, parameters + column);
        load_values(bias, parameters + rows.width + column);
#pragma unroll
        for (int half = 0; half < P::HALVES; half++) {
            float(&own)[8] = values[half][step];
#pragma unroll
            for (int i = 0; i < 8; i++) own[i] = (own[i] - moments[half].mean) * rstd[half] * weight[i] + bias[i];
            store_values(reinterpret_cast<bf16 *>(&x[half][step]), own);
            if (blockIdx.x == 0 && P::row(half) < rows.count) {
                ptx::store_16(norm.y + int64_t(P::row(half)) * rows.width + column, x[half][step]);
            }
        }
    }
}

/// A warp's sums of 8 outputs, [ROWS, 8] in shared memory.
template <int ROWS, int STEPS>
__device__ __forceinline__ void multiply_tile(
    float *sums, const uint4 (&w)[STEPS], const uint4 (&x)[Part<ROWS, STEPS>::HALVES][Part<ROWS, STEPS>::OWN]
) {
    int g = lane_index() / 4, t = lane_index() % 4;
    // Two chains of products, each half as long.
    float c[2][4] = {};
    if constexpr (ROWS == 4) {
        // W is the first operand, even steps above odd ones; x the second, rows of even steps beside those of odd ones. Of the result
        // what odd steps have in common with even ones counts for nothing.
#pragma unroll
        for (int i = 0; i < STEPS / 2; i++) {
            uint4 even = w[2 * i], odd = w[2 * i + 1];
            uint32_t first[4] = {even.x, odd.x, even.y, odd.y}, second[4] = {even.z, odd.z, even.w, odd.w};
            ptx::multiply_add(c[0], first, x[0][i].x, x[0][i].y);
            ptx::multiply_add(c[1], second, x[0][i].z, x[0][i].w);
        }
#pragma unroll
        for (int i = 0; i < 2; i++) {
            float own = t < 2 ? c[0][i] + c[1][i] : c[0][i + 2] + c[1][i + 2];
            own += __shfl_xor_sync(ALL_LANES, own, 2);
            if (t < 2) sums[(2 * t + i) * OUTPUTS + g] = own;
        }
    } else {
        constexpr bool TALL = ROWS == 16;
#pragma unroll
        for (int i = 0; i < STEPS; i++) {
            uint4 low = x[0][i], high = TALL ? x[TALL][i] : uint4{0, 0, 0, 0};
            uint32_t first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
            ptx::multiply_add(c[0], first, w[i].x, w[i].y);
            ptx::multiply_add(c[1], second, w[i].z, w[i].w);
        }
#pragma unroll
        for (int i = 0; i < (TALL ? 4 : 2); i++) sums[(g + i / 2 * 8) * OUTPUTS + 2 * t + i % 2] = c[0][i] + c[1][i];
    }
}

/// As few blocks a processor as fit with the next kernel's, and no more: or the compiler would ask for bytes late, to need fewer
/// registers.
template <int ROWS, int STEPS, int TILES, bool NORM>
__global__ void __launch_bounds__(MOST_WARPS<NORM> *WARP, 1) product(Rows rows, Norm norm, Layer layer, bf16 *y) {
    using P = Part<ROWS, STEPS>;
    constexpr int MOST = MOST_WARPS<NORM>, COUNT = TILES * OUTPUTS;
    __shared__ float sums[MOST][TILES][ROWS * OUTPUTS], biases[COUNT];
    int g = lane_index() / 4, column = warp_index() * STEPS * STEP + lane_index() % 4 * 8, first = blockIdx.x * COUNT;
    uint4 w[TILES][STEPS], x[P::HALVES][P::OWN];
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        // Behind the last outputs those again, whose sums nobody reads.
        int output = min(first + tile * OUTPUTS, layer.outputs - OUTPUTS) + g;
        const bf16 *weights = layer.weight + int64_t(output) * rows.width + column;
#pragma unroll
        for (int step = 0; step < STEPS; step++) w[tile][step] = ptx::stream_16(weights + step * STEP);
    }
    // Not fewer than a block's outputs: a warp is as many.
    bool has_bias = layer.bias != nullptr && threadIdx.x < COUNT && first + int(threadIdx.x) < layer.outputs;
    float bias = has_bias ? layer.bias[first + threadIdx.x] : 0.0f;
    if constexpr (NORM) {
        const float *parameters = copy_parameters(norm, rows.width);
        ptx::let_next_kernel_start();
        ptx::wait_for_kernels_before();
        normalise<ROWS, STEPS>(x, rows, norm, parameters);
    } else {
        ptx::let_next_kernel_start();
        ptx::wait_for_kernels_before();
        load_rows<ROWS, STEPS>(x, rows.x, rows);
    }
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) multiply_tile<ROWS, STEPS>(sums[warp_index()][tile], w[tile], x);
    if (threadIdx.x < COUNT) biases[threadIdx.x] = bias;
    __syncthreads();
    int warps = int(blockDim.x) / WARP;
    for (int i = threadIdx.x; i < ROWS * COUNT; i += blockDim.x) {
        int tile = i / (ROWS * OUTPUTS), of_tile = i % (ROWS * OUTPUTS), row = of_tile / OUTPUTS;
        int own = tile * OUTPUTS + i % OUTPUTS;
        if (row >= rows.count || first + own >= layer.outputs) continue;
        float z = biases[own];
        auto add = [&](int begin) {
            z += sum_of<8>([&](int n) { return begin + n < warps ? sums[begin + n][tile][of_tile] : 0.0f; });
        };
        add(0);
        if (MOST > 8 && warps > 8) add(8);
        if (layer.gelu) z *= normal_of<bf16>(z).distribution;
        y[int64_t(row) * layer.outputs + first + own] = from_float<bf16>(z);
    }
}

/// What of a launch is known only when it runs.
struct Launch {
    Rows rows;
    Norm norm;
    Layer layer;
    bf16 *y;
    cudaStream_t stream;
};

template <int ROWS, int STEPS, int TILES, bool NORM> int start_tiles(const Launch &launch) {
    int warps = launch.rows.width / (STEP * STEPS);
    size_t bytes = NORM ? 2 * launch.rows.width * sizeof(float) : 0;
    dim3 grid(ceil_div(launch.layer.outputs, TILES * OUTPUTS));
    return launch_early(
        product<ROWS, STEPS, TILES, NORM>, grid, warps * WARP, bytes, launch.stream, launch.rows, launch.norm, launch.layer,
        launch.y
    );
}

/// As few outputs a block as give each processor one, with a layer norm and the steps of models' widths; otherwise the fewest.
template <int ROWS, int STEPS, bool NORM> int start_rows(const Launch &launch) {
    if constexpr (NORM && STEPS == 4) {
        auto suffices = [&](int tiles) { return ceil_div(launch.layer.outputs, tiles * OUTPUTS) <= processor_count(); };
        if (!suffices(1)) {
            return suffices(3) ? start_tiles<ROWS, STEPS, 3, NORM>(launch) : start_tiles<ROWS, STEPS, 4, NORM>(launch);
        }
    }
    return start_tiles<ROWS, STEPS, 1, NORM>(launch);
}

template <int STEPS, bool NORM> int start(const Launch &launch) {
    if constexpr (STEPS % 2 == 0) {
        if (launch.rows.count <= 4) return start_rows<4, STEPS, NORM>(launch);
    }
    return launch.rows.count <= 8 ? start_rows<8, STEPS, NORM>(launch) : start_rows<16, STEPS, NORM>(launch);
}

template <bool NORM> int start_steps(Launch launch, int steps) {
    int warps = launch.rows.width / (STEP * steps);
    if (launch.rows.count > MOST_ROWS || launch.layer.outputs % OUTPUTS != 0) return INVALID;
    if (warps * STEP * steps != launch.rows.width || warps < 1 || warps > MOST_WARPS<NORM>) return INVALID;
    launch.norm.of_width = 1.0f / launch.rows.width;
    launch.norm.of_warps = 1.0f / warps;
    switch (steps) {
    case 1: return start<1, NORM>(launch);
    case 2: return start<2, NORM>(launch);
    case 4: return start<4, NORM>(launch);
    case 6: return start<6, NORM>(launch);
    case 8: return start<8, NORM>(launch);
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
    Launch launch{
        {static_cast<const bf16 *>(x), count, width},
        {static_cast<const bf16 *>(residual), norm_weight, norm_bias, eps, static_cast<bf16 *>(normalised), 0.0f, 0.0f},
        {static_cast<const bf16 *>(weight), bias, gelu != 0, outputs},
        static_cast<bf16 *>(y),
        stream,
    };
    return residual == nullptr ? start_steps<false>(launch, steps) : start_steps<true>(launch, steps);
}
