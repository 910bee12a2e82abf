// The logits of few rows, y = x W^T + b, as the head of a decoding step has them: x [R, K] and W [N, K] in bf16, sums and logits in
// f32. N is a vocabulary, any number.
//
// Bytes: W once, 77 MB for 50,265 x 768: 18 us at the 4.3 TB/s that an H200 reaches, 25 us at an H100's 3.1. All else is small, so
// this is bound by bytes, of which a processor must have some 33 KB under way at any time.
//
// Schedule: two blocks a processor stay to the end. A warp takes 8 outputs at a time and the whole sum of each, so that it waits for
// no other; x lies in shared memory as the operands of its products do. W comes in groups of 256 numbers of each output, two of which,
// 8 KB, are always under way, those of its next outputs while these end; the first are asked for before the kernel that makes x has
// ended, where kernels are started early: W and b are nobody's result. As in few_rows.cu a thread has 8 numbers in a row of K for two
// products of the matrix unit.

#include "../numbers.cuh"

namespace {

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP;
constexpr int BLOCKS_EACH = 2;

/// Rows and outputs of a product of the matrix unit, numbers of K in a step of two products, and steps of a group.
constexpr int ROWS = 16, OUTPUTS = 8, STEP = 32, GROUP = 8;

struct Rows {
    const bf16 *x;
    int count, width;
};

/// Logits of a row are `stride` apart from those of the next. The bias may be null.
struct Outputs {
    const bf16 *weight;
    const float *bias;
    int count;
    float *logits;
    int64_t stride;
};

/// A group of a warp's weights: of which outputs, and which numbers of K.
struct Place {
    int tile, group;

    __device__ __forceinline__ void advance(int groups) {
        if (++group < groups) return;
        group = 0;
        tile += gridDim.x * WARPS;
    }
};

/// Asks for a group of the outputs of a tile, of which a lane has one. Behind the last output that one again, whose sums nobody reads,
/// and zeros behind K.
__device__ __forceinline__ void load_group(uint4 (&w)[GROUP], const Outputs &outputs, int width, Place place) {
    int output = min(place.tile * OUTPUTS + lane_index() / 4, outputs.count - 1), column = place.group * GROUP * STEP;
    const bf16 *from = outputs.weight + int64_t(output) * width + column + lane_index() % 4 * 8;
    if (column + GROUP * STEP <= width) {
#pragma unroll
        for (int i = 0; i < GROUP; i++) w[i] = ptx::stream_16(from + i * STEP);
    } else {
#pragma unroll
        for (int i = 0; i < GROUP; i++) {
            w[i] = uint4{0, 0, 0, 0};
            if (column + i * STEP < width) w[i] = ptx::stream_16(from + i * STEP);
        }
    }
}

/// x as a lane of a product needs it, [halves of the rows, groups, GROUP, lanes]; zeros where there is no row, and behind K. A warp
/// takes a step of every group, and asks for those of several at once.
template <int HALVES> __device__ __forceinline__ void share_rows(uint4 *shared, const Rows &rows, int groups) {
    constexpr int AT_ONCE = 4;
    static_assert(WARPS == GROUP, "each warp has its step");
    for (int first = 0; first < groups; first += AT_ONCE) {
        uint4 values[HALVES][AT_ONCE];
#pragma unroll
        for (int n = 0; n < HALVES * AT_ONCE; n++) {
            int row = lane_index() / 4 + n / AT_ONCE * 8;
            int column = ((first + n % AT_ONCE) * GROUP + warp_index()) * STEP + lane_index() % 4 * 8;
            bool exists = row < rows.count && column < rows.width;
            auto from = rows.x + int64_t(row) * rows.width + column;
            values[n / AT_ONCE][n % AT_ONCE] = exists ? ptx::load_16(from) : uint4{0, 0, 0, 0};
        }
#pragma unroll
        for (int n = 0; n < HALVES * AT_ONCE; n++) {
            int group = first + n % AT_ONCE, step = (n / AT_ONCE * groups + group) * GROUP + warp_index();
            if (group < groups) shared[step * WARP + lane_index()] = values[n / AT_ONCE][n % AT_ONCE];
        }
    }
}

/// Adds the products of a group to the sums of the even and of the odd ones.
template <int HALVES>
__device__ __forceinline__ void multiply_group(float (&c)[2][4], const uint4 (&w)[GROUP], const uint4 *x, int half_size) {
#pragma unroll
    for (int i = 0; i < GROUP; i++) {
        uint4 low = x[i * WARP], high = HALVES == 2 ? x[half_size + i * WARP] : uint4{0, 0, 0, 0};
        uint32_t first[4] = {low.x, high.x, low.y, high.y}, second[4] = {low.z, high.z, low.w, high.w};
        ptx::multiply_add(c[0], first, w[i].x, w[i].y);
        ptx::multiply_add(c[1], second, w[i].z, w[i].w);
    }
}

/// Writes the sums of a tile and sets them to 0.
__device__ __forceinline__ void write_tile(float (&c)[2][4], const float (&bias)[2], const Outputs &outputs, int rows, int tile) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        int row = lane_index() / 4 + i / 2 * 8, output = tile * OUTPUTS + lane_index() % 4 * 2 + i % 2;
        if (row < rows && output < outputs.count) {
            outputs.logits[row * outputs.stride + output] = c[0][i] + c[1][i] + bias[i % 2];
        }
        c[0][i] = c[1][i] = 0.0f;
    }
}

template <int HALVES>
__global__ void __launch_bounds__(THREADS, BLOCKS_EACH) head(Rows rows, Outputs outputs) {
    uint4 *x = reinterpret_cast<uint4 *>(dynamic_shared_memory());
    int groups = ceil_div(rows.width, GROUP * STEP), tiles = ceil_div(outputs.count, OUTPUTS);
    Place now{int(blockIdx.x) * WARPS + warp_index(), 0}, next = now;
    uint4 w[2][GROUP];
    auto load_next = [&](uint4(&to)[GROUP]) {
        if (next.tile < tiles) load_group(to, outputs, rows.width, next);
        next.advance(groups);
    };
    load_next(w[0]);
    load_next(w[1]);
    ptx::let_next_kernel_start();
    ptx::wait_for_kernels_before();
    share_rows<HALVES>(x, rows, groups);
    __syncthreads();
    float c[2][4] = {}, bias[2] = {};
    auto add = [&](uint4(&own)[GROUP]) {
        if (now.tile >= tiles) return;
        if (now.group == 0 && outputs.bias != nullptr) {
            int first = now.tile * OUTPUTS + lane_index() % 4 * 2;
#pragma unroll
            for (int i = 0; i < 2; i++) bias[i] = outputs.bias[min(first + i, outputs.count - 1)];
        }
        multiply_group<HALVES>(c, own, x + now.group * GROUP * WARP + lane_index(), groups * GROUP * WARP);
        load_next(own);
        if (now.group == groups - 1) write_tile(c, bias, outputs, rows.count, now.tile);
        now.advance(groups);
    };
    while (now.tile < tiles) {
        add(w[0]);
        add(w[1]);
    }
}

} // namespace

/// x [count, width], weight [outputs, width], both at multiples of 16 bytes, bias [outputs] or null; up to 16 rows, of a multiple of 32
/// numbers. logits: rows of f32, `stride` apart.
extern "C" int epitome_head_bf16(
    const void *x, int count, int width, const void *weight, const float *bias, int outputs, float *logits, int64_t stride,
    cudaStream_t stream
) {
    if (count == 0 || outputs == 0) return 0;
    if (count > ROWS || width % STEP != 0 || width == 0) return INVALID;
    Rows rows{static_cast<const bf16 *>(x), count, width};
    Outputs to{static_cast<const bf16 *>(weight), bias, outputs, logits, stride};
    int halves = count > ROWS / 2 ? 2 : 1, blocks = ceil_div(outputs, OUTPUTS * WARPS);
    size_t bytes = size_t(halves) * ceil_div(width, GROUP * STEP) * GROUP * WARP * sizeof(uint4);
    dim3 grid(blocks < BLOCKS_EACH * processor_count() ? blocks : BLOCKS_EACH * processor_count());
    return launch_early(halves == 2 ? head<2> : head<1>, grid, THREADS, bytes, stream, rows, to);
}
