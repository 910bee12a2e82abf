// Attention of few queries (the beams of a document) to many keys that stay the same from step to step, bf16, head sizes 64 and
// 128. No mask: every query sees all keys of its document.
//
// Bytes: keys and values once, 4 D a key and head: LED-base at 16,384 tokens 50 MB a layer, 15 us at 3.35 TB/s. Two products
// of 16 rows a key tile are far below what the matrix units can do, so this is bound by bytes.
//
// Schedule: the keys of a document are split, so that few documents fill the processor. A block of threads owns a split and up
// to 16 queries; each warp takes every fourth tile of 32 keys through a ring of its own in shared memory, without barriers, and
// the four are merged by their log-sum-exp at the end; a second kernel merges the splits, in order. There are as many splits as
// blocks run at the same time.

#include "../attention/fragments.cuh"
#include "../attention/softmax.cuh"

namespace {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
/// Queries of a block: a fragment.
constexpr int ROWS = 16;
constexpr int KEYS = 32;

template <int D> struct Shape {
    static constexpr int STAGES = D == 64 ? 3 : 2;
    static constexpr int TILE_BYTES = KEYS * Tile<D>::ROW_BYTES;
    static constexpr int QUERY_BYTES = ROWS * Tile<D>::ROW_BYTES;
    /// Of each warp.
    static constexpr int RING_BYTES = 2 * STAGES * TILE_BYTES;
    static constexpr int SHARED_BYTES = QUERY_BYTES + WARPS * RING_BYTES;
    static_assert(RING_BYTES >= ROWS * (D + 1) * 4, "a warp's result takes the place of its ring");
};

/// What the splits found, [partial rows, H]: the weighted mean of their values [D], and log-sum-exp in base 2.
struct Partials {
    float *context, *log_sum_exp;
};

/// The partial row of a query in a split.
__device__ __forceinline__ int64_t partial_row(const Plan &plan, int document, int split, int query) {
    int queries = plan.query_offsets[document + 1] - plan.query_offsets[document];
    return plan.partial_offsets[document] + int64_t(split) * queries + query;
}

/// Merges what the warps left in shared memory, [ROWS, D] of each and then its log-sum-exps, a column a thread.
template <int D>
__device__ void merge_warps(const unsigned char *rings, int rows, int64_t row, int64_t heads, int head, Partials partials) {
    auto ring = [&](int warp) { return reinterpret_cast<const float *>(rings + warp * Shape<D>::RING_BYTES); };
    for (int index = threadIdx.x; index < rows * D; index += THREADS) {
        int query = index / D, d = index % D;
        float most = -INFINITY, total = 0.0f, sum = 0.0f;
        for (int warp = 0; warp < WARPS; warp++) most = fmaxf(most, ring(warp)[ROWS * D + query]);
        for (int warp = 0; warp < WARPS; warp++) {
            float weight = ptx::exp2_approximate(ring(warp)[ROWS * D + query] - most);
            total += weight;
            sum += weight * ring(warp)[query * D + d];
        }
        int64_t at = (row + query) * heads + head;
        partials.context[at * D + d] = sum / total;
        if (d == 0) partials.log_sum_exp[at] = most + log2f(total);
    }
}

template <int D>
__global__ void __launch_bounds__(THREADS) memory_attention(Problem problem, Partials partials) {
    using S = Shape<D>;
    ptx::let_next_kernel_start();
    ptx::wait_for_kernels_before();
    const Plan &plan = problem.plan;
    Block block = plan.query_blocks[blockIdx.x];
    int head = blockIdx.y;
    Document document(plan, block.document);
    int rows = min(ROWS, document.queries - block.first);
    int first_key = block.chunk * plan.chunk, end_key = min(first_key + plan.chunk, document.keys);
    int tiles = ceil_div(end_key - first_key, KEYS);

    unsigned char *memory = dynamic_shared_memory(), *ring = memory + S::QUERY_BYTES + warp_index() * S::RING_BYTES;
    Tile<D> queries{memory};
    auto tile_at = [&](int place) { return Tile<D>{ring + place * S::TILE_BYTES}; };
    // Tile `turn` of this warp.
    auto copy_tile = [&](int turn) {
        int first = first_key + (turn * WARPS + warp_index()) * KEYS, place = 2 * (turn % S::STAGES);
        auto copy = [&](Tile<D> tile, const void *values, int64_t stride) {
            auto numbers = static_cast<const bf16 *>(values);
            copy_rows<KEYS, WARP>(
                tile,
                [&](int row) {
                    if (first + row >= end_key) return Source{numbers, false};
                    return Source{head_row(numbers, stride, document.first_key + first + row, head, D), true};
                },
                lane_index()
            );
        };
        if (first < end_key) {
            copy(tile_at(place), problem.k, problem.k_stride);
            copy(tile_at(place + 1), problem.v, problem.v_stride);
        }
        ptx::commit_copies();
    };
    copy_rows<ROWS, THREADS>(queries, [&](int row) {
        auto numbers = static_cast<const bf16 *>(problem.q);
        if (row >= rows) return Source{numbers, false};
        return Source{head_row(numbers, problem.q_stride, document.first_query + block.first + row, head, D), true};
    });
    for (int turn = 0; turn < S::STAGES - 1; turn++) copy_tile(turn);
    ptx::wait_copies<S::STAGES - 2>();
    __syncthreads();
    uint32_t registers[1][D / 16][4];
    load_a_rows<1>(registers, queries, 0);

    float context[1][D / 8][4];
    clear(context);
    Softmax<1> softmax;
    for (int turn = 0; turn * WARPS + warp_index() < tiles; turn++) {
        ptx::wait_copies<S::STAGES - 2>();
        // All lanes' copies have come, and all lanes have left the tile whose place the next one takes.
        __syncwarp();
        copy_tile(turn + S::STAGES - 1);
        int first = first_key + (turn * WARPS + warp_index()) * KEYS, place = 2 * (turn % S::STAGES);
        float scores[1][KEYS / 8][4];
        clear(scores);
        multiply_transposed<1, KEYS>(scores, registers, tile_at(place), 0);
        if (first + KEYS > end_key) hide<1, KEYS>(scores, -INFINITY, 0, [&](int) { return Range{0, end_key - first}; });
        softmax.add(scores, problem.scale * LOG2_E);
        softmax.renew(context);
        multiply<1, KEYS>(context, scores, tile_at(place + 1), 0);
    }
    ptx::wait_copies<0>();
    __syncwarp();

    float *result = reinterpret_cast<float *>(ring);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int row = fragment_row(0, half);
        float sum = lanes_sum<4>(softmax.sum[0][half]);
        store_row<1, D>(result + row * D, context, 0, half, sum == 0.0f ? 0.0f : 1.0f / sum);
        float scaled = problem.scale * LOG2_E * softmax.maximum[0][half];
        result[ROWS * D + row] = sum == 0.0f ? -INFINITY : scaled + log2f(sum);
    }
    __syncthreads();
    int64_t row = partial_row(plan, block.document, block.chunk, block.first);
    merge_warps<D>(memory + S::QUERY_BYTES, rows, row, problem.heads, head, partials);
}

/// A warp owns a query and head, its lanes the splits, whose weights they find together, and then the columns.
template <int D>
__global__ void __launch_bounds__(THREADS) merge_splits(Problem problem, Partials partials, bf16 *output) {
    ptx::let_next_kernel_start();
    ptx::wait_for_kernels_before();
    const Plan &plan = problem.plan;
    int query = blockIdx.x, head = blockIdx.y * WARPS + warp_index(), b = 0;
    if (head >= problem.heads) return;
    while (plan.query_offsets[b + 1] <= query) b++;
    Document document(plan, b);
    int splits = ceil_div(document.keys, plan.chunk);
    auto at = [&](int split) {
        return partial_row(plan, b, split, query - document.first_query) * problem.heads + head;
    };
    auto log_sum_exp = [&](int split) { return split < splits ? partials.log_sum_exp[at(split)] : -INFINITY; };
    float most = -INFINITY, total = 0.0f, sums[D / WARP] = {};
    for (int split = lane_index(); split < splits; split += WARP) most = fmaxf(most, log_sum_exp(split));
    most = lanes_max(most);
    for (int first = 0; first < splits; first += WARP) {
        float own = ptx::exp2_approximate(log_sum_exp(first + lane_index()) - most);
        total += own;
        int count = min(WARP, splits - first);
#pragma unroll 4
        for (int n = 0; n < count; n++) {
            float weight = __shfl_sync(ALL_LANES, own, n);
            const float *context = partials.context + at(first + n) * D;
#pragma unroll
            for (int i = 0; i < D / WARP; i++) sums[i] += weight * context[i * WARP + lane_index()];
        }
    }
    total = lanes_sum(total);
    bf16 *target = head_row(output, int64_t(problem.heads) * D, query, head, D);
#pragma unroll
    for (int i = 0; i < D / WARP; i++) {
        target[i * WARP + lane_index()] = from_float<bf16>(splits == 0 ? 0.0f : sums[i] / total);
    }
}

template <int D> int start(const Problem &problem, Partials partials, bf16 *output, cudaStream_t stream) {
    dim3 grid(problem.plan.query_block_count, problem.heads);
    int error = launch_early(memory_attention<D>, grid, THREADS, Shape<D>::SHARED_BYTES, stream, problem, partials);
    if (error != 0) return error;
    dim3 rows(problem.plan.queries, ceil_div(problem.heads, WARPS));
    return launch_early(merge_splits<D>, rows, THREADS, 0, stream, problem, partials, output);
}

} // namespace

/// The plan is that of `Plan::memory`. output [R, H, D] bf16; partial sums [partial rows, H, D] and [partial rows, H].
extern "C" int epitome_memory_attention_bf16(
    const Problem *problem, float *partial_context, float *partial_log_sum_exp, void *output, cudaStream_t stream
) {
    Partials partials{partial_context, partial_log_sum_exp};
    auto target = static_cast<bf16 *>(output);
    if (problem->head_size == 64) return start<64>(*problem, partials, target, stream);
    if (problem->head_size == 128) return start<128>(*problem, partials, target, stream);
    return INVALID;
}
