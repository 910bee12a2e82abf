// The gradients of keys and values, bf16 operands on the matrix units, head sizes 64 and 128: a block of threads owns 128 keys
// and walks the queries that see them, so that nothing is added atomically and the result is always the same.
//
// Work: four products, 8 D operations a visible pair and head. Everything is transposed, keys are the rows: s^T = scale k q^T,
// dp^T = v do^T, dv += (m p)^T do, dk += ds^T q. So probabilities and their gradients go from one product to the next in
// registers, as in the forward.
//
// Global keys are seen by all queries: a block owns up to 128 of them and one chunk of the document's queries, and writes
// partial sums, which reduce_global.cu adds up in order. In the blocks of the band their rows are computed like others and
// then overwritten by that sum.

#include "owned_keys.cuh"

namespace {

constexpr int STAGES = 2;
constexpr int QUERIES = 64;

template <int D> struct Shape {
    /// Two fragments of 16 keys a warp use an operand twice, but with 128 numbers dk and dv leave room for one only.
    static constexpr int M = D == 64 ? 2 : 1;
    static constexpr int WARPS = BLOCK / (16 * M);
    static constexpr int THREADS = WARPS * WARP;
    static constexpr int BLOCKS_PER_PROCESSOR = D == 64 ? 2 : 1;
    /// Queries of a part of a tile: as many as scores and their gradients fit the registers.
    static constexpr int PART = D == 64 ? 32 : 64;
    static constexpr int TILE_BYTES = QUERIES * Tile<D>::ROW_BYTES;
    static constexpr int KEY_BYTES = BLOCK * Tile<D>::ROW_BYTES;
    /// Of each query of a tile: log-sum-exp, delta, and its stream of draws.
    static constexpr int STATISTIC_BYTES = QUERIES * 16;
    static constexpr int STAGE_BYTES = 2 * TILE_BYTES + STATISTIC_BYTES;
    static constexpr int SHARED_BYTES = 2 * KEY_BYTES + STAGES * STAGE_BYTES;
};

/// A tile of queries in shared memory.
template <int D> struct Stage {
    Tile<D> queries, gradients;
    float *log_sum_exp, *delta;
    Stream *streams;

    __device__ explicit Stage(unsigned char *memory)
        : queries{memory}, gradients{memory + Shape<D>::TILE_BYTES},
          log_sum_exp(reinterpret_cast<float *>(memory + 2 * Shape<D>::TILE_BYTES)), delta(log_sum_exp + QUERIES),
          streams(reinterpret_cast<Stream *>(delta + QUERIES)) {}
};

template <int D, bool DROPOUT>
__global__ void __launch_bounds__(Shape<D>::THREADS, Shape<D>::BLOCKS_PER_PROCESSOR) attention_backward_keys(
    Problem problem, bool global, const bf16 *gradient, const float *log_sum_exp, const float *delta, Targets targets
) {
    using S = Shape<D>;
    constexpr int M = S::M, PART = S::PART, THREADS = S::THREADS;
    const Plan &plan = problem.plan;
    OwnedKeys<> owned(problem, global ? plan.global_blocks[blockIdx.x] : plan.key_blocks[blockIdx.x], global);
    int head = blockIdx.y;
    int first_query_row = owned.document.first_query;
    int64_t dense = int64_t(problem.heads) * D;
    int tiles = ceil_div(owned.queries.end - owned.queries.first, QUERIES);

    unsigned char *memory = dynamic_shared_memory();
    Tile<D> keys{memory}, values{memory + S::KEY_BYTES};
    auto stage_of = [&](int index) {
        return Stage<D>(memory + 2 * S::KEY_BYTES + index % STAGES * S::STAGE_BYTES);
    };
    auto copy_tile = [&](int index) {
        if (index < tiles) {
            Stage<D> stage = stage_of(index);
            int first = owned.queries.first + index * QUERIES;
            auto source = [&](const bf16 *rows, int64_t stride, int row) {
                if (first + row >= owned.queries.end) return Source{rows, false};
                return Source{head_row(rows, stride, first_query_row + first + row, head, D), true};
            };
            copy_rows<QUERIES, THREADS>(stage.queries, [&](int row) {
                return source(static_cast<const bf16 *>(problem.q), problem.q_stride, row);
            });
            copy_rows<QUERIES, THREADS>(stage.gradients, [&](int row) { return source(gradient, dense, row); });
            int row = threadIdx.x;
            if (row < QUERIES) {
                // Zeros where there is no query: its gradient is zeros too, so it adds nothing.
                bool exists = first + row < owned.queries.end;
                int64_t at = exists ? int64_t(head) * plan.queries + first_query_row + first + row : 0;
                ptx::copy_async_4(stage.log_sum_exp + row, log_sum_exp + at, exists);
                ptx::copy_async_4(stage.delta + row, delta + at, exists);
                if constexpr (DROPOUT) {
                    uint32_t high = uint32_t(first_query_row + first + row) * problem.heads + head;
                    stage.streams[row] = stream_of(problem.draws, high);
                }
            }
        }
        ptx::commit_copies();
    };
    copy_rows<BLOCK, THREADS>(keys, [&](int row) {
        return owned.source(row, problem.k, problem.k_stride, head, D);
    });
    copy_rows<BLOCK, THREADS>(values, [&](int row) {
        return owned.source(row, problem.v, problem.v_stride, head, D);
    });
    for (int index = 0; index < STAGES - 1; index++) copy_tile(index);

    int first_row = warp_index() * 16 * M;
    // Few keys are global: warps without one only copy.
    bool idle = !owned.exists(first_row);
    uint32_t positions[M][2];
#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int row = first_row + fragment_row(i / 2, i % 2);
        positions[i / 2][i % 2] = DROPOUT && owned.exists(row) ? owned.position(row) : 0;
    }

    float dk[M][D / 8][4], dv[M][D / 8][4];
    clear(dk);
    clear(dv);
    float scale = problem.scale * LOG2_E;
    for (int index = 0; index < tiles; index++) {
        ptx::wait_copies<STAGES - 2>();
        __syncthreads();
        copy_tile(index + STAGES - 1);
        if (idle) continue;
        Stage<D> stage = stage_of(index);
        int tile_first = owned.queries.first + index * QUERIES;
        for (int first = 0; first < min(QUERIES, owned.queries.end - tile_first); first += PART) {
            int part_first = tile_first + first;
            float scores[M][PART / 8][4], gradients[M][PART / 8][4];
            clear(scores);
            multiply_transposed<M, PART>(scores, keys, first_row, stage.queries, first);
            if (part_first < owned.common.first || part_first + PART > owned.common.end) {
                hide<M, PART>(scores, -INFINITY, 0, [&](int row) {
                    Range seen = owned.seen_by(first_row + row);
                    return Range{seen.first - part_first, seen.end - part_first};
                });
            }
            clear(gradients);
            multiply_transposed<M, PART>(gradients, values, first_row, stage.gradients, first);
#pragma unroll
            for (int n = 0; n < PART / 8; n++) {
#pragma unroll
                for (int side = 0; side < 2; side++) {
                    int column = first + fragment_column(n, side);
                    float base = LOG2_E * stage.log_sum_exp[column], own_delta = stage.delta[column];
                    Stream stream{};
                    if constexpr (DROPOUT) stream = stage.streams[column];
#pragma unroll
                    for (int i = 0; i < 2 * M; i++) {
                        int m = i / 2, half = i % 2, element = 2 * half + side;
                        float p = ptx::exp2_approximate(scale * scores[m][n][element] - base);
                        float dp = gradients[m][n][element];
                        float weight = p;
                        if constexpr (DROPOUT) {
                            // dv is multiplied by `keep` at the end.
                            bool keep = kept(problem.draws, stream, positions[m][half]);
                            weight = keep ? p : 0.0f;
                            dp *= keep ? problem.draws.keep : 0.0f;
                        }
                        scores[m][n][element] = weight;
                        gradients[m][n][element] = p * (dp - own_delta);
                    }
                }
            }
            multiply<M, PART>(dv, scores, stage.gradients, first);
            multiply<M, PART>(dk, gradients, stage.queries, first);
        }
    }
    ptx::wait_copies<0>();

#pragma unroll
    for (int i = 0; i < 2 * M; i++) {
        int m = i / 2, half = i % 2, row = first_row + fragment_row(m, half);
        if (!owned.exists(row)) continue;
        if (global) {
            int64_t at = owned.partial_row + row;
            store_row<M, D>(head_row(targets.partial_dk, dense, at, head, D), dk, m, half, problem.scale);
            store_row<M, D>(head_row(targets.partial_dv, dense, at, head, D), dv, m, half, problem.draws.keep);
        } else {
            int64_t at = owned.document.first_key + owned.position(row);
            store_row<M, D>(head_row(targets.dk, problem.k_stride, at, head, D), dk, m, half, problem.scale);
            store_row<M, D>(head_row(targets.dv, problem.v_stride, at, head, D), dv, m, half, problem.draws.keep);
        }
    }
}

template <int D>
int start(
    const Problem &problem,
    bool global,
    const bf16 *gradient,
    const float *log_sum_exp,
    const float *delta,
    Targets targets,
    cudaStream_t stream
) {
    using S = Shape<D>;
    auto kernel = problem.draws.threshold == 0 ? attention_backward_keys<D, false> : attention_backward_keys<D, true>;
    dim3 grid(global ? problem.plan.global_block_count : problem.plan.key_block_count, problem.heads);
    return launch(
        kernel, grid, S::THREADS, S::SHARED_BYTES, stream, problem, global, gradient, log_sum_exp, delta, targets
    );
}

} // namespace

/// gradient: that of the output, dense [Tq, H, D]; log_sum_exp and delta [H, Tq]; dk and dv lie as k and v. The partial sums
/// of global keys are [partial rows, H, D]; without global keys they may be null.
extern "C" int epitome_attention_backward_keys_bf16(
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
    for (bool global : {false, true}) {
        int error = INVALID;
        if (problem->head_size == 64) {
            error = start<64>(*problem, global, incoming, log_sum_exp, delta, targets, stream);
        } else if (problem->head_size == 128) {
            error = start<128>(*problem, global, incoming, log_sum_exp, delta, targets, stream);
        }
        if (error != 0) return error;
    }
    return 0;
}
