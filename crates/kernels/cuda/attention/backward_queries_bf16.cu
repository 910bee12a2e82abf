// The gradient of the queries, bf16 operands on the matrix units, head sizes 64 and 128: s = scale q k^T and dp = do v^T again
// for each tile of keys, p = exp(s - L), ds = p (m dp - delta), dq = scale sum ds k.
//
// Work: three products, 6 D operations a visible pair and head (77 GFLOP for the layer of forward_bf16.cu; with the four of
// backward_keys_bf16.cu 181). Counted as five products, 129 GFLOP, the floor of both is 163 us at 790 TFLOP/s.
//
// Schedule: as the forward's, queries and their outputs' gradients in shared memory. A tile is taken in parts, so that scores
// and their gradients fit the registers beside dq; parts without keys are left out.

#include "key_tiles.cuh"

namespace {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
constexpr int M = BLOCK / WARPS / 16;
constexpr int STAGES = 2;
/// Keys of a part of a tile.
constexpr int PART = 32;

template <int D> struct Shape {
    static constexpr int KEYS = D == 64 ? 64 : 32;
    static constexpr int TILE_BYTES = KEYS * Tile<D>::ROW_BYTES;
    static constexpr int QUERY_BYTES = BLOCK * Tile<D>::ROW_BYTES;
    static constexpr int SHARED_BYTES = 2 * QUERY_BYTES + 2 * STAGES * TILE_BYTES;
};

/// What a lane knows of its rows.
struct Rows {
    /// In units of base 2; plus infinity where there is no query, which makes its probabilities 0.
    float log_sum_exp[M][2];
    float delta[M][2];
    Stream streams[M][2];
};

template <int D, bool DROPOUT>
__global__ void __launch_bounds__(THREADS, 2)
    attention_backward_queries(Problem problem, const bf16 *gradient, const float *log_sum_exp, const float *delta, bf16 *dq) {
    using S = Shape<D>;
    Block block = problem.plan.query_blocks[blockIdx.x];
    int head = blockIdx.y;
    Document document(problem.plan, block.document);
    Range queries{block.first, min(block.first + BLOCK, document.queries)};
    KeyTiles<S::KEYS> tiles(document, problem.visibility, queries);
    int64_t dense = int64_t(problem.heads) * D;

    unsigned char *memory = dynamic_shared_memory();
    Tile<D> query_tile{memory}, gradient_tile{memory + S::QUERY_BYTES};
    auto stage_tile = [&](int place) { return Tile<D>{memory + 2 * S::QUERY_BYTES + place * S::TILE_BYTES}; };
    auto copy_tile = [&](int index) {
        if (index < tiles.count) {
            KeyTile tile = tiles.at(index);
            int place = 2 * (index % STAGES);
            copy_keys<THREADS>(stage_tile(place), tiles, tile, problem.k, problem.k_stride, head);
            copy_keys<THREADS>(stage_tile(place + 1), tiles, tile, problem.v, problem.v_stride, head);
        }
        ptx::commit_copies();
    };
    auto query_source = [&](const bf16 *rows, int64_t stride, int row) {
        if (queries.first + row >= queries.end) return Source{rows, false};
        return Source{head_row(rows, stride, document.first_query + queries.first + row, head, D), true};
    };
    copy_rows<BLOCK, THREADS>(query_tile, [&](int row) {
        return query_source(static_cast<const bf16 *>(problem.q), problem.q_stride, row);
    });
    copy_rows<BLOCK, THREADS>(gradient_tile, [&](int row) { return query_source(gradient, dense, row); });
    for (int index = 0; index < STAGES - 1; index++) copy_tile(index);

    int first_row = warp_index() * 16 * M;
    auto query_of = [&](int row) { return queries.first + first_row + row; };
    Rows rows;
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int m = i / 2, half = i % 2, query = query_of(fragment_row(m, half));
        int row = document.first_query + query;
        bool exists = query < queries.end;
        int64_t at = int64_t(head) * problem.plan.queries + row;
        rows.log_sum_exp[m][half] = exists ? LOG2_E * log_sum_exp[at] : INFINITY;
        rows.delta[m][half] = exists ? delta[at] : 0.0f;
        if constexpr (DROPOUT) rows.streams[m][half] = stream_of(problem.draws, uint32_t(row) * problem.heads + head);
    }

    float sums[M][D / 8][4];
    clear(sums);
    float scale = problem.scale * LOG2_E;
    for (int index = 0; index < tiles.count; index++) {
        ptx::wait_copies<STAGES - 2>();
        __syncthreads();
        copy_tile(index + STAGES - 1);
        KeyTile tile = tiles.at(index);
        Tile<D> keys = stage_tile(2 * (index % STAGES)), values = stage_tile(2 * (index % STAGES) + 1);
        uint64_t hidden = tiles.hidden(tile);
        bool whole = tiles.whole(tile, hidden);
        for (int first = 0; first < tile.count; first += PART) {
            float scores[M][PART / 8][4], gradients[M][PART / 8][4];
            clear(scores);
            multiply_transposed<M, PART>(scores, query_tile, first_row, keys, first);
            if (!whole) {
                hide<M, PART>(scores, -INFINITY, hidden >> first, [&](int row) {
                    Range columns = tiles.columns(tile, query_of(row));
                    return Range{columns.first - first, columns.end - first};
                });
            }
            clear(gradients);
            multiply_transposed<M, PART>(gradients, gradient_tile, first_row, values, first);
#pragma unroll
            for (int n = 0; n < PART / 8; n++) {
#pragma unroll
                for (int side = 0; side < 2; side++) {
                    int column = first + fragment_column(n, side);
                    int key = DROPOUT && column < tile.count ? tiles.position(tile, column) : 0;
#pragma unroll
                    for (int i = 0; i < 2 * M; i++) {
                        int m = i / 2, half = i % 2, element = 2 * half + side;
                        float p = ptx::exp2_approximate(scale * scores[m][n][element] - rows.log_sum_exp[m][half]);
                        float dp = gradients[m][n][element];
                        if constexpr (DROPOUT) {
                            dp *= kept(problem.draws, rows.streams[m][half], key) ? problem.draws.keep : 0.0f;
                        }
                        gradients[m][n][element] = p * (dp - rows.delta[m][half]);
                    }
                }
            }
            multiply<M, PART>(sums, gradients, keys, first);
        }
    }
    ptx::wait_copies<0>();

#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int m = i / 2, half = i % 2, query = query_of(fragment_row(m, half));
        if (query >= queries.end) continue;
        bf16 *target = head_row(dq, problem.q_stride, document.first_query + query, head, D);
        store_row<M, D>(target, sums, m, half, problem.scale);
    }
}

template <int D>
int start(
    const Problem &problem, const bf16 *gradient, const float *log_sum_exp, const float *delta, bf16 *dq, cudaStream_t stream
) {
    auto kernel = problem.draws.threshold == 0 ? attention_backward_queries<D, false> : attention_backward_queries<D, true>;
    dim3 grid(problem.plan.query_block_count, problem.heads);
    return launch(kernel, grid, THREADS, Shape<D>::SHARED_BYTES, stream, problem, gradient, log_sum_exp, delta, dq);
}

} // namespace

extern "C" int epitome_attention_delta_bf16(
    const void *output, const void *gradient, float *delta, int64_t rows, int heads, int size, cudaStream_t stream
);

/// output and its gradient: dense [Tq, H, D]; log_sum_exp and delta, which is written, [H, Tq]; dq lies as q.
extern "C" int epitome_attention_backward_queries_bf16(
    const Problem *problem, const void *output, const void *gradient, const float *log_sum_exp, float *delta, void *dq,
    cudaStream_t stream
) {
    int error = epitome_attention_delta_bf16(
        output, gradient, delta, problem->plan.queries, problem->heads, problem->head_size, stream
    );
    if (error != 0) return error;
    auto incoming = static_cast<const bf16 *>(gradient);
    auto target = static_cast<bf16 *>(dq);
    if (problem->head_size == 64) return start<64>(*problem, incoming, log_sum_exp, delta, target, stream);
    if (problem->head_size == 128) return start<128>(*problem, incoming, log_sum_exp, delta, target, stream);
    return INVALID;
}
