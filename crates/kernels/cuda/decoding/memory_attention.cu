// Attention of few queries (the beams of a document) to many keys that stay the same from step to step, bf16, head sizes 64 and
// 128. No mask: every query sees all keys of its document.
//
// Bytes: keys and values once, 4 D a key and head: LED-base at 16,384 tokens 50 MB a layer, 15 us at 3.35 TB/s. Two products
// of 16 rows a key tile are far below what the matrix units can do, so this is bound by bytes.
//
// Schedule: the keys of a document are split, so that few documents fill the processor. A block of threads owns a split and up
// to 16 queries; each warp takes every fourth tile of 32 keys through a ring of its own in shared memory, without barriers, and
// the four are merged by their log-sum-exp at the end. A ring is full but for the tile that is being multiplied: where kernels are
// started early all of it is asked for before the kernel that makes the queries has ended. There are as many splits as blocks run at
// the same time. Blocks of the same queries and head count themselves when what they found is written, and the last to come merges all
// in an order of their number: a warp a query, whose loads do not wait for each other.
//
// Heads of 64: 127 registers, 96 KiB of shared memory a block, two blocks a processor; heads of 128: 180 registers, 128 KiB, one block.

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

/// What the splits found, [partial rows, H]: the weighted mean of their values [D], and log-sum-exp in base 2. How many have come to
/// each block of queries and head is counted where its first split has its place, [query blocks, H].
struct Partials {
    float *context, *log_sum_exp;
    int *arrivals;
};

/// Merges what the warps left in shared memory, [ROWS, D] of each and then its log-sum-exps, a column a thread.
template <int D>
__device__ void merge_warps(const unsigned char *rings, int rows, int64_t row, int64_t heads, int head, Partials partials) {
    auto ring = [&](int warp) { return reinterpret_cast<const float *>(rings + warp * Shape<D>::RING_BYTES); };
    for (int index = threadIdx.x; index < rows * D; index += THREADS) {
        int query = index / D, d = index % D;
        float most = -INFINITY, total = 0.0f, sum = 0.0f;
        for (int warp = 0; warp < WARPS; warp++) most = fmaxf(most, ring(warp)[ROWS * D + query]);
        // Where a warp found nothing its weight is 0, and what is no number stays none.
        float base = most == -INFINITY ? 0.0f : most;
        for (int warp = 0; warp < WARPS; warp++) {
            float weight = ptx::exp2_approximate(ring(warp)[ROWS * D + query] - base);
            total += weight;
            sum += weight * ring(warp)[query * D + d];
        }
        int64_t at = (row + query) * heads + head;
        // A document without keys has one split, which finds nothing.
        partials.context[at * D + d] = total == 0.0f ? 0.0f : sum * ptx::reciprocal_approximate(total);
        if (d == 0) partials.log_sum_exp[at] = most + log2f(total);
    }
}

/// What a thread found of four columns in some of the splits, whose weights are relative to the greatest of their log-sum-exps.
struct Merged {
    float most, total, sums[4];

    /// Adds what the lane found whose number differs in `mask`; of a pair both find the same but for rounding.
    __device__ __forceinline__ void add_lane(int mask) {
        float other_most = __shfl_xor_sync(ALL_LANES, most, mask), greatest = fmaxf(most, other_most);
        float base = greatest == -INFINITY ? 0.0f : greatest;
        float weight = ptx::exp2_approximate(most - base), other_weight = ptx::exp2_approximate(other_most - base);
        most = greatest;
        total = weight * total + other_weight * __shfl_xor_sync(ALL_LANES, total, mask);
#pragma unroll
        for (int n = 0; n < 4; n++) sums[n] = weight * sums[n] + other_weight * __shfl_xor_sync(ALL_LANES, sums[n], mask);
    }
};

/// The splits `first`, `first + step` and so on, whose numbers lie `stride` rows of D apart. They are asked for at once, contexts without
/// waiting for weights; behind the last that one again.
template <int D, int AT_ONCE>
__device__ __forceinline__ Merged
merge_every(const float *context, const float *log_sum_exp, int stride, int first, int step, int splits) {
    Merged own{-INFINITY, 0.0f, {}};
    for (; first < splits; first += AT_ONCE * step) {
        float exponents[AT_ONCE];
        uint4 bits[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            int64_t row = int64_t(min(first + i * step, splits - 1)) * stride;
            exponents[i] = ptx::load_4_here(log_sum_exp + row);
            bits[i] = ptx::load_16_here(context + row * D);
        }
        float most = own.most;
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            if (first + i * step >= splits) exponents[i] = -INFINITY;
            most = fmaxf(most, exponents[i]);
        }
        float base = most == -INFINITY ? 0.0f : most, rescale = ptx::exp2_approximate(own.most - base);
        own.most = most;
        own.total *= rescale;
#pragma unroll
        for (int n = 0; n < 4; n++) own.sums[n] *= rescale;
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            float weight = ptx::exp2_approximate(exponents[i] - base);
            own.total += weight;
#pragma unroll
            for (int n = 0; n < 4; n++) own.sums[n] += weight * reinterpret_cast<const float *>(&bits[i])[n];
        }
    }
    return own;
}

/// Merges what all splits found of `rows` queries, whose partial rows begin at `row` and of a split with those of `queries`: a warp a
/// query, each group of its D / 4 lanes, which have four columns each, every so many splits.
template <int D>
__device__ __forceinline__ void merge_splits(
    const Partials &partials, int rows, int64_t row, int queries, int splits, int heads, int head, bf16 *output
) {
    constexpr int LANES = D / 4, GROUPS = WARP / LANES, AT_ONCE = 16;
    int group = lane_index() / LANES, column = lane_index() % LANES;
    for (int query = warp_index(); query < rows; query += WARPS) {
        int64_t at = (row + query) * heads + head;
        Merged own = merge_every<D, AT_ONCE>(
            partials.context + at * D + 4 * column, partials.log_sum_exp + at, queries * heads, group, GROUPS, splits
        );
#pragma unroll
        for (int mask = LANES; mask < WARP; mask *= 2) own.add_lane(mask);
        if (group > 0) continue;
        float factor = own.total == 0.0f ? 0.0f : ptx::reciprocal_approximate(own.total);
        auto target = reinterpret_cast<uint32_t *>(head_row(output, int64_t(heads) * D, query, head, D) + 4 * column);
        target[0] = ptx::pack_bf16(factor * own.sums[0], factor * own.sums[1]);
        target[1] = ptx::pack_bf16(factor * own.sums[2], factor * own.sums[3]);
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
__global__ void __launch_bounds__(THREADS) memory_attention(Problem problem, Partials partials, bf16 *output) {
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
    int64_t first_partial = plan.partial_offsets[block.document] + block.first;
    int splits = max(1, ceil_div(document.keys, plan.chunk));
    // Keys and values are nobody's result, nor is the plan: they lie ready since before the plan did, or the step's words.
    for (int turn = 0; turn < S::STAGES; turn++) copy_tile(turn);
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
        ptx::wait_copies<S::STAGES - 1>();
        // All lanes' copies have come.
        __syncwarp();
        int first = first_key + (turn * WARPS + warp_index()) * KEYS, place = 2 * (turn % S::STAGES);
        float scores[1][KEYS / 8][4];
        clear(scores);
        multiply_transposed<1, KEYS>(scores, registers, tile_at(place), 0);
        if (first + KEYS > end_key) hide<1, KEYS>(scores, -INFINITY, 0, [&](int) { return Range{0, end_key - first}; });
        softmax.add(scores, problem.scale * LOG2_E);
        softmax.renew(context);
        multiply<1, KEYS>(context, scores, tile_at(place + 1), 0);
        // All lanes have left the tile whose place another takes.
        __syncwarp();
        copy_tile(turn + S::STAGES);
    }
    ptx::wait_copies<0>();
    __syncwarp();

    float *result = reinterpret_cast<float *>(ring);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int row = fragment_row(0, half);
        float sum = lanes_sum<4>(softmax.sum[0][half]);
        store_row<1, D>(result + row * D, context, 0, half, sum == 0.0f ? 0.0f : ptx::reciprocal_approximate(sum));
        float scaled = problem.scale * LOG2_E * softmax.maximum[0][half];
        result[ROWS * D + row] = sum == 0.0f ? -INFINITY : scaled + log2f(sum);
    }
    __syncthreads();
    int heads = problem.heads;
    merge_warps<D>(memory, rows, first_partial + int64_t(block.chunk) * document.queries, heads, head, partials);

    __shared__ bool is_last;
    __syncthreads();
    if (threadIdx.x == 0) {
        is_last = ptx::count_arrival(&partials.arrivals[(int64_t(blockIdx.x) - block.chunk) * heads + head], splits);
    }
    __syncthreads();
    if (!is_last) return;
    bf16 *target = output + (int64_t(document.first_query) + block.first) * heads * D;
    merge_splits<D>(partials, rows, first_partial, document.queries, splits, heads, head, target);
}

template <int D> int start(const Problem &problem, Partials partials, bf16 *output, cudaStream_t stream) {
    dim3 grid(problem.plan.query_block_count, problem.heads);
    return launch_early(
        memory_attention<D>, grid, THREADS, Shape<D>::SHARED_BYTES, stream, problem, partials, output
    );
}

} // namespace

/// The plan is that of `Plan::memory`. output [R, H, D] bf16; partial sums [partial rows, H, D] and [partial rows, H]; arrivals
/// [query blocks, H], zeros before and after.
extern "C" int epitome_memory_attention_bf16(
    const Problem *problem, float *partial_context, float *partial_log_sum_exp, int *arrivals, void *output, cudaStream_t stream
) {
    Partials partials{partial_context, partial_log_sum_exp, arrivals};
    auto target = static_cast<bf16 *>(output);
    if (problem->head_size == 64) return start<64>(*problem, partials, target, stream);
    if (problem->head_size == 128) return start<128>(*problem, partials, target, stream);
    return INVALID;
}
