// The norm of all gradients together, and what they must be multiplied by so that it stays below a limit. Nothing comes back
// to the host: the optimizer reads the factor from device memory.
//
// Bytes: 4 a parameter; LED-base 0.65 GB, 0.19 ms at 3.35 TB/s. Sums of squares in f64, chunks added in order.

#include "tensors.cuh"

namespace {

constexpr int THREADS = 256;

struct Plus {
    __device__ double operator()(double a, double b) const { return a + b; }
};

__global__ void __launch_bounds__(THREADS) chunk_squares(const Trained *tensors, const Chunk *chunks, double *squares) {
    __shared__ double scratch[THREADS / WARP];
    Chunk chunk = chunks[blockIdx.x];
    Trained tensor = tensors[chunk.tensor];
    Span span(tensor, chunk);
    double sum = 0.0;
    for (int64_t at = span.first + threadIdx.x; at < span.end; at += THREADS) {
        double value = tensor.gradient[at];
        sum += value * value;
    }
    sum = block_reduce(sum, scratch, Plus());
    if (threadIdx.x == 0) squares[blockIdx.x] = sum;
}

__global__ void __launch_bounds__(THREADS)
    clip_factor(const double *squares, int chunks, float factor, float max_norm, float *norm, float *gradient_scale) {
    __shared__ double scratch[THREADS / WARP];
    double sum = 0.0;
    for (int chunk = threadIdx.x; chunk < chunks; chunk += THREADS) sum += squares[chunk];
    sum = block_reduce(sum, scratch, Plus());
    if (threadIdx.x != 0) return;
    float total = factor * float(sqrt(sum));
    *norm = total;
    // As torch.nn.utils.clip_grad_norm_; a norm that is not a number stays one.
    *gradient_scale = max_norm > 0.0f && !(total + 1e-6f <= max_norm) ? factor * max_norm / (total + 1e-6f) : factor;
}

} // namespace

/// norm = factor * sqrt(sum of squares of all gradients); gradient_scale = factor, times max_norm / (norm + 1e-6) where that is
/// below 1 and max_norm above 0. `factor` is what gradients are multiplied by anyway (1 / tokens). `squares`: a number a chunk.
extern "C" int epitome_global_norm(
    const Trained *tensors, const Chunk *chunks, int chunk_count, float factor, float max_norm, double *squares, float *norm,
    float *gradient_scale, cudaStream_t stream
) {
    int error = launch(chunk_squares, dim3(chunk_count), THREADS, 0, stream, tensors, chunks, squares);
    if (error != 0) return error;
    auto all = static_cast<const double *>(squares);
    return launch(clip_factor, dim3(1), THREADS, 0, stream, all, chunk_count, factor, max_norm, norm, gradient_scale);
}
