// The second half of sums over rows: see partials.cuh.

#include "partials.cuh"

namespace {

__global__ void __launch_bounds__(PARTIALS_THREADS) add_chunks(float *sum, const float *partials, int chunks, int width) {
    Column own = sum_of_chunks(partials, chunks, width);
    if (own.is_mine) sum[own.index] += own.sum;
}

} // namespace

int add_partials(float *sum, const float *partials, int chunks, int width, cudaStream_t stream) {
    return launch(add_chunks, dim3(ceil_div(width, WARP)), PARTIALS_THREADS, 0, stream, sum, partials, chunks, width);
}
