// Attention forward for any head size, f32 or bf16 in memory, f32 throughout: the measure of the fast kernels.
//
// A warp owns one query and head at a time. 32 keys are scored at once, a lane each; then every lane adds all of them to its
// own columns of the weighted sum. Rows of keys are read by one lane each, so this is bound by the first-level cache, at a
// tenth of the fast kernel's speed or less.

#include "any.cuh"

namespace {

template <typename T>
__global__ void __launch_bounds__(ANY_THREADS) attention_forward_any(Problem problem, T *output, float *log_sum_exp) {
    int size = problem.head_size, head = blockIdx.y, lane = lane_index();
    Block block = problem.plan.query_blocks[blockIdx.x];
    Document document(problem.plan, block.document);
    float *query = warp_memory(2 * size + WARP), *context = query + size, *weights = context + size;

    int end = min(block.first + BLOCK, document.queries);
    for (int i = block.first + warp_index(); i < end; i += ANY_WARPS) {
        int64_t row = document.first_query + i;
        load_row(query, head_row(static_cast<const T *>(problem.q), problem.q_stride, row, head, size), size);
        for (int d = lane; d < size; d += WARP) context[d] = 0.0f;
        __syncwarp();
        SeenKeys keys(document, problem.visibility, i);
        Stream stream = stream_of(problem.draws, uint32_t(row) * problem.heads + head);
        float maximum = -INFINITY, sum = 0.0f;
        for (int first = 0; first < keys.count; first += WARP) {
            int key = keys.at(first + lane);
            float score = -INFINITY;
            if (key >= 0) {
                auto k = static_cast<const T *>(problem.k);
                score = problem.scale *
                        dot(query, head_row(k, problem.k_stride, document.first_key + key, head, size), size);
            }
            float most = fmaxf(maximum, lanes_max(score));
            float base = most == -INFINITY ? 0.0f : most;
            float rescale = expf(maximum - base), p = expf(score - base);
            sum = rescale * sum + lanes_sum(p);
            maximum = most;
            weights[lane] = key >= 0 && kept(problem.draws, stream, key) ? p * problem.draws.keep : 0.0f;
            __syncwarp();
            for (int d = lane; d < size; d += WARP) context[d] *= rescale;
            for (int n = 0; n < min(WARP, keys.count - first); n++) {
                int other = keys.at(first + n);
                if (other < 0) continue;
                auto v = static_cast<const T *>(problem.v);
                const T *value = head_row(v, problem.v_stride, document.first_key + other, head, size);
                for (int d = lane; d < size; d += WARP) context[d] += weights[n] * to_float(value[d]);
            }
            __syncwarp();
        }
        bool none = sum == 0.0f;
        T *target = head_row(output, int64_t(problem.heads) * size, row, head, size);
        for (int d = lane; d < size; d += WARP) target[d] = from_float<T>(none ? 0.0f : context[d] / sum);
        if (lane == 0) {
            log_sum_exp[int64_t(head) * problem.plan.queries + row] = none ? INFINITY : maximum + logf(sum);
        }
        __syncwarp();
    }
}

template <typename T> int start(const Problem &problem, void *output, float *log_sum_exp, cudaStream_t stream) {
    dim3 grid(problem.plan.query_block_count, problem.heads);
    size_t bytes = ANY_WARPS * (2 * problem.head_size + WARP) * sizeof(float);
    auto rows = static_cast<T *>(output);
    return launch(attention_forward_any<T>, grid, ANY_THREADS, bytes, stream, problem, rows, log_sum_exp);
}

} // namespace

/// q, k, v and output [Tq, H, D] of one type, log_sum_exp [H, Tq].
extern "C" int epitome_attention_forward_any_f32(
    const Problem *problem, void *output, float *log_sum_exp, cudaStream_t stream
) {
    return start<float>(*problem, output, log_sum_exp, stream);
}

extern "C" int epitome_attention_forward_any_bf16(
    const Problem *problem, void *output, float *log_sum_exp, cudaStream_t stream
) {
    return start<bf16>(*problem, output, log_sum_exp, stream);
}
