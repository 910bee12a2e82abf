// Tiles of bf16 in shared memory and products of them in the registers of a warp.
//
// A row of D numbers is D / 8 chunks of 16 bytes. Chunk c of row r lies at place c ^ (r % 8) of its row: eight rows that
// ldmatrix reads at the same chunk then lie in different banks, and so do the chunks of one row that are written together.
#pragma once

#include "problem.cuh"

template <int D> struct Tile {
    static constexpr int CHUNKS = D / 8;
    static constexpr int ROW_BYTES = 2 * D;
    static_assert(D % 64 == 0, "eight chunks are permuted");

    unsigned char *memory;

    __device__ __forceinline__ unsigned char *chunk(int row, int chunk) const {
        return memory + row * ROW_BYTES + ((chunk ^ (row & 7)) << 4);
    }
};

/// Where a row of a tile comes from; rows that do not exist are zeros.
struct Source {
    const bf16 *row;
    bool exists;
};

/// Starts to copy ROWS rows; `source(row)` says from where. All THREADS of the block take part, or those of a warp, `thread`
/// being their index.
template <int ROWS, int THREADS, typename AnyTile, typename SourceOf>
__device__ __forceinline__ void copy_rows(AnyTile tile, SourceOf source, int thread = threadIdx.x) {
    constexpr int STEP = THREADS / AnyTile::CHUNKS;
    static_assert(ROWS % STEP == 0, "threads must share rows evenly");
    int chunk = thread % AnyTile::CHUNKS;
#pragma unroll
    for (int first = 0; first < ROWS; first += STEP) {
        int row = first + thread / AnyTile::CHUNKS;
        Source from = source(row);
        ptx::copy_async(tile.chunk(row, chunk), from.row + 8 * chunk, from.exists);
    }
}

/// The A operands of 16 rows at `row` and 16 columns at `column`.
template <typename AnyTile>
__device__ __forceinline__ void load_a(uint32_t (&a)[4], AnyTile tile, int row, int column) {
    int lane = lane_index();
    ptx::load_matrices(a, tile.chunk(row + lane % 16, column / 8 + lane / 16));
}

/// The A operands of rows `row..row + 16 M`, all columns.
template <int M, int DEPTHS, typename AnyTile>
__device__ __forceinline__ void load_a_rows(uint32_t (&a)[M][DEPTHS][4], AnyTile tile, int row) {
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int k = 0; k < DEPTHS; k++) load_a(a[m][k], tile, row + 16 * m, 16 * k);
    }
}

/// acc [16 M, COLUMNS] += one step of 16 in the depth: the columns are rows of a tile.
template <int M, int COLUMNS, typename AnyTile>
__device__ __forceinline__ void multiply_step(
    float (&acc)[M][COLUMNS / 8][4], const uint32_t (&a)[M][4], AnyTile columns, int first_column, int depth
) {
    int lane = lane_index();
#pragma unroll
    for (int n = 0; n < COLUMNS / 16; n++) {
        // Registers 0 and 1 are the B operand of 8 columns, 2 and 3 that of the next 8.
        uint32_t b[4];
        int row = first_column + 16 * n + lane % 8 + lane / 16 * 8;
        ptx::load_matrices(b, columns.chunk(row, depth / 8 + lane / 8 % 2));
#pragma unroll
        for (int m = 0; m < M; m++) {
            ptx::multiply_add(acc[m][2 * n], a[m], b[0], b[1]);
            ptx::multiply_add(acc[m][2 * n + 1], a[m], b[2], b[3]);
        }
    }
}

/// acc [16 M, COLUMNS] += A B^T: A is rows of one tile, B rows `first_column..` of another.
template <int M, int COLUMNS, typename Rows, typename Columns>
__device__ __forceinline__ void multiply_transposed(
    float (&acc)[M][COLUMNS / 8][4], Rows rows, int first_row, Columns columns, int first_column
) {
#pragma unroll
    for (int depth = 0; depth < 8 * Columns::CHUNKS; depth += 16) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) load_a(a[m], rows, first_row + 16 * m, depth);
        multiply_step<M, COLUMNS>(acc, a, columns, first_column, depth);
    }
}

/// The same with A in registers.
template <int M, int COLUMNS, int DEPTHS, typename Columns>
__device__ __forceinline__ void multiply_transposed(
    float (&acc)[M][COLUMNS / 8][4], const uint32_t (&rows)[M][DEPTHS][4], Columns columns, int first_column
) {
#pragma unroll
    for (int depth = 0; depth < 16 * DEPTHS; depth += 16) {
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int i = 0; i < 4; i++) a[m][i] = rows[m][depth / 16][i];
        }
        multiply_step<M, COLUMNS>(acc, a, columns, first_column, depth);
    }
}

/// acc [16 M, D] += A B: A [16 M, DEPTH] is a sum of this warp rounded to bf16, B the rows `first_row..` of a tile.
template <int M, int DEPTH, int D>
__device__ __forceinline__ void multiply(
    float (&acc)[M][D / 8][4], const float (&left)[M][DEPTH / 8][4], Tile<D> right, int first_row
) {
    int lane = lane_index();
#pragma unroll
    for (int k = 0; k < DEPTH / 16; k++) {
        // What two products of 8 columns leave in a lane is what the A operand of 16 has there.
        uint32_t a[M][4];
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const float *pair = &left[m][2 * k + i / 2][i % 2 * 2];
                a[m][i] = ptx::pack_bf16(pair[0], pair[1]);
            }
        }
#pragma unroll
        for (int n = 0; n < D / 16; n++) {
            uint32_t b[4];
            int row = first_row + 16 * k + lane % 16;
            ptx::load_matrices_transposed(b, right.chunk(row, 2 * n + lane / 16));
#pragma unroll
            for (int m = 0; m < M; m++) {
                ptx::multiply_add(acc[m][2 * n], a[m], b[0], b[1]);
                ptx::multiply_add(acc[m][2 * n + 1], a[m], b[2], b[3]);
            }
        }
    }
}

template <int M, int N> __device__ __forceinline__ void fill(float (&acc)[M][N][4], float value) {
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int n = 0; n < N; n++) {
#pragma unroll
            for (int i = 0; i < 4; i++) acc[m][n][i] = value;
        }
    }
}

template <int M, int N> __device__ __forceinline__ void clear(float (&acc)[M][N][4]) { fill(acc, 0.0f); }

/// Row of a warp's 16 M in which this lane has elements: half 0 or 1 of tile m.
__device__ __forceinline__ int fragment_row(int m, int half) { return 16 * m + 8 * half + lane_index() / 4; }

/// Column in which this lane has the element `side` (0 or 1) of tile n.
__device__ __forceinline__ int fragment_column(int n, int side) { return 8 * n + 2 * (lane_index() % 4) + side; }

/// The lowest `count` bits, of at most 64; none for a negative count.
__device__ __forceinline__ uint64_t low_bits(int count) {
    return count >= 64 ? ~uint64_t(0) : (uint64_t(1) << max(count, 0)) - 1;
}

/// Sets elements outside `visible(row)`, a range of columns, to `value`; `hidden` has a bit for each column that no row sees.
template <int M, int COLUMNS, typename Visible>
__device__ __forceinline__ void hide(float (&acc)[M][COLUMNS / 8][4], float value, uint64_t hidden, Visible visible) {
    static_assert(COLUMNS <= 64, "a bit a column");
#pragma unroll
    for (int m = 0; m < M; m++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            Range range = visible(fragment_row(m, half));
            // A bit for each column that this row sees, from this lane's first on.
            uint64_t seen = (low_bits(range.end) & ~low_bits(range.first) & ~hidden) >> fragment_column(0, 0);
            uint32_t words[2] = {uint32_t(seen), uint32_t(seen >> 32)};
#pragma unroll
            for (int n = 0; n < COLUMNS / 8; n++) {
#pragma unroll
                for (int side = 0; side < 2; side++) {
                    if (!(words[n / 4] >> (8 * (n % 4) + side) & 1)) acc[m][n][2 * half + side] = value;
                }
            }
        }
    }
}

/// Writes row `half` of tile m, times `factor`, as D numbers at `target`.
template <int M, int D>
__device__ __forceinline__ void store_row(bf16 *target, const float (&acc)[M][D / 8][4], int m, int half, float factor) {
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        uint32_t pair = ptx::pack_bf16(factor * acc[m][n][2 * half], factor * acc[m][n][2 * half + 1]);
        *reinterpret_cast<uint32_t *>(target + fragment_column(n, 0)) = pair;
    }
}

template <int M, int D>
__device__ __forceinline__ void store_row(float *target, const float (&acc)[M][D / 8][4], int m, int half, float factor) {
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
        float2 pair = {factor * acc[m][n][2 * half], factor * acc[m][n][2 * half + 1]};
        *reinterpret_cast<float2 *>(target + fragment_column(n, 0)) = pair;
    }
}
