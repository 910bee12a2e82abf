// The second half of sums over rows: see partials.cuh. 32 columns a block, whose chunks are shared by 8 warps.

#include "partials.cuh"

namespace {

constexpr int WARPS = 8;

__global__ void add_chunks(float *sum, const float *partials, int chunks, int width) {
    __shared__ float sums[WARPS][WARP];
    int column = blockIdx.x * WARP + lane_index();
    float own = 0.0f;
    if (column < width) {
        for (int chunk = warp_index(); chunk < chunks; chunk += WARPS) own += partials[int64_t(chunk) * width + column];
    }
    sums[warp_index()][lane_index()] = own;
    __syncthreads();
    if (warp_index() == 0 && column < width) {
        float total = 0.0f;
        for (int warp = 0; warp < WARPS; warp++) total += sums[warp][lane_index()];
        sum[column] += total;
    }
}

} // namespace

int add_partials(float *sum, const float *partials, int chunks, int width, cudaStream_t stream) {
    return launch(add_chunks, dim3(ceil_div(width, WARP)), WARPS * WARP, 0, stream, sum, partials, chunks, width);
}
