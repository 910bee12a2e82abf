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
//
// Of up to 4 rows, 4 steps of a warp and a norm 71 registers with 8 outputs a block, 106 with 24 and 120 with 32, in up to 256 threads;
// without a norm 40 in as many, 62 with 8 steps in 512 threads: the block of the next kernel has room beside this one. Shared memory:
// 8 bytes of norm's parameters a column, and sums, 4 KB at most of 4 rows and 16 KB of 16.

#include "../rows/normal.cuh"
#include "few_rows_norm.cuh"

namespace {

/// Outputs of a product of the matrix unit, and the most rows.
constexpr int OUTPUTS = 8, MOST_ROWS = 16;

/// Warps whose sums are added at once.
constexpr int AT_ONCE = 8;

struct Layer {
    const bf16 *weight;
    /// May be null.
    const float *bias;
    bool gelu;
    int outputs;
};

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

/// One block a processor at least, and no more: or the compiler would ask for bytes late, to need fewer registers.
template <int ROWS, int STEPS, int TILES, bool NORM>
__global__ void __launch_bounds__(MOST_WARPS<NORM> *WARP, 1) product(Rows rows, Norm norm, Layer layer, bf16 *y) {
    using P = Part<ROWS, STEPS>;
    constexpr int MOST = MOST_WARPS<NORM>, COUNT = TILES * OUTPUTS;
    // Of as many warps as are added at once, zeros where there is none.
    __shared__ float sums[MOST][ROWS * COUNT], biases[COUNT];
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
    ptx::let_next_kernel_start();
    // Not fewer than a block's outputs: a warp is as many.
    bool has_bias = layer.bias != nullptr && threadIdx.x < COUNT && first + int(threadIdx.x) < layer.outputs;
    float bias = has_bias ? layer.bias[first + threadIdx.x] : 0.0f;
    int warps = int(blockDim.x) / WARP;
    for (int warp = warps; warp % AT_ONCE != 0; warp++) {
        for (int i = threadIdx.x; i < ROWS * COUNT; i += blockDim.x) sums[warp][i] = 0.0f;
    }
    if constexpr (NORM) {
        const float *parameters = copy_parameters(norm, rows.width);
        ptx::wait_for_kernels_before();
        normalise<ROWS, STEPS>(x, rows, norm, parameters);
    } else {
        ptx::wait_for_kernels_before();
        load_rows<ROWS, STEPS>(x, rows.x, rows);
    }
#pragma unroll
    for (int tile = 0; tile < TILES; tile++) {
        multiply_tile<ROWS, STEPS>(&sums[warp_index()][tile * ROWS * OUTPUTS], w[tile], x);
    }
    if (threadIdx.x < COUNT) biases[threadIdx.x] = bias;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < ROWS * COUNT; i += blockDim.x) {
        unsigned own = i / (ROWS * OUTPUTS) * OUTPUTS + i % OUTPUTS, row = i / OUTPUTS % ROWS, output = first + own;
        float z = biases[own] + sum_of<AT_ONCE>([&](int warp) { return sums[warp][i]; });
        if (MOST > AT_ONCE && warps > AT_ONCE) z += sum_of<AT_ONCE>([&](int warp) { return sums[MOST - AT_ONCE + warp][i]; });
        if (layer.gelu) z *= normal_of<bf16>(z).distribution;
        if (int(row) < rows.count && int(output) < layer.outputs) y[row * layer.outputs + output] = from_float<bf16>(z);
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
