// The gradients of keys and values on the matrix units of warp groups (wgmma, capability 9.0), bf16 operands, head sizes 64 and
// 128: the formulas of backward_keys_bf16.cu, global keys and their partial sums as there.
//
// Work: four products, 8 D operations a visible pair and head, 103 GFLOP for the layer of forward_bf16.cu: 130 us at 790 TFLOP/s.
//
// Schedule: a block owns 128 keys, each of its two warp groups 64; keys and values are in shared memory, tiles of 64 queries
// arrive two ahead in a ring of four. Scores and gradients of probabilities are started together; probabilities are made while
// the latter goes on, their gradients while the values' product does. With heads of 64 that of the keys ends only while the
// next tile's scores are made, so that the matrix units always have work. One block a multiprocessor.
//
// Warp groups half a tile apart, so that one multiplies while the other makes exponentials, took a tenth longer. So did steps of 32
// queries whose first products are started before the arithmetic of the step before, keys and values in registers: products of 32
// columns are slow. Blocks of threads that stay and copy their next keys during the last tiles took 7 % longer.
//
// Registers, 194 for heads of 64 (232 with dropout), 242 for 128 (255, 12 bytes spilled); shared memory 103,424 and 201,728 bytes.

#include "owned_keys.cuh"
#include "panels.cuh"

namespace {

constexpr int GROUPS = BLOCK / GROUP_ROWS;
constexpr int THREADS = GROUPS * GROUP_THREADS;
constexpr int QUERIES = 64;
constexpr int STAGES = 4;
/// Tiles that are copied before they are needed; the products of the tile before the last may still read its place.
constexpr int AHEAD = STAGES - 2;

template <int D> struct Shape {
    /// Whether the registers of probabilities are others than those of scores, so that the next tile's scores may come while
    /// products of this one's probabilities go on. With 128 numbers dk and dv leave too few.
    static constexpr bool OVERLAPS = D == 64;
    using Keys = Panels<BLOCK, D>;
    using Queries = Panels<QUERIES, D>;
    /// Of each query of a tile: log-sum-exp, delta, and its stream of draws.
    static constexpr int STATISTIC_BYTES = QUERIES * 16;
    static constexpr int STAGE_BYTES = 2 * Queries::BYTES + STATISTIC_BYTES;
    static constexpr int SHARED_BYTES = ptx::SWIZZLE_BYTES + 2 * Keys::BYTES + STAGES * STAGE_BYTES;
    static_assert(STAGE_BYTES % ptx::SWIZZLE_BYTES == 0, "stages follow each other");
};

/// A tile of queries in shared memory.
template <int D> struct Stage {
    typename Shape<D>::Queries queries, gradients;
    float *log_sum_exp, *delta;
    Stream *streams;

    __device__ explicit Stage(unsigned char *memory)
        : queries{memory}, gradients{memory + Shape<D>::Queries::BYTES},
          log_sum_exp(reinterpret_cast<float *>(memory + 2 * Shape<D>::Queries::BYTES)), delta(log_sum_exp + QUERIES),
          streams(reinterpret_cast<Stream *>(delta + QUERIES)) {}
};

template <int D, bool DROPOUT>
__global__ void __launch_bounds__(THREADS, 1) attention_backward_keys(
    Problem problem, const bf16 *gradient, const float *log_sum_exp, const float *delta, Targets targets
) {
    using S = Shape<D>;
    const Plan &plan = problem.plan;
    // After the blocks of keys come those of global keys.
    int global_index = int(blockIdx.x) - plan.key_block_count;
    bool global = global_index >= 0;
    Block block = global ? plan.global_blocks[global_index] : plan.key_blocks[blockIdx.x];
    OwnedKeys<> owned(problem, block, global);
    int group_row = group_index() * GROUP_ROWS;
    OwnedKeys<GROUP_ROWS> own(problem, block, global, group_row);
    int head = blockIdx.y;
    int first_query_row = owned.document.first_query;
    int64_t dense = int64_t(problem.heads) * D;
    int tiles = ceil_div(owned.queries.end - owned.queries.first, QUERIES);

    unsigned char *memory = panel_memory();
    typename S::Keys keys{memory}, values{memory + S::Keys::BYTES};
    auto stage_of = [&](int index) { return Stage<D>(memory + 2 * S::Keys::BYTES + uint32_t(index) % STAGES * S::STAGE_BYTES); };
    int first_in_batch = first_query_row + owned.queries.first, query_count = owned.queries.end - owned.queries.first;
    auto copies_of = [&](const void *rows, int64_t stride) {
        auto first = head_row(static_cast<const bf16 *>(rows), stride, first_in_batch, head, D);
        return RowCopies<THREADS, QUERIES, D>(first, stride, query_count);
    };
    auto queries = copies_of(problem.q, problem.q_stride), gradients_of_outputs = copies_of(gradient, dense);
    int64_t first_statistic = int64_t(head) * plan.queries + first_in_batch;
    const float *own_sums = log_sum_exp + first_statistic, *own_deltas = delta + first_statistic;
    // What follows the last tile is zeros that nobody reads.
    auto copy_tile = [&](int index) {
        Stage<D> stage = stage_of(index);
        queries.start(stage.queries);
        gradients_of_outputs.start(stage.gradients);
        int row = threadIdx.x, query = index * QUERIES + row;
        if (row < QUERIES) {
            // Zeros where there is no query: its gradient is zeros too, so it adds nothing.
            bool exists = query < query_count;
            ptx::copy_async_4(stage.log_sum_exp + row, own_sums + query, exists);
            ptx::copy_async_4(stage.delta + row, own_deltas + query, exists);
            if constexpr (DROPOUT) {
                stage.streams[row] = stream_of(problem.draws, uint32_t(first_in_batch + query) * problem.heads + head);
            }
        }
        ptx::commit_copies();
    };
    copy_panels<THREADS>(keys, [&](int row) {
        return owned.source(row, problem.k, problem.k_stride, head, D);
    });
    copy_panels<THREADS>(values, [&](int row) {
        return owned.source(row, problem.v, problem.v_stride, head, D);
    });
    for (int index = 0; index < AHEAD; index++) copy_tile(index);
    auto arrive = [&] {
        ptx::wait_copies<AHEAD - 1>();
        ptx::fence_copies();
        __syncthreads();
    };
    // Tiles that this warp group only copies.
    auto pass = [&](int first, int end) {
        for (int index = first; index < end; index++) {
            arrive();
            copy_tile(index + AHEAD);
        }
    };

    // Of this warp in its group.
    int first_row = 16 * warp_index() - group_row;
    uint32_t positions[2];
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int row = first_row + fragment_row(0, half);
        positions[half] = DROPOUT && own.exists(row) ? own.position(row) : 0;
    }

    float scores[1][QUERIES / 8][4], gradients[1][QUERIES / 8][4], dk[1][D / 8][4], dv[1][D / 8][4];
    uint32_t weights[QUERIES / 16][4], packed[QUERIES / 16][4];
    clear(dk);
    clear(dv);
    float scale = problem.scale * LOG2_E;
    // After a wait: the products of a tile have left their registers.
    auto settle = [&] {
        ptx::pin(dv[0]);
        ptx::pin(dk[0]);
        ptx::pin(weights);
        ptx::pin(packed);
    };
    // The tiles with queries that see keys of this group.
    int first_tile = min((own.queries.first - owned.queries.first) / QUERIES, tiles);
    int end_tile = max(ceil_div(own.queries.end - owned.queries.first, QUERIES), first_tile);
    if (own.keys.first == own.keys.end) first_tile = end_tile = tiles;
    pass(0, first_tile);
    for (int index = first_tile; index < end_tile; index++) {
        arrive();
        Stage<D> stage = stage_of(index);
        ptx::fence_products();
        start_transposed(scores[0], keys, group_row, stage.queries);
        ptx::commit_products();
        start_transposed(gradients[0], values, group_row, stage.gradients);
        ptx::commit_products();
        copy_tile(index + AHEAD);
        // A bit for each probability of this lane that is kept.
        uint32_t kept_bits = 0;
        if constexpr (DROPOUT) {
#pragma unroll
            for (int i = 0; i < QUERIES / 2; i++) {
                Stream stream = stage.streams[fragment_column(i / 4, i % 2)];
                kept_bits |= uint32_t(kept(problem.draws, stream, positions[i % 4 / 2])) << i;
            }
        }
        auto is_kept = [&](int element) { return !DROPOUT || (kept_bits >> element & 1); };
        ptx::wait_products<1>();
        ptx::pin(scores[0]);
        // All products of the tile before have ended, too.
        if constexpr (S::OVERLAPS) settle();
        int tile_first = owned.queries.first + index * QUERIES;
        if (tile_first < own.common.first || tile_first + QUERIES > own.common.end) {
            hide<1, QUERIES>(scores, -INFINITY, 0, [&](int row) {
                Range seen = own.seen_by(first_row + row);
                return Range{seen.first - tile_first, seen.end - tile_first};
            });
        }
#pragma unroll
        for (int n = 0; n < QUERIES / 8; n++) {
            auto sums = *reinterpret_cast<const float2 *>(stage.log_sum_exp + fragment_column(n, 0));
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float base = LOG2_E * (i % 2 == 0 ? sums.x : sums.y);
                scores[0][n][i] = ptx::exp2_approximate(scale * scores[0][n][i] - base);
            }
        }
        // dv is multiplied by `keep` at the end.
#pragma unroll
        for (int k = 0; k < QUERIES / 16; k++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                int n = 2 * k + i / 2, first = i % 2 * 2, element = 4 * n + first;
                float low = is_kept(element) ? scores[0][n][first] : 0.0f;
                float high = is_kept(element + 1) ? scores[0][n][first + 1] : 0.0f;
                weights[k][i] = ptx::pack_bf16(low, high);
            }
        }
        ptx::pin(weights);
        ptx::pin(dv[0]);
        ptx::fence_products();
        start_product(dv[0], weights, stage.gradients);
        ptx::commit_products();
        ptx::wait_products<1>();
        ptx::pin(gradients[0]);
#pragma unroll
        for (int n = 0; n < QUERIES / 8; n++) {
            auto deltas = *reinterpret_cast<const float2 *>(stage.delta + fragment_column(n, 0));
#pragma unroll
            for (int i = 0; i < 4; i++) {
                float dp = gradients[0][n][i];
                if constexpr (DROPOUT) dp *= is_kept(4 * n + i) ? problem.draws.keep : 0.0f;
                gradients[0][n][i] = scores[0][n][i] * (dp - (i % 2 == 0 ? deltas.x : deltas.y));
            }
        }
        pack(packed, gradients[0]);
        ptx::pin(packed);
        ptx::pin(dk[0]);
        ptx::fence_products();
        start_product(dk[0], packed, stage.queries);
        ptx::commit_products();
        if constexpr (!S::OVERLAPS) {
            ptx::wait_products<0>();
            settle();
        }
    }
    ptx::wait_products<0>();
    ptx::pin(dv[0]);
    ptx::pin(dk[0]);
    pass(end_tile, tiles);
    ptx::wait_copies<0>();

#pragma unroll
    for (int half = 0; half < 2; half++) {
        int row = first_row + fragment_row(0, half);
        if (!own.exists(row)) continue;
        if (global) {
            int64_t at = own.partial_row + row;
            store_row<1, D>(head_row(targets.partial_dk, dense, at, head, D), dk, 0, half, problem.scale);
            store_row<1, D>(head_row(targets.partial_dv, dense, at, head, D), dv, 0, half, problem.draws.keep);
        } else {
            int64_t at = own.document.first_key + own.position(row);
            store_row<1, D>(head_row(targets.dk, problem.k_stride, at, head, D), dk, 0, half, problem.scale);
            store_row<1, D>(head_row(targets.dv, problem.v_stride, at, head, D), dv, 0, half, problem.draws.keep);
        }
    }
}

template <int D>
int start(
    const Problem &problem,
    const bf16 *gradient,
    const float *log_sum_exp,
    const float *delta,
    Targets targets,
    cudaStream_t stream
) {
    auto kernel = problem.draws.threshold == 0 ? attention_backward_keys<D, false> : attention_backward_keys<D, true>;
    dim3 grid(problem.plan.key_block_count + problem.plan.global_block_count, problem.heads);
    return launch(kernel, grid, THREADS, Shape<D>::SHARED_BYTES, stream, problem, gradient, log_sum_exp, delta, targets);
}

} // namespace

/// As epitome_attention_backward_keys_bf16, for processors of capability 9.0.
extern "C" int epitome_attention_backward_keys_warp_group_bf16(
    const Problem *problem,
    const void *gradient,
    const float *log_sum_exp,
    const float *delta,
    void *dk,
    void *dv,
    float *partial_dk,
    float *partial_dv,
    cudaStream_t stream
) {
    auto incoming = static_cast<const bf16 *>(gradient);
    Targets targets{static_cast<bf16 *>(dk), static_cast<bf16 *>(dv), partial_dk, partial_dv};
    if (problem->head_size == 64) return start<64>(*problem, incoming, log_sum_exp, delta, targets, stream);
    if (problem->head_size == 128) return start<128>(*problem, incoming, log_sum_exp, delta, targets, stream);
    return INVALID;
}
