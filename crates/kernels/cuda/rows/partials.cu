// The second half of sums over rows: see partials.cuh.

#include "partials.cuh"

namespace {

/// A row of blocks for each sum.
__global__ void __launch_bounds__(PARTIALS_THREADS) add_chunks(PartialSums all, int chunks, int width) {
    // By choice and not by index, for which a thread would copy all to its memory.
    float *sum = blockIdx.y == 0 ? all.sums[0] : blockIdx.y == 1 ? all.sums[1] : all.sums[2];
    if (sum == nullptr) return;
    Column own = sum_of_chunks(all.partials + int64_t(blockIdx.y) * chunks * width, chunks, width);
    if (own.is_mine) sum[own.index] += own.sum;
}

} // namespace

int add_partials(PartialSums all, int count, int chunks, int width, cudaStream_t stream) {
    return launch(add_chunks, dim3(ceil_div(width, WARP), count), PARTIALS_THREADS, 0, stream, all, chunks, width);
}
