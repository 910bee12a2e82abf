// The sum of the squares of all numbers of a list of tensors, such as all gradients: the square of their global norm.
//
// Bytes: 4 a number; the gradients of LED-base 0.65 GB, 0.19 ms at 3.35 TB/s. Sums in f64, chunks added in order.

#include "tensors.cuh"

namespace {

constexpr int THREADS = 256;

__global__ void __launch_bounds__(THREADS) chunk_squares(const Values *tensors, const Chunk *chunks, double *squares) {
    __shared__ double scratch[THREADS / WARP];
    Chunk chunk = chunks[blockIdx.x];
    Values tensor = tensors[chunk.tensor];
    Span span(tensor.count, chunk);
    double sum = 0.0;
    for (int64_t at = span.first + threadIdx.x; at < span.end; at += THREADS) {
        double value = tensor.first[at];
        sum += value * value;
    }
    sum = block_reduce(sum, scratch, Plus());
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS) add_squares(const double *squares, int chunks, double *total) {
    __shared__ double scratch[THREADS / WARP];
    double sum = 0.0;
    for (int chunk = threadIdx.x; chunk < chunks; chunk += THREADS) sum += squares[chunk];
    sum = block_reduce(sum, scratch, Plus());
    if (threadIdx.x == 0) *total = sum;
}

} // namespace

/// `tensors` and `chunks` lie in device memory, as do `squares`, a number a chunk, and `total`.
extern "C" int epitome_sum_of_squares(
    const Values *tensors, const Chunk *chunks, int chunk_count, double *squares, double *total, cudaStream_t stream
) {
    int error = launch(chunk_squares, dim3(chunk_count), THREADS, 0, stream, tensors, chunks, squares);
    if (error != 0) return error;
    auto all = static_cast<const double *>(squares);
    return launch(add_squares, dim3(1), THREADS, 0, stream, all, chunk_count, total);
}
