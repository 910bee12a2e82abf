// Tiles of bf16 in shared memory as matrix units read them, and products of a warp group by them.
#pragma once

#include "../warp_group.cuh"
#include "key_tiles.cuh"

constexpr int GROUP_THREADS = 128;
/// Rows of a warp group.
constexpr int GROUP_ROWS = 64;

/// By a shuffle, from which the compiler knows that a warp's lanes agree.
__device__ __forceinline__ int group_index() { return __shfl_sync(ALL_LANES, int(threadIdx.x) / GROUP_THREADS, 0); }

/// The same range, of which the compiler then knows it, too.
__device__ __forceinline__ Range agreed(Range range) {
    return {__shfl_sync(ALL_LANES, range.first, 0), __shfl_sync(ALL_LANES, range.end, 0)};
}

/// ROWS rows of D numbers, in panels of 64 columns. A row of a panel is 8 chunks of 16 bytes, chunk c of row r at c ^ (r % 8).
template <int ROWS, int D> struct Panels {
    static constexpr int CHUNKS = D / 8;
    static constexpr int ROW_BYTES = 128;
    static constexpr int PANEL_BYTES = ROWS * ROW_BYTES;
    static constexpr int BYTES = D / 64 * PANEL_BYTES;
    static constexpr int BLOCK_BYTES = 8 * ROW_BYTES;
    static_assert(D % 64 == 0 && ROWS % 16 == 0, "whole panels, whole depths");

    /// Its address is a multiple of ptx::SWIZZLE_BYTES.
    unsigned char *memory;

    __device__ __forceinline__ unsigned char *chunk(int row, int chunk) const {
        return memory + chunk / 8 * PANEL_BYTES + row * ROW_BYTES + ((chunk % 8 ^ (row & 7)) << 4);
    }

    /// An operand whose rows (or columns, of B) are the rows from `row` on, and whose depth is 16 columns.
    __device__ __forceinline__ uint64_t across(int row, int column) const {
        int offset = column / 64 * PANEL_BYTES + row * ROW_BYTES + column % 64 * 2;
        // All 16 columns are in one panel: the distance along lines is not used.
        return ptx::matrix_descriptor(memory, offset, 16, BLOCK_BYTES);
    }

    /// An operand B whose columns are all D and whose depth is the 16 rows from `row` on.
    __device__ __forceinline__ uint64_t along(int row) const {
        return ptx::matrix_descriptor(memory, row * ROW_BYTES, PANEL_BYTES, BLOCK_BYTES);
    }
};

/// Tiles as operands, by the lower word of a descriptor, in which an address is a number of chunks of 16 bytes: what follows a
/// tile, or lies elsewhere in it, is a sum away.
template <int ROWS, int D> struct Operand {
    using Tile = Panels<ROWS, D>;
    /// What lies from one tile to the next behind it.
    static constexpr uint32_t STEP = Tile::BYTES / 16;
    /// From a tile as an operand across to the same along.
    static constexpr uint32_t TURN = uint32_t(Tile::PANEL_BYTES / 16 - 1) << 16;

    uint32_t low;

    /// From a row on. By a shuffle, from which the compiler knows that it is the same for a warp, and does not make it again.
    static __device__ __forceinline__ Operand of(Tile tile, int row) {
        return {__shfl_sync(ALL_LANES, uint32_t(tile.across(row, 0)), 0)};
    }

    /// As Panels::across from that row on.
    __device__ __forceinline__ uint64_t across(int column) const {
        return ptx::matrix_descriptor(low + (column / 64 * Tile::PANEL_BYTES + column % 64 * 2) / 16, Tile::BLOCK_BYTES);
    }

    /// As Panels::along.
    __device__ __forceinline__ uint64_t along(int row) const {
        return ptx::matrix_descriptor(low + TURN + row * Tile::ROW_BYTES / 16, Tile::BLOCK_BYTES);
    }

    /// The tile `places` behind this one.
    __device__ __forceinline__ Operand behind(uint32_t places) const { return {low + places * STEP}; }
};

/// Starts to copy ROWS rows, `source(row)` saying from where; all THREADS of the block take part.
template <int THREADS, int ROWS, int D, typename SourceOf>
__device__ __forceinline__ void copy_panels(Panels<ROWS, D> tile, SourceOf source) {
    constexpr int CHUNKS = Panels<ROWS, D>::CHUNKS, STEP = THREADS / CHUNKS;
    static_assert(ROWS % STEP == 0 && STEP % 8 == 0, "a thread's rows have their chunks at the same place");
    int own_row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
    unsigned char *own = tile.chunk(own_row, chunk);
#pragma unroll
    for (int first = 0; first < ROWS; first += STEP) {
        Source from = source(first + own_row);
        ptx::copy_async(own + first * Panels<ROWS, D>::ROW_BYTES, from.row + 8 * chunk, from.exists);
    }
}

/// Copies tiles of rows that follow one another, one tile after the other. Apart from its own offset all a thread knows is what all
/// threads know, which takes no registers of its own.
template <int THREADS, int ROWS, int D> class RowCopies {
    static constexpr int CHUNKS = Panels<ROWS, D>::CHUNKS, STEP = THREADS / CHUNKS;
    static_assert(ROWS % STEP == 0 && STEP % 8 == 0, "a thread's rows have their chunks at the same place");
    /// The first row of the next tile, bytes from row to row, and rows from there to the last there is.
    const unsigned char *next;
    uint32_t row_bytes;
    int left;
    /// Where this thread's first bytes are from there.
    uint32_t own;

  public:
    /// `count` rows from those at `first`, `stride` numbers apart.
    __device__ __forceinline__ RowCopies(const bf16 *first, int64_t stride, int count)
        : next(reinterpret_cast<const unsigned char *>(first)), row_bytes(stride * sizeof(bf16)), left(count),
          own(threadIdx.x / CHUNKS * row_bytes + threadIdx.x % CHUNKS * 16) {}

    /// Starts to copy the next ROWS rows. What follows the last row there is in the tile is zeros.
    __device__ __forceinline__ void start(Panels<ROWS, D> tile) {
        int own_row = threadIdx.x / CHUNKS;
        unsigned char *to = tile.chunk(own_row, threadIdx.x % CHUNKS);
#pragma unroll
        for (int row = 0; row < ROWS; row += STEP) {
            auto from = next + uint64_t(uint32_t(row)) * row_bytes + own;
            ptx::copy_async(to + row * Panels<ROWS, D>::ROW_BYTES, from, own_row < left - row);
        }
        next += uint64_t(uint32_t(ROWS)) * row_bytes;
        left -= ROWS;
    }

    /// Whether all rows of the next tile exist.
    __device__ __forceinline__ bool next_is_whole() const { return left >= ROWS; }

    /// As `start` of such a tile; `to` is where in it this thread's first bytes go.
    __device__ __forceinline__ void start_whole(unsigned char *to) {
        const unsigned char *from = next + own;
        uint64_t step = uint64_t(uint32_t(STEP)) * row_bytes;
#pragma unroll
        for (int row = 0; row < ROWS; row += STEP) {
            ptx::copy_async(to + row * Panels<ROWS, D>::ROW_BYTES, from, true);
            from += step;
        }
        next += uint64_t(uint32_t(ROWS)) * row_bytes;
        left -= ROWS;
    }

    /// Where in a tile this thread's first bytes go.
    static __device__ __forceinline__ unsigned char *own_place(Panels<ROWS, D> tile) {
        return tile.chunk(threadIdx.x / CHUNKS, threadIdx.x % CHUNKS);
    }
};

/// Starts to copy a tile of global keys or values.
template <int THREADS, int KEYS, int D>
__device__ __forceinline__ void copy_globals(
    Panels<KEYS, D> target, const KeyTiles<KEYS> &tiles, int index, const void *values, int64_t stride, int head
) {
    KeyTile tile = tiles.at(index);
    copy_panels<THREADS>(target, [&](int row) { return tiles.source(tile, row, values, stride, head, D); });
}

/// Of so few global keys only the first columns of scores are made.
constexpr int FEW = 8;

/// Of a tile of global keys or values only the first rows, as many as are copied at once: what a product 16 deep reads.
template <int THREADS, int KEYS, int D>
__device__ __forceinline__ void copy_few_globals(
    Panels<KEYS, D> target, const KeyTiles<KEYS> &tiles, const void *values, int64_t stride, int head
) {
    constexpr int CHUNKS = Panels<KEYS, D>::CHUNKS;
    static_assert(THREADS / CHUNKS >= 16, "a product 16 deep");
    int row = threadIdx.x / CHUNKS, chunk = threadIdx.x % CHUNKS;
    Source from = tiles.source(tiles.at(0), row, values, stride, head, D);
    ptx::copy_async(target.chunk(row, chunk), from.row + 8 * chunk, from.exists);
}

/// Of keys or values, the tiles after those of global ones.
template <int THREADS, int D, int KEYS>
__device__ __forceinline__ RowCopies<THREADS, KEYS, D> own_key_copies(
    const KeyTiles<KEYS> &tiles, const void *values, int64_t stride, int head
) {
    auto first = head_row(static_cast<const bf16 *>(values), stride, tiles.document.first_key + tiles.seen.first, head, D);
    return {first, stride, tiles.seen.end - tiles.seen.first};
}

/// The dynamic shared memory from where a pattern begins; a launch asks for SWIZZLE_BYTES more than it needs.
__device__ __forceinline__ unsigned char *panel_memory() {
    unsigned char *memory = dynamic_shared_memory();
    return memory + (-ptx::shared_address(memory) & (ptx::SWIZZLE_BYTES - 1));
}

/// Starts acc [64, ROWS] = A B^T: A the 64 rows of a tile from `row` on, B the rows of another.
template <int ROWS, int D, int LEFT_ROWS>
__device__ __forceinline__ void start_transposed(
    float (&acc)[ROWS / 8][4], Panels<LEFT_ROWS, D> left, int row, Panels<ROWS, D> right
) {
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
        ptx::multiply_group<false>(acc, left.across(row, 16 * k), right.across(0, 16 * k), k > 0);
    }
}

/// Starts acc [64, D] += A B: A in registers, B a tile.
template <int ROWS, int D>
__device__ __forceinline__ void start_product(
    float (&acc)[D / 8][4], const uint32_t (&left)[ROWS / 16][4], Panels<ROWS, D> right
) {
#pragma unroll
    for (int k = 0; k < ROWS / 16; k++) ptx::multiply_group<true>(acc, left[k], right.along(16 * k), true);
}

/// acc = A B^T with A in registers, and of B by an operand the first rows, 8 for each four sums.
template <int N, int ROWS, int D>
__device__ __forceinline__ void start_transposed(float (&acc)[N][4], const uint32_t (&left)[D / 16][4], Operand<ROWS, D> right) {
    static_assert(8 * N <= ROWS, "rows of one tile");
#pragma unroll
    for (int k = 0; k < D / 16; k++) ptx::multiply_group<false>(acc, left[k], right.across(16 * k), k > 0);
}

template <int N, int ROWS, int D, int LEFT_ROWS>
__device__ __forceinline__ void start_transposed(float (&acc)[N][4], Operand<LEFT_ROWS, D> left, Operand<ROWS, D> right) {
    static_assert(8 * N <= ROWS, "rows of one tile");
#pragma unroll
    for (int k = 0; k < D / 16; k++) ptx::multiply_group<false>(acc, left.across(16 * k), right.across(16 * k), k > 0);
}

template <int K, int ROWS, int D>
__device__ __forceinline__ void start_product(float (&acc)[D / 8][4], const uint32_t (&left)[K][4], Operand<ROWS, D> right) {
    static_assert(16 * K <= ROWS, "rows of one tile");
#pragma unroll
    for (int k = 0; k < K; k++) ptx::multiply_group<true>(acc, left[k], right.along(16 * k), true);
}

/// Sums of a warp rounded to bf16, as operand A of the next product.
template <int N> __device__ __forceinline__ void pack(uint32_t (&a)[N / 2][4], const float (&acc)[N][4]) {
#pragma unroll
    for (int k = 0; k < N / 2; k++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float *pair = &acc[2 * k + i / 2][i % 2 * 2];
            a[k][i] = ptx::pack_bf16(pair[0], pair[1]);
        }
    }
}

/// The same of 8 columns; 8 more are 0.
__device__ __forceinline__ void pack_few(uint32_t (&a)[4], const float (&acc)[4]) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
        a[half] = ptx::pack_bf16(acc[2 * half], acc[2 * half + 1]);
        a[2 + half] = 0;
    }
}
