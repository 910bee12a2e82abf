// The gradient of the queries on the matrix units of warp groups (wgmma, capability 9.0), bf16 operands, head sizes 64 and 128:
// the formulas of backward_queries_bf16.cu.
//
// The inner product of each output and its gradient, delta, is made here too, from rows that are on their way in any case.
//
// Work: three products, 6 D operations a visible pair and head, 77 GFLOP for the layer of forward_bf16.cu: 98 us at 790 TFLOP/s.
//
// Schedule: a block owns 128 queries, each of its two warp groups 64; queries and their outputs' gradients are in shared memory,
// tiles of 64 keys and values arrive three ahead in rings of four, copied while products go on. The rounded gradients of scores are
// operand A from registers. Two blocks a multiprocessor, one for heads of 128.
//
// Nearly all tiles are seen by all queries of a warp group. These have a loop of their own: nothing is masked, whether rows to come
// exist is asked once a tile, and the addresses of operands and copies are sums, so that a warp issues 260 instructions for a tile
// (350 with one loop for all tiles). Exponentials come before the wait for the second product. With the last product of a tile the scores of the next
// one are started: while a warp group waits for the former, and starts what it had no registers for before, the latter go on. Few
// global keys, the usual case, are no tile but products of 8 columns and one 16 deep.
//
// Registers, 128 of 128 for heads of 64 (28 bytes spilled that the loop of plain tiles does not use, 40 with dropout), 218 for 128
// (233 with dropout); shared memory 99,328 and 197,632 bytes.

#include "panels.cuh"

namespace {

constexpr int GROUPS = BLOCK / GROUP_ROWS;
constexpr int THREADS = GROUPS * GROUP_THREADS;
constexpr int KEYS = 64;
constexpr int STAGES = 4;

template <int D> struct Shape {
    static constexpr int BLOCKS_PER_PROCESSOR = D == 64 ? 2 : 1;
    using Queries = Panels<BLOCK, D>;
    using Keys = Panels<KEYS, D>;
    static constexpr int SHARED_BYTES = ptx::SWIZZLE_BYTES + 2 * Queries::BYTES + 2 * STAGES * Keys::BYTES;
};

/// What a lane knows of its two rows.
struct Rows {
    /// In units of base 2; plus infinity where there is no query, which makes its probabilities 0.
    float log_sum_exp[2];
    float delta[2];
    Stream streams[1][2];
};

/// A lane's part of the inner product of two rows that four lanes share.
template <int D> __device__ __forceinline__ float quarter_of_product(const bf16 *a, const bf16 *b) {
    float sum = 0.0f;
#pragma unroll
    for (int d = lane_index() % 4 * 8; d < D; d += 32) {
        uint4 left = ptx::load_16(a + d), right = ptx::load_16(b + d);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            sum += to_float(reinterpret_cast<const bf16 *>(&left)[i]) * to_float(reinterpret_cast<const bf16 *>(&right)[i]);
        }
    }
    return sum;
}

template <int D, bool DROPOUT>
__global__ void __launch_bounds__(THREADS, Shape<D>::BLOCKS_PER_PROCESSOR)
    attention_backward_queries(
        Problem problem, const bf16 *output, const bf16 *gradient, const float *log_sum_exp, float *delta, bf16 *dq
    ) {
    using S = Shape<D>;
    Block block = problem.plan.query_blocks[blockIdx.x];
    int head = blockIdx.y;
    Document document(problem.plan, block.document);
    Range queries{block.first, min(block.first + BLOCK, document.queries)};
    int64_t dense = int64_t(problem.heads) * D;
    unsigned char *memory = panel_memory();
    typename S::Queries query_tile{memory}, gradient_tile{memory + S::Queries::BYTES};
    auto copy_queries = [&](typename S::Queries target, const bf16 *rows, int64_t stride) {
        auto first = head_row(rows, stride, document.first_query + queries.first, head, D);
        RowCopies<THREADS, BLOCK, D>(first, stride, queries.end - queries.first).start(target);
    };
    copy_queries(query_tile, static_cast<const bf16 *>(problem.q), problem.q_stride);
    copy_queries(gradient_tile, gradient, dense);
    KeyTiles<KEYS> tiles(document, problem.visibility, queries);
    int own_rows = group_index() * GROUP_ROWS, own_first = queries.first + own_rows;
    // What this warp group needs of the tiles that the block copies.
    Range own_queries{min(own_first, queries.end), min(own_first + GROUP_ROWS, queries.end)};
    KeyTiles<KEYS> own_tiles(tiles, own_queries);
    auto stage = [&](int place) { return typename S::Keys{memory + 2 * S::Queries::BYTES + place * S::Keys::BYTES}; };
    auto key_tile = [&](int index) { return stage(uint32_t(index) % STAGES); };
    auto value_tile = [&](int index) { return stage(STAGES + uint32_t(index) % STAGES); };
    auto keys = own_key_copies<THREADS, D>(tiles, problem.k, problem.k_stride, head);
    auto values = own_key_copies<THREADS, D>(tiles, problem.v, problem.v_stride, head);
    // Of few global keys, the usual case, products of 8 columns and one 16 deep are enough: they have a step of their own.
    bool few = document.global_count > 0 && document.global_count <= FEW;
    // What follows the last tile is zeros on which nothing depends.
    auto copy_tile = [&](int index) {
        if (index >= tiles.global_tiles) {
            keys.start(key_tile(index));
            values.start(value_tile(index));
        } else if (few) {
            copy_few_globals<THREADS>(key_tile(0), tiles, problem.k, problem.k_stride, head);
            copy_few_globals<THREADS>(value_tile(0), tiles, problem.v, problem.v_stride, head);
        } else {
            copy_globals<THREADS>(key_tile(index), tiles, index, problem.k, problem.k_stride, head);
            copy_globals<THREADS>(value_tile(index), tiles, index, problem.v, problem.v_stride, head);
        }
        ptx::commit_copies();
    };
    for (int index = 0; index < STAGES - 1; index++) copy_tile(index);

    int first_row = 16 * warp_index();
    auto query_of = [&](int row) { return queries.first + first_row + row; };
    Rows rows;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int query = query_of(fragment_row(0, half)), row = document.first_query + query;
        bool exists = query < queries.end;
        int64_t at = int64_t(head) * problem.plan.queries + row, first = int64_t(row) * dense + head * D;
        rows.log_sum_exp[half] = exists ? LOG2_E * log_sum_exp[at] : INFINITY;
        rows.delta[half] = exists ? quarter_of_product<D>(output + first, gradient + first) : 0.0f;
        rows.delta[half] = lanes_sum<4>(rows.delta[half]);
        if (exists && lane_index() % 4 == 0) delta[at] = rows.delta[half];
        if constexpr (DROPOUT) rows.streams[0][half] = stream_of(problem.draws, uint32_t(row) * problem.heads + head);
    }

    float scores[1][KEYS / 8][4], gradients[1][KEYS / 8][4], sums[1][D / 8][4];
    uint32_t packed[KEYS / 16][4];
    clear(sums);
    float scale = problem.scale * LOG2_E;
    Range seen = own_tiles.seen_tiles(tiles), plain = agreed(own_tiles.plain_tiles(tiles, 0));
    if (seen.end == 0) plain = seen;
    // Replaces scores by their exponentials.
    auto make_exponentials = [&](auto &scores) {
#pragma unroll
        for (int i = 0; i < int(sizeof(scores[0]) / sizeof(float)); i++) {
            float &score = scores[0][i / 4][i % 4];
            score = ptx::exp2_approximate(scale * score - rows.log_sum_exp[i % 4 / 2]);
        }
    };
    // Of a tile's first COLUMNS: from exponentials and the gradients of probabilities those of scores.
    auto make_gradients = [&](auto &exponentials, auto &gradients, int index) {
        constexpr int COLUMNS = sizeof(gradients[0]) / sizeof(float) * 2;
        if constexpr (DROPOUT) {
            drop<1, COLUMNS>(gradients, problem.draws, rows.streams, own_tiles, tiles.at(index));
        }
#pragma unroll
        for (int i = 0; i < COLUMNS / 2; i++) {
            float dp = gradients[0][i / 4][i % 4];
            if constexpr (DROPOUT) dp *= problem.draws.keep;
            gradients[0][i / 4][i % 4] = exponentials[0][i / 4][i % 4] * (dp - rows.delta[i % 4 / 2]);
        }
    };
    auto pack_gradients = [&] {
        pack(packed, gradients[0]);
        ptx::pin(packed);
        ptx::pin(sums[0]);
    };
    // Waits until all threads have made the step before and the tile of the next one has arrived.
    auto meet = [&] {
        ptx::wait_copies<STAGES - 3>();
        ptx::fence_copies();
        __syncthreads();
    };
    ptx::wait_copies<STAGES - 2>();
    ptx::fence_copies();
    __syncthreads();
    auto own_operand = Operand<BLOCK, D>::of(query_tile, own_rows), own_gradients = Operand<BLOCK, D>::of(gradient_tile, own_rows);
    auto first_keys = Operand<KEYS, D>::of(stage(0), 0);
    unsigned char *own_stage = keys.own_place(stage(0));
    if (few) {
        if (seen.end > 0) {
            float few_scores[1][FEW / 8][4], few_gradients[1][FEW / 8][4];
            ptx::fence_products();
            start_transposed(few_scores[0], own_operand, first_keys);
            start_transposed(few_gradients[0], own_gradients, first_keys.behind(STAGES));
            ptx::commit_products();
            ptx::wait_products<0>();
            ptx::pin(few_scores[0]);
            ptx::pin(few_gradients[0]);
            hide<1, FEW>(few_scores, -INFINITY, 0, [&](int) { return Range{0, document.global_count}; });
            make_exponentials(few_scores);
            make_gradients(few_scores, few_gradients, 0);
            uint32_t few_packed[1][4];
            pack_few(few_packed[0], few_gradients[0][0]);
            ptx::pin(few_packed);
            ptx::pin(sums[0]);
            ptx::fence_products();
            start_product(sums[0], few_packed, first_keys);
            ptx::commit_products();
            ptx::wait_products<0>();
            ptx::pin(sums[0]);
            ptx::pin(few_packed);
        }
        meet();
        copy_tile(STAGES - 1);
    }
    for (int index = few ? 1 : 0; index < tiles.count; index++) {
        if (index >= plain.first && index < plain.end) {
            uint32_t place = uint32_t(index) % STAGES, place_before = uint32_t(index - 1) % STAGES;
            auto right = first_keys.behind(place);
            ptx::fence_products();
            start_transposed(scores[0], own_operand, right);
            ptx::commit_products();
            for (; index < plain.end; index++) {
                ptx::fence_products();
                start_transposed(gradients[0], own_gradients, right.behind(STAGES));
                ptx::commit_products();
                meet();
                if (keys.next_is_whole()) {
                    unsigned char *free = own_stage + place_before * S::Keys::BYTES;
                    keys.start_whole(free);
                    values.start_whole(free + STAGES * S::Keys::BYTES);
                } else {
                    keys.start(key_tile(index + STAGES - 1));
                    values.start(value_tile(index + STAGES - 1));
                }
                ptx::commit_copies();
                place_before = place;
                place = (place + 1) % STAGES;
                ptx::wait_products<1>();
                ptx::pin(scores[0]);
                make_exponentials(scores);
                ptx::come_before_wait(scores[0]);
                ptx::wait_products<0>();
                ptx::pin(gradients[0]);
                make_gradients(scores, gradients, index);
                pack_gradients();
                ptx::pin(scores[0]);
                ptx::fence_products();
                start_product(sums[0], packed, right);
                ptx::commit_products();
                // Of the tile after the last of these nobody looks at the scores.
                right = first_keys.behind(place);
                start_transposed(scores[0], own_operand, right);
                ptx::commit_products();
                ptx::wait_products<1>();
                ptx::pin(sums[0]);
                ptx::pin(packed);
            }
            ptx::wait_products<0>();
            ptx::pin(scores[0]);
            if (index == tiles.count) break;
        }
        meet();
        copy_tile(index + STAGES - 1);
        if (index >= seen.end || (index < seen.first && index >= tiles.global_tiles)) continue;
        ptx::fence_products();
        start_transposed(scores[0], query_tile, own_rows, key_tile(index));
        ptx::commit_products();
        start_transposed(gradients[0], gradient_tile, own_rows, value_tile(index));
        ptx::commit_products();
        ptx::wait_products<1>();
        ptx::pin(scores[0]);
        KeyTile tile = tiles.at(index);
        uint64_t hidden = own_tiles.hidden(tile);
        if (!own_tiles.whole(tile, hidden)) {
            hide<1, KEYS>(scores, -INFINITY, hidden, [&](int row) { return own_tiles.columns(tile, query_of(row)); });
        }
        plain = agreed(own_tiles.plain_tiles(tiles, index + 1));
        ptx::wait_products<0>();
        ptx::pin(gradients[0]);
        make_exponentials(scores);
        make_gradients(scores, gradients, index);
        pack_gradients();
        ptx::fence_products();
        start_product(sums[0], packed, key_tile(index));
        ptx::commit_products();
        ptx::wait_products<0>();
        ptx::pin(sums[0]);
        ptx::pin(packed);
    }
    ptx::wait_copies<0>();

#pragma unroll
    for (int half = 0; half < 2; half++) {
        int query = query_of(fragment_row(0, half));
        if (query >= queries.end) continue;
        bf16 *target = head_row(dq, problem.q_stride, document.first_query + query, head, D);
        store_row<1, D>(target, sums, 0, half, problem.scale);
    }
}

template <int D>
int start(
    const Problem &problem, const bf16 *output, const bf16 *gradient, const float *log_sum_exp, float *delta, bf16 *dq,
    cudaStream_t stream
) {
    auto kernel = problem.draws.threshold == 0 ? attention_backward_queries<D, false> : attention_backward_queries<D, true>;
    dim3 grid(problem.plan.query_block_count, problem.heads);
    return launch(kernel, grid, THREADS, Shape<D>::SHARED_BYTES, stream, problem, output, gradient, log_sum_exp, delta, dq);
}

} // namespace

/// As epitome_attention_backward_queries_bf16, for processors of capability 9.0.
extern "C" int epitome_attention_backward_queries_warp_group_bf16(
    const Problem *problem, const void *output, const void *gradient, const float *log_sum_exp, float *delta, void *dq,
    cudaStream_t stream
) {
    auto attended = static_cast<const bf16 *>(output), incoming = static_cast<const bf16 *>(gradient);
    auto target = static_cast<bf16 *>(dq);
    if (problem->head_size == 64) return start<64>(*problem, attended, incoming, log_sum_exp, delta, target, stream);
    if (problem->head_size == 128) return start<128>(*problem, attended, incoming, log_sum_exp, delta, target, stream);
    return INVALID;
}
