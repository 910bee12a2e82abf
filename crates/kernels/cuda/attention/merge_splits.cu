// Attention of few queries to many keys, whose keys were split so that there are enough blocks of queries: every document was computed
// as `splits` documents, each with a copy of its queries and a part of its keys. What they found becomes one result.
//
// Bytes: 2 D a split, query and head; five splits of 512 queries of LED-base 4 MB: the time of a launch.
//
// Schedule: a warp owns a query and head.

#include "problem.cuh"

namespace {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;

/// Where a query's copy in a split is.
struct Copies {
    int splits, first, queries, index;

    __device__ Copies(const int *query_offsets, int splits, int row) : splits(splits) {
        int b = 0;
        while (query_offsets[b + 1] <= row) b++;
        first = query_offsets[b];
        queries = query_offsets[b + 1] - first;
        index = row - first;
    }

    __device__ int64_t row(int split) const { return int64_t(splits) * first + int64_t(split) * queries + index; }
};

/// The context is the mean of those of the splits, weighted by the exponential of log-sum-exp, which is infinite without keys.
__global__ void __launch_bounds__(THREADS) merge(
    const int *query_offsets, int splits, int rows, int heads, int size, const bf16 *parts, const float *part_sums, bf16 *output,
    float *log_sum_exp
) {
    int row = blockIdx.x, head = blockIdx.y * WARPS + warp_index();
    if (head >= heads) return;
    Copies copies(query_offsets, splits, row);
    auto sum_of = [&](int split) {
        float value = part_sums[int64_t(head) * splits * rows + copies.row(split)];
        return value == INFINITY ? -INFINITY : value;
    };
    float most = -INFINITY, total = 0.0f;
    for (int split = 0; split < splits; split++) most = fmaxf(most, sum_of(split));
    bool none = most == -INFINITY;
    for (int split = 0; split < splits && !none; split++) total += expf(sum_of(split) - most);
    int64_t width = int64_t(heads) * size;
    for (int d = lane_index(); d < size; d += WARP) {
        float sum = 0.0f;
        for (int split = 0; split < splits && !none; split++) {
            sum += expf(sum_of(split) - most) * to_float(head_row(parts, width, copies.row(split), head, size)[d]);
        }
        head_row(output, width, row, head, size)[d] = from_float<bf16>(none ? 0.0f : sum / total);
    }
    if (lane_index() == 0) log_sum_exp[int64_t(head) * rows + row] = none ? INFINITY : most + logf(total);
}

/// The gradient of queries is the sum of those of the copies.
__global__ void __launch_bounds__(THREADS)
    add(const int *query_offsets, int splits, int heads, int size, const bf16 *parts, bf16 *sums) {
    int row = blockIdx.x, head = blockIdx.y * WARPS + warp_index();
    if (head >= heads) return;
    Copies copies(query_offsets, splits, row);
    int64_t width = int64_t(heads) * size;
    for (int d = lane_index(); d < size; d += WARP) {
        float sum = 0.0f;
        for (int split = 0; split < splits; split++) {
            sum += to_float(head_row(parts, width, copies.row(split), head, size)[d]);
        }
        head_row(sums, width, row, head, size)[d] = from_float<bf16>(sum);
    }
}

} // namespace

/// parts [splits * rows, H, D] and their log-sum-exp [H, splits * rows]; output [rows, H, D] and log_sum_exp [H, rows].
extern "C" int epitome_attention_merge_splits_bf16(
    const int *query_offsets, int splits, int rows, int heads, int size, const void *parts, const float *part_sums,
    void *output, float *log_sum_exp, cudaStream_t stream
) {
    dim3 grid(rows, ceil_div(heads, WARPS));
    return launch(
        merge, grid, THREADS, 0, stream, query_offsets, splits, rows, heads, size, static_cast<const bf16 *>(parts), part_sums,
        static_cast<bf16 *>(output), log_sum_exp
    );
}

/// parts [splits * rows, H, D]; sums [rows, H, D].
extern "C" int epitome_attention_add_splits_bf16(
    const int *query_offsets, int splits, int rows, int heads, int size, const void *parts, void *sums, cudaStream_t stream
) {
    dim3 grid(rows, ceil_div(heads, WARPS));
    return launch(
        add, grid, THREADS, 0, stream, query_offsets, splits, heads, size, static_cast<const bf16 *>(parts),
        static_cast<bf16 *>(sums)
    );
}
