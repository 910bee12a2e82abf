// Adds up the partial sums of the gradients of global keys and values, in order, and writes them over their rows.
//
// Bytes: 8 H D for each chunk and global position, read once; with chunks of 1,024 queries and one global token of LED-base
// 98 KB for 16,384 tokens: the time of a launch.

#include "problem.cuh"

namespace {

constexpr int THREADS = 256;

__global__ void reduce_global(Problem problem, const float *partial_dk, const float *partial_dv, bf16 *dk, bf16 *dv) {
    const Plan &plan = problem.plan;
    int index = blockIdx.x, b = 0;
    while (plan.global_offsets[b + 1] <= index) b++;
    Document document(plan, b);
    int own = index - plan.global_offsets[b];
    int width = problem.heads * problem.head_size;
    int chunks = ceil_div(document.queries, plan.chunk);
    int64_t row = document.first_key + document.globals[own];
    for (int column = threadIdx.x; column < width; column += THREADS) {
        float sum_k = 0.0f, sum_v = 0.0f;
        for (int chunk = 0; chunk < chunks; chunk++) {
            int64_t partial = plan.partial_offsets[b] + int64_t(chunk) * document.global_count + own;
            sum_k += partial_dk[partial * width + column];
            sum_v += partial_dv[partial * width + column];
        }
        dk[row * problem.k_stride + column] = from_float<bf16>(sum_k);
        dv[row * problem.v_stride + column] = from_float<bf16>(sum_v);
    }
}

} // namespace

/// Arguments as those of epitome_attention_backward_keys_bf16, which comes before.
extern "C" int epitome_attention_reduce_global_bf16(
    const Problem *problem, const float *partial_dk, const float *partial_dv, void *dk, void *dv, cudaStream_t stream
) {
    auto keys = static_cast<bf16 *>(dk), values = static_cast<bf16 *>(dv);
    dim3 grid(problem->plan.globals);
    return launch(reduce_global, grid, THREADS, 0, stream, *problem, partial_dk, partial_dv, keys, values);
}
