// Attention backward for any head size, f32 or bf16 in memory, f32 throughout: the measure of the fast kernels. A warp owns a
// query (dq), or a key (dk, dv), of a head; its lanes take 32 of the others at a time. Nothing is added atomically.

#include "any.cuh"

namespace {

/// What comes back: the output's gradient, dense [Tq, H, D]; log-sum-exp and delta [H, Tq].
template <typename T> struct Incoming {
    const T *gradient;
    const float *log_sum_exp, *delta;
};

/// What one query and key have to do with each other: m p, and ds times the scale.
struct Pair {
    float weight, gradient;
};

__device__ __forceinline__ Pair pair_of(
    const Problem &problem, float product, float dp, float log_sum_exp, float delta, Stream stream, int key
) {
    float p = expf(problem.scale * product - log_sum_exp);
    float factor = kept(problem.draws, stream, key) ? problem.draws.keep : 0.0f;
    return {p * factor, problem.scale * p * (factor * dp - delta)};
}

template <typename T>
__global__ void __launch_bounds__(ANY_THREADS)
    attention_backward_queries_any(Problem problem, Incoming<T> incoming, T *dq) {
    int size = problem.head_size, head = blockIdx.y, lane = lane_index();
    int64_t dense = int64_t(problem.heads) * size;
    Block block = problem.plan.query_blocks[blockIdx.x];
    Document document(problem.plan, block.document);
    float *query = warp_memory(3 * size + WARP), *gradient = query + size, *sums = gradient + size;
    float *weights = sums + size;

    int end = min(block.first + BLOCK, document.queries);
    for (int i = block.first + warp_index(); i < end; i += ANY_WARPS) {
        int64_t row = document.first_query + i, statistic = int64_t(head) * problem.plan.queries + row;
        load_row(query, head_row(static_cast<const T *>(problem.q), problem.q_stride, row, head, size), size);
        load_row(gradient, head_row(incoming.gradient, dense, row, head, size), size);
        for (int d = lane; d < size; d += WARP) sums[d] = 0.0f;
        __syncwarp();
        SeenKeys keys(document, problem.visibility, i);
        Stream stream = stream_of(problem.draws, uint32_t(row) * problem.heads + head);
        float log_sum_exp = incoming.log_sum_exp[statistic], delta = incoming.delta[statistic];
        auto k = static_cast<const T *>(problem.k), v = static_cast<const T *>(problem.v);
        for (int first = 0; first < keys.count; first += WARP) {
            int key = keys.at(first + lane);
            weights[lane] = 0.0f;
            if (key >= 0) {
                int64_t at = document.first_key + key;
                float product = dot(query, head_row(k, problem.k_stride, at, head, size), size);
                float dp = dot(gradient, head_row(v, problem.v_stride, at, head, size), size);
                weights[lane] = pair_of(problem, product, dp, log_sum_exp, delta, stream, key).gradient;
            }
            __syncwarp();
            for (int n = 0; n < min(WARP, keys.count - first); n++) {
                int other = keys.at(first + n);
                if (other < 0) continue;
                const T *values = head_row(k, problem.k_stride, document.first_key + other, head, size);
                for (int d = lane; d < size; d += WARP) sums[d] += weights[n] * to_float(values[d]);
            }
            __syncwarp();
        }
        T *target = head_row(dq, problem.q_stride, row, head, size);
        for (int d = lane; d < size; d += WARP) target[d] = from_float<T>(sums[d]);
        __syncwarp();
    }
}

template <typename T>
__global__ void __launch_bounds__(ANY_THREADS)
    attention_backward_keys_any(Problem problem, Incoming<T> incoming, T *dk, T *dv) {
    int size = problem.head_size, head = blockIdx.y, lane = lane_index();
    int64_t dense = int64_t(problem.heads) * size;
    Block block = problem.plan.key_blocks[blockIdx.x];
    Document document(problem.plan, block.document);
    float *key = warp_memory(4 * size + 2 * WARP), *value = key + size, *sums_k = value + size, *sums_v = sums_k + size;
    float *weights = sums_v + size, *gradients = weights + WARP;

    int end = min(block.first + BLOCK, document.keys);
    for (int j = block.first + warp_index(); j < end; j += ANY_WARPS) {
        int64_t row = document.first_key + j;
        load_row(key, head_row(static_cast<const T *>(problem.k), problem.k_stride, row, head, size), size);
        load_row(value, head_row(static_cast<const T *>(problem.v), problem.v_stride, row, head, size), size);
        for (int d = lane; d < size; d += WARP) sums_k[d] = sums_v[d] = 0.0f;
        __syncwarp();
        // A global query's probabilities are 0, its log-sum-exp being infinite.
        Range queries = document.is_global(j) ? Range{0, document.queries}
                                              : problem.visibility.queries_of({j, j + 1}, document.queries);
        auto q = static_cast<const T *>(problem.q);
        for (int first = queries.first; first < queries.end; first += WARP) {
            Pair pair{0.0f, 0.0f};
            if (first + lane < queries.end) {
                int64_t at = document.first_query + first + lane;
                int64_t statistic = int64_t(head) * problem.plan.queries + at;
                float product = dot(key, head_row(q, problem.q_stride, at, head, size), size);
                float dp = dot(value, head_row(incoming.gradient, dense, at, head, size), size);
                Stream stream = stream_of(problem.draws, uint32_t(at) * problem.heads + head);
                pair = pair_of(
                    problem, product, dp, incoming.log_sum_exp[statistic], incoming.delta[statistic], stream, j
                );
            }
            weights[lane] = pair.weight;
            gradients[lane] = pair.gradient;
            __syncwarp();
            for (int n = 0; n < min(WARP, queries.end - first); n++) {
                int64_t at = document.first_query + first + n;
                const T *query = head_row(q, problem.q_stride, at, head, size);
                const T *gradient = head_row(incoming.gradient, dense, at, head, size);
                for (int d = lane; d < size; d += WARP) {
                    sums_k[d] += gradients[n] * to_float(query[d]);
                    sums_v[d] += weights[n] * to_float(gradient[d]);
                }
            }
            __syncwarp();
        }
        T *target_k = head_row(dk, problem.k_stride, row, head, size);
        T *target_v = head_row(dv, problem.v_stride, row, head, size);
        for (int d = lane; d < size; d += WARP) {
            target_k[d] = from_float<T>(sums_k[d]);
            target_v[d] = from_float<T>(sums_v[d]);
        }
        __syncwarp();
    }
}

template <typename T>
int start(
    const Problem &problem,
    const void *gradient,
    const float *log_sum_exp,
    const float *delta,
    void *dq,
    void *dk,
    void *dv,
    cudaStream_t stream
) {
    Incoming<T> incoming{static_cast<const T *>(gradient), log_sum_exp, delta};
    size_t bytes = ANY_WARPS * (3 * problem.head_size + WARP) * sizeof(float);
    dim3 queries(problem.plan.query_block_count, problem.heads);
    auto query_targets = static_cast<T *>(dq);
    auto by_query = attention_backward_queries_any<T>;
    int error = launch(by_query, queries, ANY_THREADS, bytes, stream, problem, incoming, query_targets);
    if (error != 0) return error;
    bytes = ANY_WARPS * (4 * problem.head_size + 2 * WARP) * sizeof(float);
    dim3 keys(problem.plan.key_block_count, problem.heads);
    auto key_targets = static_cast<T *>(dk), value_targets = static_cast<T *>(dv);
    auto by_key = attention_backward_keys_any<T>;
    return launch(by_key, keys, ANY_THREADS, bytes, stream, problem, incoming, key_targets, value_targets);
}

} // namespace

/// gradient: that of the output, dense [Tq, H, D]; log_sum_exp and delta [H, Tq]; dq, dk and dv lie as q, k and v.
extern "C" int epitome_attention_backward_any_f32(
    const Problem *problem,
    const void *gradient,
    const float *log_sum_exp,
    const float *delta,
    void *dq,
    void *dk,
    void *dv,
    cudaStream_t stream
) {
    return start<float>(*problem, gradient, log_sum_exp, delta, dq, dk, dv, stream);
}

extern "C" int epitome_attention_backward_any_bf16(
    const Problem *problem,
    const void *gradient,
    const float *log_sum_exp,
    const float *delta,
    void *dq,
    void *dk,
    void *dv,
    cudaStream_t stream
) {
    return start<bf16>(*problem, gradient, log_sum_exp, delta, dq, dk, dv, stream);
}
