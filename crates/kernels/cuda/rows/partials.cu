// The second half of sums over rows: see partials.cuh.

#include "partials.cuh"

namespace {

/// A row of blocks for each of two sums.
__global__ void __launch_bounds__(PARTIALS_THREADS) add_chunks(PartialSums first, PartialSums second, int chunks, int width) {
    PartialSums sums = blockIdx.y == 0 ? first : second;
    if (sums.sum == nullptr) return;
    Column own = sum_of_chunks(sums.partials, chunks, width);
    if (own.is_mine) sums.sum[own.index] += own.sum;
}

} // namespace

int add_partials(PartialSums first, PartialSums second, int chunks, int width, cudaStream_t stream) {
    dim3 grid(ceil_div(width, WARP), second.sum == nullptr ? 1 : 2);
    return launch(add_chunks, grid, PARTIALS_THREADS, 0, stream, first, second, chunks, width);
}
