// The tiles of keys that a block of queries sees: the document's global keys, gathered, then the range of its own.
#pragma once

#include "fragments.cuh"

struct KeyTile {
    /// Whether `first` counts global positions; else keys of the document.
    bool global;
    int first, count;
};

template <int KEYS> struct KeyTiles {
    Document document;
    Visibility visibility;
    Range queries;
    /// All keys that some query sees, and those that every query sees; global ones left aside.
    Range seen, common;
    int global_tiles, count;
    /// The first global position at or after the next tile; how many lie before it.
    int next_global, passed;

    __device__ KeyTiles(const Document &document, Visibility visibility, Range queries)
        : document(document), visibility(visibility), queries(queries) {
        find_ranges();
        passed = document.globals_below(seen.first);
        load_next_global();
    }

    /// Of some of a block's queries.
    __device__ KeyTiles(const KeyTiles &block, Range queries)
        : document(block.document), visibility(block.visibility), queries(queries), next_global(block.next_global),
          passed(block.passed) {
        find_ranges();
        while (next_global < seen.first) pass_global();
    }

    __device__ KeyTile at(int index) const {
        int first = index < global_tiles ? index * KEYS : seen.first + (index - global_tiles) * KEYS;
        int end = index < global_tiles ? document.global_count : seen.end;
        return {index < global_tiles, first, min(KEYS, end - first)};
    }

    /// Position in the document of a row of a tile.
    __device__ int position(KeyTile tile, int row) const {
        return tile.global ? document.globals[tile.first + row] : tile.first + row;
    }

    /// Where a row of k or v comes from.
    __device__ Source source(KeyTile tile, int row, const void *values, int64_t stride, int head, int size) const {
        auto rows = static_cast<const bf16 *>(values);
        if (row >= tile.count) return {rows, false};
        return {head_row(rows, stride, document.first_key + position(tile, row), head, size), true};
    }

    /// A bit for each key of a tile that is global: it has been counted. Tiles must be asked for in order.
    __device__ uint64_t hidden(KeyTile tile) {
        uint64_t bits = 0;
        while (!tile.global && next_global < tile.first + tile.count) {
            bits |= uint64_t(1) << (next_global - tile.first);
            pass_global();
        }
        return bits;
    }

    /// Whether all queries see all keys of a tile.
    __device__ bool whole(KeyTile tile, uint64_t hidden) const {
        Range all = tile.global ? Range{0, document.global_count} : common;
        return tile.first >= all.first && tile.first + KEYS <= all.end && hidden == 0;
    }

    /// The columns of a tile that a query of the document sees, apart from hidden ones.
    __device__ Range columns(KeyTile tile, int query) const {
        Range keys = tile.global ? Range{0, document.global_count}
                                 : visibility.keys_of({query, query + 1}, document.keys);
        return {keys.first - tile.first, keys.end - tile.first};
    }

    /// Of the tiles of a block to which these queries belong, the indices of those that they see beside global ones.
    __device__ Range seen_tiles(const KeyTiles &block) const {
        if (queries.first >= queries.end) return {0, 0};
        int first = (seen.first - block.seen.first) / KEYS, end = ceil_div(seen.end - block.seen.first, KEYS);
        return {block.global_tiles + first, block.global_tiles + end};
    }

    /// The next of them, from `index` on, of which all queries see all keys, none of them hidden.
    __device__ Range plain_tiles(const KeyTiles &block, int index) const {
        int end = min(common.end, next_global);
        int first = block.global_tiles + ceil_div(max(common.first - block.seen.first, 0), KEYS);
        return {max(first, index), block.global_tiles + max(end - block.seen.first, 0) / KEYS};
    }

  private:
    __device__ void find_ranges() {
        seen = visibility.keys_of(queries, document.keys);
        common.first = visibility.keys_of({queries.end - 1, queries.end}, document.keys).first;
        common.end = visibility.keys_of({queries.first, queries.first + 1}, document.keys).end;
        global_tiles = ceil_div(document.global_count, KEYS);
        count = global_tiles + ceil_div(seen.end - seen.first, KEYS);
    }

    __device__ void pass_global() {
        passed++;
        load_next_global();
    }

    __device__ void load_next_global() {
        constexpr int NONE = 0x7fffffff;
        next_global = passed < document.global_count ? document.globals[passed] : NONE;
    }
};

/// Starts to copy a tile of k or v: rows that follow one another, unless they are global ones.
template <int THREADS, int KEYS, int D>
__device__ __forceinline__ void copy_keys(
    Tile<D> target, const KeyTiles<KEYS> &tiles, KeyTile tile, const void *values, int64_t stride, int head
) {
    if (tile.global) {
        copy_rows<KEYS, THREADS>(target, [&](int row) { return tiles.source(tile, row, values, stride, head, D); });
        return;
    }
    auto first = head_row(static_cast<const bf16 *>(values), stride, tiles.document.first_key + tile.first, head, D);
    uint32_t step = stride;
    // 32 bits by 32: one instruction.
    copy_rows<KEYS, THREADS>(target, [&](int row) {
        return Source{first + uint64_t(uint32_t(row)) * step, row < tile.count};
    });
}

/// Sets dropped probabilities of a tile's first columns to 0; what is kept is scaled at the end.
template <int M, int COLUMNS, int KEYS>
__device__ __forceinline__ void drop(
    float (&probabilities)[M][COLUMNS / 8][4],
    const Draws &draws,
    const Stream (&streams)[M][2],
    const KeyTiles<KEYS> &tiles,
    KeyTile tile
) {
#pragma unroll
    for (int n = 0; n < COLUMNS / 8; n++) {
#pragma unroll
        for (int side = 0; side < 2; side++) {
            int column = fragment_column(n, side);
            int key = column < tile.count ? tiles.position(tile, column) : 0;
#pragma unroll
            for (int i = 0; i < 2 * M; i++) {
                if (!kept(draws, streams[i / 2][i % 2], key)) probabilities[i / 2][n][i % 2 * 2 + side] = 0.0f;
            }
        }
    }
}
