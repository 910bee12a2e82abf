// Attention forward, bf16 operands on the matrix units, f32 sums, head sizes 64 and 128: FlashAttention-2 (Dao, 2023) over
// the tiles of a band, a causal triangle or a whole document, after the tiles of global keys.
//
// Work: 4 D operations for each visible pair of query and key and head; LED-base, 16,384 tokens, window 1,024, 12 heads of 64:
// 16,384 * 1,025 * 768 * 4 = 51.6 GFLOP. Bytes: q, k, v, o once, 4 * 25 MB; k and v again for each block of 128 queries from the
// second-level cache, (128 + 1,024) / 128 = 9 times. Floor: 65 us at 790 TFLOP/s; 30 us at 3.35 TB/s. Bound by the matrix
// units; of those mma.sync reaches about 60 % on an H100, so the goal of 45 % needs three quarters of what it can do.
//
// Schedule: a block owns 128 queries of one document and head, a warp 32 of them (two fragments of 16, so that an operand
// read from shared memory is used twice). Tiles of 64 keys and values arrive by cp.async, STAGES - 1 tiles ahead, one
// barrier a tile. Scores, probabilities and the weighted sum stay in registers; the exponent is base 2 with the scale folded
// in. Only tiles at an edge, or with a global key among those of the band, are masked.
//
// forward_warp_group.cu does the same by the instructions that processors of capability 9.0 have for it.

#include "key_tiles.cuh"
#include "softmax.cuh"

namespace {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr int KEYS = 64;
/// Fragments of 16 queries of a warp.
constexpr int M = BLOCK / WARPS / 16;

template <int D> struct Shape {
    static constexpr int STAGES = D == 64 ? 3 : 2;
    /// Queries of 128 numbers leave no registers for the sums.
    static constexpr bool QUERIES_IN_REGISTERS = D == 64;
    static constexpr int TILE_BYTES = KEYS * Tile<D>::ROW_BYTES;
    static constexpr int QUERY_BYTES = BLOCK * Tile<D>::ROW_BYTES;
    static constexpr int SHARED_BYTES = QUERY_BYTES + 2 * STAGES * TILE_BYTES;
};

template <int D, bool DROPOUT>
__global__ void __launch_bounds__(THREADS, 2) attention_forward(Problem problem, bf16 *output, float *log_sum_exp) {
    using S = Shape<D>;
    Block block = problem.plan.query_blocks[blockIdx.x];
    int head = blockIdx.y;
    Document document(problem.plan, block.document);
    Range queries{block.first, min(block.first + BLOCK, document.queries)};
    KeyTiles<KEYS> tiles(document, problem.visibility, queries);

    unsigned char *memory = dynamic_shared_memory();
    Tile<D> query_tile{memory};
    auto key_tile = [&](int stage) { return Tile<D>{memory + S::QUERY_BYTES + 2 * stage * S::TILE_BYTES}; };
    auto value_tile = [&](int stage) { return Tile<D>{memory + S::QUERY_BYTES + (2 * stage + 1) * S::TILE_BYTES}; };
    auto copy_tile = [&](int index) {
        if (index < tiles.count) {
            KeyTile tile = tiles.at(index);
            int stage = index % S::STAGES;
            copy_keys<THREADS>(key_tile(stage), tiles, tile, problem.k, problem.k_stride, head);
            copy_keys<THREADS>(value_tile(stage), tiles, tile, problem.v, problem.v_stride, head);
        }
        // Also without copies, so that the number of groups tells which tile has come.
        ptx::commit_copies();
    };

    copy_rows<BLOCK, THREADS>(query_tile, [&](int row) {
        auto rows = static_cast<const bf16 *>(problem.q);
        if (queries.first + row >= queries.end) return Source{rows, false};
        return Source{head_row(rows, problem.q_stride, document.first_query + queries.first + row, head, D), true};
    });
    for (int index = 0; index < S::STAGES - 1; index++) copy_tile(index);

    int first_row = warp_index() * 16 * M;
    auto query_of = [&](int row) { return queries.first + first_row + row; };
    uint32_t registers[M][D / 16][4];
    if constexpr (S::QUERIES_IN_REGISTERS) {
        ptx::wait_copies<S::STAGES - 2>();
        __syncthreads();
        load_a_rows<M>(registers, query_tile, first_row);
    }
    Stream streams[M][2];
    if constexpr (DROPOUT) {
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            uint32_t row = document.first_query + query_of(fragment_row(i / 2, i % 2));
            streams[i / 2][i % 2] = stream_of(problem.draws, row * problem.heads + head);
        }
    }

    float context[M][D / 8][4];
    clear(context);
    Softmax<M> softmax;
    float scale = problem.scale * LOG2_E;
    for (int index = 0; index < tiles.count; index++) {
        ptx::wait_copies<S::STAGES - 2>();
        __syncthreads();
        // All threads have left the tile whose place this one takes.
        copy_tile(index + S::STAGES - 1);
        KeyTile tile = tiles.at(index);
        int stage = index % S::STAGES;
        float scores[M][KEYS / 8][4];
        clear(scores);
        if constexpr (S::QUERIES_IN_REGISTERS) {
            multiply_transposed<M, KEYS>(scores, registers, key_tile(stage), 0);
        } else {
            multiply_transposed<M, KEYS>(scores, query_tile, first_row, key_tile(stage), 0);
        }
        uint64_t hidden = tiles.hidden(tile);
        if (!tiles.whole(tile, hidden)) {
            hide<M, KEYS>(scores, -INFINITY, hidden, [&](int row) { return tiles.columns(tile, query_of(row)); });
        }
        softmax.add(scores, scale);
        softmax.renew(context);
        if constexpr (DROPOUT) drop<M, KEYS>(scores, problem.draws, streams, tiles, tile);
        multiply<M, KEYS>(context, scores, value_tile(stage), 0);
    }
    ptx::wait_copies<0>();

#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int m = i / 2, half = i % 2, query = query_of(fragment_row(m, half));
        float sum = lanes_sum<4>(softmax.sum[m][half]);
        if (query >= queries.end) continue;
        bool none = sum == 0.0f || document.is_global(query);
        int64_t row = document.first_query + query;
        // 0 times a number that may be anything but NaN: a global query's sums are finite.
        float factor = none ? 0.0f : problem.draws.keep / sum;
        bf16 *target = head_row(output, int64_t(problem.heads) * D, row, head, D);
        store_row<M, D>(target, context, m, half, factor);
        if (lane_index() % 4 == 0) {
            float value = none ? INFINITY : LN_2 * (scale * softmax.maximum[m][half] + log2f(sum));
            log_sum_exp[int64_t(head) * problem.plan.queries + row] = value;
        }
    }
}

template <int D> int start(const Problem &problem, bf16 *output, float *log_sum_exp, cudaStream_t stream) {
    auto kernel = problem.draws.threshold == 0 ? attention_forward<D, false> : attention_forward<D, true>;
    dim3 grid(problem.plan.query_block_count, problem.heads);
    return launch(kernel, grid, THREADS, Shape<D>::SHARED_BYTES, stream, problem, output, log_sum_exp);
}

} // namespace

/// q, k, v: bf16, rows and their strides multiples of 16 bytes. output [Tq, H, D] bf16, log_sum_exp [H, Tq].
extern "C" int epitome_attention_forward_bf16(
    const Problem *problem, void *output, float *log_sum_exp, cudaStream_t stream
) {
    auto rows = static_cast<bf16 *>(output);
    if (problem->head_size == 64) return start<64>(*problem, rows, log_sum_exp, stream);
    if (problem->head_size == 128) return start<128>(*problem, rows, log_sum_exp, stream);
    return INVALID;
}
