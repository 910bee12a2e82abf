// Attention of few queries (the beams of a document) to many keys that stay the same from step to step, bf16, head sizes 64 and
// 128. No mask: every query sees all keys of its document.
//
// Bytes: keys and values once, 4 D a key and head: LED-base at 16,384 tokens 50 MB a layer, 15 us at 3.35 TB/s. Two products
// of 16 rows a key tile are far below what the matrix units can do, so this is bound by bytes.
//
// Schedule: the keys of a document are split, so that few documents fill the processor. A block of threads owns a split and up
// to 16 queries; each warp takes every fourth tile of 32 keys through a ring of its own in shared memory, without barriers, and
// the four are merged by their log-sum-exp at the end. Where kernels are started early the first tiles are asked for before the kernel
// that makes the queries has ended. There are as many splits as blocks run at the same time. A second kernel
// merges them, a block a query and head, in an order of their number; it is as long as its loads wait for each other, so it asks for
// all contexts and log-sum-exps at once.

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
    /// Of each warp.
    static constexpr int RING_BYTES = 2 * STAGES * TILE_BYTES;
    static constexpr int SHARED_BYTES = WARPS * RING_BYTES;
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

/// The queries of a block, which begin at `from`, as operands of products; zeros behind the last of `rows`.
template <int D>
__device__ __forceinline__ void load_queries(uint32_t (&registers)[1][D / 16][4], const bf16 *from, int64_t stride, int rows) {
    int row = lane_index() / 4, column = lane_index() % 4 * 2;
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int own = row + i % 2 * 8;
            const bf16 *pair = from + own * stride + 16 * k + i / 2 * 8 + column;
            registers[0][k][i] = own < rows ? *reinterpret_cast<const uint32_t *>(pair) : 0;
        }
    }
}

template <int D>
__global__ void __launch_bounds__(THREADS) memory_attention(Problem problem, Partials partials) {
    using S = Shape<D>;
    ptx::let_next_kernel_start();
    const Plan &plan = problem.plan;
    Block block = plan.query_blocks[blockIdx.x];
    int head = blockIdx.y;
    Document document(plan, block.document);
    int rows = min(ROWS, document.queries - block.first);
    int first_key = block.chunk * plan.chunk, end_key = min(first_key + plan.chunk, document.keys);
    int tiles = ceil_div(end_key - first_key, KEYS);

    unsigned char *memory = dynamic_shared_memory(), *ring = memory + warp_index() * S::RING_BYTES;
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
    // Keys and values are nobody's result, nor is the plan: they lie ready since before the plan did, or the step's words.
    for (int turn = 0; turn < S::STAGES - 1; turn++) copy_tile(turn);
    ptx::wait_for_kernels_before();
    uint32_t registers[1][D / 16][4];
    auto first_query = head_row(
        static_cast<const bf16 *>(problem.q), problem.q_stride, document.first_query + block.first, head, D
    );
    load_queries<D>(registers, first_query, problem.q_stride, rows);

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
    merge_warps<D>(memory, rows, row, problem.heads, head, partials);
}

/// What a thread found of four columns in some of the splits, whose weights are relative to the greatest of their log-sum-exps.
struct Merged {
    float most, total, sums[4];
};

/// The splits `first`, `first + step` and so on, whose partial rows lie `stride` apart. Their numbers are asked for at once, contexts
/// without waiting for weights.
template <int AT_ONCE>
__device__ __forceinline__ Merged merge_every(
    const float *context, const float *log_sum_exp, int64_t context_stride, int64_t stride, int first, int step, int splits
) {
    Merged own{-INFINITY, 0.0f, {}};
    for (; first < splits; first += AT_ONCE * step) {
        float exponents[AT_ONCE];
        uint4 bits[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            int split = first + i * step;
            exponents[i] = split < splits ? log_sum_exp[split * stride] : -INFINITY;
            bits[i] = split < splits ? ptx::load_16(context + split * context_stride) : uint4{0, 0, 0, 0};
        }
        float most = own.most;
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) most = fmaxf(most, exponents[i]);
        float rescale = own.most == -INFINITY ? 0.0f : ptx::exp2_approximate(own.most - most);
        own.most = most;
        own.total *= rescale;
#pragma unroll
        for (int n = 0; n < 4; n++) own.sums[n] *= rescale;
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            float weight = most == -INFINITY ? 0.0f : ptx::exp2_approximate(exponents[i] - most);
            own.total += weight;
#pragma unroll
            for (int n = 0; n < 4; n++) own.sums[n] += weight * reinterpret_cast<const float *>(&bits[i])[n];
        }
    }
    return own;
}

/// Writes column `threadIdx.x` of what all groups of threads found, added in their order.
template <int D, int GROUPS>
__device__ __forceinline__ void merge_groups(const Merged (*groups)[D / 4], bf16 *target) {
    int d = threadIdx.x;
    float most = -INFINITY, total = 0.0f, sum = 0.0f;
#pragma unroll
    for (int group = 0; group < GROUPS; group++) most = fmaxf(most, groups[group][d / 4].most);
#pragma unroll
    for (int group = 0; group < GROUPS; group++) {
        const Merged &part = groups[group][d / 4];
        float weight = part.most == -INFINITY ? 0.0f : ptx::exp2_approximate(part.most - most);
        total += weight * part.total;
        sum += weight * part.sums[d % 4];
    }
    // A document without keys has no splits.
    target[d] = from_float<bf16>(total == 0.0f ? 0.0f : sum / total);
}

/// A block owns a query and head: each group of D / 4 threads, which have four columns each, every so many splits.
template <int D>
__global__ void __launch_bounds__(THREADS, 1) merge_splits(Problem problem, Partials partials, bf16 *output) {
    constexpr int LANES = D / 4, GROUPS = THREADS / LANES, AT_ONCE = 32 / GROUPS;
    __shared__ Merged groups[GROUPS][LANES];
    ptx::let_next_kernel_start();
    const Plan &plan = problem.plan;
    int query = blockIdx.x, head = blockIdx.y, b = 0;
    while (b + 1 < plan.documents && plan.query_offsets[b + 1] <= query) b++;
    int first_query = plan.query_offsets[b], queries = plan.query_offsets[b + 1] - first_query;
    int splits = ceil_div(plan.key_offsets[b + 1] - plan.key_offsets[b], plan.chunk);
    int64_t heads = problem.heads, stride = queries * heads;
    int64_t at = (plan.partial_offsets[b] + query - first_query) * heads + head;
    int group = threadIdx.x / LANES, column = threadIdx.x % LANES;
    ptx::wait_for_kernels_before();
    groups[group][column] = merge_every<AT_ONCE>(
        partials.context + at * D + 4 * column, partials.log_sum_exp + at, stride * D, stride, group, GROUPS, splits
    );
    __syncthreads();
    if (threadIdx.x < D) merge_groups<D, GROUPS>(groups, head_row(output, heads * D, query, head, D));
}

template <int D> int start(const Problem &problem, Partials partials, bf16 *output, cudaStream_t stream) {
    dim3 grid(problem.plan.query_block_count, problem.heads);
    int error = launch_early(memory_attention<D>, grid, THREADS, Shape<D>::SHARED_BYTES, stream, problem, partials);
    if (error != 0) return error;
    dim3 rows(problem.plan.queries, problem.heads);
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
