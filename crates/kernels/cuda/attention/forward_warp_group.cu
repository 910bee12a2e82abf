// Attention forward on the matrix units of warp groups (wgmma, capability 9.0), bf16 operands, f32 sums, head sizes 64 and 128:
// FlashAttention-3 (Shah et al., 2024) with asynchronous copies of 16 bytes, over the tiles of forward_bf16.cu.
//
// Work, bytes and floor: those of forward_bf16.cu, 51.6 GFLOP and 65 us for the layer there. Of its 1,025 keys a query tiles
// make 1,088: 17 tiles of the band for each 64 queries, and 16 columns for the global key. With heads of 64 there is an exponential for 256
// operations; a multiprocessor makes 16 of those and 4,096 of these a clock, so that both take as long and have to go on
// together.
//
// Schedule: a block owns 128 queries of one document and head, each of its two warp groups 64, in registers but for heads of 64
// with dropout, which leave none for them. Tiles of 64 keys and values arrive in rings of five, two by two: one barrier for two
// tiles, between which warp groups need not keep step. A warp group starts the scores of a tile, then the weighted sum of the tile
// before, meets the other while these go on, copies its part of tiles to come, and makes the softmax while the sum goes on;
// probabilities are operand A from registers. A warp group leaves out tiles that it does not see. Few global keys, the usual case,
// are no tile but a product of 8 columns and one 16 deep. Two blocks a multiprocessor, one for heads of 128.
//
// Nearly all tiles are seen by all queries of a warp group. These have a loop of their own: nothing is masked, the maximum is the
// known one, which fails seldom, whether rows to come exist is asked once a tile, and the addresses of operands and copies are sums.
// What a warp issues counts most, and it issues some 195 instructions for such a tile, of which the exponentials and their sums are
// the half; with one loop for all tiles it was 305, and with products of 64 bits and masks of every tile 370, which was 12 % slower
// than that. For the same reason an eighth of the exponentials by a polynomial, which the units for exponentials would not have to
// make, took an eighth longer.
//
// Registers, 128 of 128 for heads of 64 (32 bytes spilled that the loop of plain tiles does not use; with dropout 28), 221 for 128
// (229 with dropout); shared memory 99,328 and 197,632 bytes.

#include "panels.cuh"
#include "softmax.cuh"

namespace {

constexpr int GROUPS = BLOCK / GROUP_ROWS;
constexpr int THREADS = GROUPS * GROUP_THREADS;
constexpr int KEYS = 64;

template <int D, bool DROPOUT> struct Shape {
    static constexpr int BLOCKS_PER_PROCESSOR = D == 64 ? 2 : 1;
    static constexpr int STAGES = 5;
    /// Two blocks leave no registers for the queries and for what draws take. From shared memory products of 64 columns read as
    /// much of the queries as of the keys: all that it can give while they go on.
    static constexpr bool QUERIES_IN_REGISTERS = D == 128 || !DROPOUT;
    using Queries = Panels<BLOCK, D>;
    using Keys = Panels<KEYS, D>;
    static constexpr int SHARED_BYTES = ptx::SWIZZLE_BYTES + Queries::BYTES + 2 * STAGES * Keys::BYTES;
};

template <int D, bool DROPOUT>
__global__ void __launch_bounds__(THREADS, Shape<D, DROPOUT>::BLOCKS_PER_PROCESSOR)
    attention_forward(Problem problem, bf16 *output, float *log_sum_exp) {
    using S = Shape<D, DROPOUT>;
    constexpr int STAGES = S::STAGES;
    Block block = problem.plan.query_blocks[blockIdx.x];
    int head = blockIdx.y;
    Document document(problem.plan, block.document);
    Range queries{block.first, min(block.first + BLOCK, document.queries)};
    unsigned char *memory = panel_memory();
    typename S::Queries query_tile{memory};
    auto first_query = head_row(
        static_cast<const bf16 *>(problem.q), problem.q_stride, document.first_query + queries.first, head, D
    );
    RowCopies<THREADS, BLOCK, D>(first_query, problem.q_stride, queries.end - queries.first).start(query_tile);
    KeyTiles<KEYS> tiles(document, problem.visibility, queries);
    int own_rows = group_index() * GROUP_ROWS, own_first = queries.first + own_rows;
    // What this warp group needs of the tiles that the block copies.
    Range own_queries{min(own_first, queries.end), min(own_first + GROUP_ROWS, queries.end)};
    KeyTiles<KEYS> own_tiles(tiles, own_queries);

    auto stage = [&](int place) { return typename S::Keys{memory + S::Queries::BYTES + place * S::Keys::BYTES}; };
    auto key_tile = [&](int index) { return stage(uint32_t(index) % STAGES); };
    // One place on, so that the places of a step's keys and values are the same.
    auto value_tile = [&](int index) { return stage(STAGES + uint32_t(index + 1) % STAGES); };
    auto keys = own_key_copies<THREADS, D>(tiles, problem.k, problem.k_stride, head);
    auto values = own_key_copies<THREADS, D>(tiles, problem.v, problem.v_stride, head);
    // Values are needed one step after their keys, and so are their places. What follows the last tile is zeros that nobody reads.
    // Of few global keys, the usual case, a product of 8 columns and one 16 deep are enough: they have a step of their own.
    bool few = document.global_count > 0 && document.global_count <= FEW;
    auto copy_step = [&](int index) {
        if (index >= tiles.global_tiles) {
            keys.start(key_tile(index));
        } else if (few) {
            copy_few_globals<THREADS>(key_tile(0), tiles, problem.k, problem.k_stride, head);
        } else {
            copy_globals<THREADS>(key_tile(index), tiles, index, problem.k, problem.k_stride, head);
        }
        if (index > tiles.global_tiles) {
            values.start(value_tile(index - 1));
        } else if (index == 1 && few) {
            copy_few_globals<THREADS>(value_tile(0), tiles, problem.v, problem.v_stride, head);
        } else if (index > 0) {
            copy_globals<THREADS>(value_tile(index - 1), tiles, index - 1, problem.v, problem.v_stride, head);
        }
    };
    // What every second step copies: that of two steps to come.
    auto copy_steps = [&](int index) {
        copy_step(index + 3);
        copy_step(index + 4);
        ptx::commit_copies();
    };
    copy_step(0);
    copy_step(1);
    ptx::commit_copies();
    copy_step(2);
    ptx::commit_copies();

    int first_row = 16 * warp_index();
    auto query_of = [&](int row) { return queries.first + first_row + row; };
    ptx::wait_copies<1>();
    ptx::fence_copies();
    __syncthreads();
    uint32_t registers[1][D / 16][4];
    if constexpr (S::QUERIES_IN_REGISTERS) load_a_rows<1>(registers, query_tile, first_row);
    Stream streams[1][2];
    if constexpr (DROPOUT) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            uint32_t row = document.first_query + query_of(fragment_row(0, half));
            streams[0][half] = stream_of(problem.draws, row * problem.heads + head);
        }
    }

    float scores[1][KEYS / 8][4], context[1][D / 8][4];
    uint32_t probabilities[KEYS / 16][4];
    clear(context);
    Softmax<1> softmax;
    float scale = problem.scale * LOG2_E;
    // The keys of step `index` and the values of the one before are at the same place, `index` % STAGES.
    auto own_operand = Operand<BLOCK, D>::of(query_tile, own_rows);
    auto first_keys = Operand<KEYS, D>::of(stage(0), 0);
    auto start_scores = [&](uint32_t place) {
        if constexpr (S::QUERIES_IN_REGISTERS) {
            start_transposed(scores[0], registers[0], first_keys.behind(place));
        } else {
            start_transposed(scores[0], own_operand, first_keys.behind(place));
        }
        ptx::commit_products();
    };
    auto start_context = [&](uint32_t place) {
        start_product(context[0], probabilities, first_keys.behind(STAGES + place));
        ptx::commit_products();
    };
    Range seen = own_tiles.seen_tiles(tiles), plain = agreed(own_tiles.plain_tiles(tiles, 0));
    // A warp that the known maximum fails makes its scores again: products of warp groups take all four warps.
    auto make_scores_again = [&](int index) {
        clear(scores);
        if constexpr (S::QUERIES_IN_REGISTERS) {
            multiply_transposed<1, KEYS>(scores, registers, key_tile(index), 0);
        } else {
            multiply_transposed<1, KEYS>(scores, query_tile, first_row, key_tile(index), 0);
        }
    };
    // Of any tile but those of the loop of their own.
    auto weigh = [&](int index) {
        KeyTile tile = tiles.at(index);
        uint64_t hidden = own_tiles.hidden(tile);
        if (!own_tiles.whole(tile, hidden)) {
            hide<1, KEYS>(scores, -INFINITY, hidden, [&](int row) { return own_tiles.columns(tile, query_of(row)); });
        }
        plain = agreed(own_tiles.plain_tiles(tiles, index + 1));
        softmax.add(scores, scale, 0.0f);
    };
    // In every second step: waits until what the next two read has arrived and all threads have made those before, whose places are
    // free then.
    auto meet = [&] {
        ptx::wait_copies<0>();
        ptx::fence_copies();
        __syncthreads();
    };
    unsigned char *own_stage = keys.own_place(stage(0));
    // Whether this warp group sees a tile.
    auto sees = [&](int index) { return index >= 0 && index < seen.end && (index >= seen.first || index < tiles.global_tiles); };
    auto make_probabilities = [&](int index) {
        if constexpr (DROPOUT) drop<1, KEYS>(scores, problem.draws, streams, own_tiles, tiles.at(index));
        pack(probabilities, scores[0]);
        ptx::pin(context[0]);
        ptx::pin(probabilities);
    };
    if (few) {
        if (sees(0)) {
            float few_scores[1][FEW / 8][4];
            uint32_t few_probabilities[1][4];
            ptx::fence_products();
            if constexpr (S::QUERIES_IN_REGISTERS) {
                start_transposed(few_scores[0], registers[0], first_keys);
            } else {
                start_transposed(few_scores[0], own_operand, first_keys);
            }
            ptx::commit_products();
            ptx::wait_products<0>();
            ptx::pin(few_scores[0]);
            hide<1, FEW>(few_scores, -INFINITY, 0, [&](int) { return Range{0, document.global_count}; });
            softmax.add(few_scores, scale);
            if constexpr (DROPOUT) drop<1, FEW>(few_scores, problem.draws, streams, own_tiles, tiles.at(0));
            pack_few(few_probabilities[0], few_scores[0][0]);
            ptx::pin(context[0]);
            ptx::pin(few_probabilities);
            ptx::fence_products();
            start_product(context[0], few_probabilities, first_keys.behind(STAGES + 1));
            ptx::commit_products();
            ptx::wait_products<0>();
            ptx::pin(context[0]);
            ptx::pin(few_probabilities);
        }
        meet();
        copy_steps(0);
    }
    // Step 0 has been made where global keys are few.
    for (int index = few ? 1 : 0; index <= tiles.count; index++) {
        // Also behind the loop of plain tiles, whose last one then was the tile before.
        bool pending = sees(index - 1) && !(few && index == 1);
        if (pending && index >= plain.first) {
            uint32_t place = uint32_t(index) % STAGES;
            for (; index < plain.end; index++) {
                ptx::fence_products();
                start_scores(place);
                start_context(place);
                if (index % 2 == 0) {
                    meet();
#pragma unroll
                    for (uint32_t step = 3; step <= 4; step++) {
                        if (keys.next_is_whole()) {
                            unsigned char *free = own_stage + (place + step) % STAGES * S::Keys::BYTES;
                            keys.start_whole(free);
                            values.start_whole(free + STAGES * S::Keys::BYTES);
                        } else {
                            keys.start(key_tile(index + step));
                            values.start(value_tile(index + step - 1));
                        }
                    }
                    ptx::commit_copies();
                }
                place = (place + 1) % STAGES;
                ptx::wait_products<1>();
                ptx::pin(scores[0]);
                if (!softmax.add_by_known(scores, scale)) {
                    make_scores_again(index);
                    // The known maximum is then as good as it can be, for the tiles to come.
                    softmax.add(scores, scale, 0.0f);
                }
                ptx::wait_products<0>();
                ptx::pin(context[0]);
                ptx::pin(probabilities);
                softmax.renew(context);
                make_probabilities(index);
            }
        }
        bool current = sees(index);
        if (index % 2 == 0) {
            meet();
            copy_steps(index);
        }
        if (current && pending) {
            ptx::fence_products();
            start_scores(uint32_t(index) % STAGES);
            start_context(uint32_t(index) % STAGES);
            ptx::wait_products<1>();
            ptx::pin(scores[0]);
            weigh(index);
            ptx::come_before_wait(softmax.sum[0][0] + softmax.sum[0][1]);
            ptx::wait_products<0>();
            ptx::pin(context[0]);
            ptx::pin(probabilities);
            softmax.renew(context);
            make_probabilities(index);
        } else if (current) {
            ptx::fence_products();
            start_scores(uint32_t(index) % STAGES);
            ptx::wait_products<0>();
            ptx::pin(scores[0]);
            weigh(index);
            softmax.renew(context);
            make_probabilities(index);
        } else if (pending) {
            ptx::fence_products();
            start_context(uint32_t(index) % STAGES);
            ptx::wait_products<0>();
            ptx::pin(context[0]);
        }
    }
    ptx::wait_copies<0>();

#pragma unroll
    for (int half = 0; half < 2; half++) {
        int query = query_of(fragment_row(0, half));
        float sum = lanes_sum<4>(softmax.sum[0][half]);
        if (query >= queries.end) continue;
        bool none = sum == 0.0f || document.is_global(query);
        int64_t row = document.first_query + query;
        // 0 times a number that may be anything but NaN: a global query's sums are finite.
        float factor = none ? 0.0f : problem.draws.keep / sum;
        bf16 *target = head_row(output, int64_t(problem.heads) * D, row, head, D);
        store_row<1, D>(target, context, 0, half, factor);
        if (lane_index() % 4 == 0) {
            float value = none ? INFINITY : LN_2 * (scale * softmax.maximum[0][half] + log2f(sum));
            log_sum_exp[int64_t(head) * problem.plan.queries + row] = value;
        }
    }
}

template <int D, bool DROPOUT>
int start(const Problem &problem, bf16 *output, float *log_sum_exp, cudaStream_t stream) {
    dim3 grid(problem.plan.query_block_count, problem.heads);
    auto kernel = attention_forward<D, DROPOUT>;
    return launch(kernel, grid, THREADS, Shape<D, DROPOUT>::SHARED_BYTES, stream, problem, output, log_sum_exp);
}

template <int D> int start(const Problem &problem, bf16 *output, float *log_sum_exp, cudaStream_t stream) {
    auto chosen = problem.draws.threshold == 0 ? start<D, false> : start<D, true>;
    return chosen(problem, output, log_sum_exp, stream);
}

} // namespace

/// As epitome_attention_forward_bf16, for processors of capability 9.0.
extern "C" int epitome_attention_forward_warp_group_bf16(
    const Problem *problem, void *output, float *log_sum_exp, cudaStream_t stream
) {
    auto rows = static_cast<bf16 *>(output);
    if (problem->head_size == 64) return start<64>(*problem, rows, log_sum_exp, stream);
    if (problem->head_size == 128) return start<128>(*problem, rows, log_sum_exp, stream);
    return INVALID;
}
