// Adds up the partial sums of the gradients of global keys and values, in order, and writes them over their rows.
//
// Bytes: 8 H D for each chunk and global position, read once; with chunks of 1,024 queries and one global token of LED-base
// 98 KB for 16,384 tokens: the time of a launch.
//
// Schedule: a thread has a column of a global position and asks for the sums of many chunks at once.

#include "problem.cuh"

namespace {

constexpr int THREADS = 256;
/// Chunks whose sums a thread asks for at once.
constexpr int AT_ONCE = 16;

__global__ void reduce_global(Problem problem, const float *partial_dk, const float *partial_dv, bf16 *dk, bf16 *dv) {
    const Plan &plan = problem.plan;
    int index = blockIdx.x, b = 0;
    while (plan.global_offsets[b + 1] <= index) b++;
    Document document(plan, b);
    int own = index - plan.global_offsets[b];
    int width = problem.heads * problem.head_size, column = blockIdx.y * THREADS + threadIdx.x;
    if (column >= width) return;
    int chunks = ceil_div(document.queries, plan.chunk);
    int64_t row = document.first_key + document.globals[own];
    int64_t first = (int64_t(plan.partial_offsets[b]) + own) * width + column, step = int64_t(document.global_count) * width;
    float sum_k = 0.0f, sum_v = 0.0f;
    for (int chunk = 0; chunk < chunks; chunk += AT_ONCE) {
        float k[AT_ONCE], v[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            bool exists = chunk + i < chunks;
            k[i] = exists ? partial_dk[first + (chunk + i) * step] : 0.0f;
            v[i] = exists ? partial_dv[first + (chunk + i) * step] : 0.0f;
        }
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            sum_k += k[i];
            sum_v += v[i];
        }
    }
    dk[row * problem.k_stride + column] = from_float<bf16>(sum_k);
    dv[row * problem.v_stride + column] = from_float<bf16>(sum_v);
}

} // namespace

/// Arguments as those of epitome_attention_backward_keys_bf16, which comes before.
extern "C" int epitome_attention_reduce_global_bf16(
    const Problem *problem, const float *partial_dk, const float *partial_dv, void *dk, void *dv, cudaStream_t stream
) {
    auto keys = static_cast<bf16 *>(dk), values = static_cast<bf16 *>(dv);
    dim3 grid(problem->plan.globals, ceil_div(problem->heads * problem->head_size, THREADS));
    return launch(reduce_global, grid, THREADS, 0, stream, *problem, partial_dk, partial_dv, keys, values);
}
