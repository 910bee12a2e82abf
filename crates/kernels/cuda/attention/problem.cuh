// What one launch of attention computes: the formulas are those of src/cpu/attention/mod.rs, the masks those of
// src/visibility.rs.
#pragma once

#include "../numbers.cuh"
#include "../random.cuh"

/// Queries or keys of a block. `Plan::new` in src/cuda/plan.rs cuts documents into blocks of the same size.
constexpr int BLOCK = 128;

struct Range {
    int first, end;
};

/// Queries or keys of a document that a block of threads owns: `first` counts in the document. For global keys it counts the
/// document's global positions, and `chunk` says which part of its queries this block adds up.
struct Block {
    int document, first, chunk;
};

/// The documents of a batch, in device memory; made once for all layers.
struct Plan {
    /// Row at which each document begins, then the total.
    const int *query_offsets, *key_offsets;
    /// Where each document's global positions begin, then the total; the positions, counted in the document.
    const int *global_offsets, *global_positions;
    /// Where each document's rows begin in the partial sums of global keys: chunks times global positions.
    const int *partial_offsets;
    const Block *query_blocks, *key_blocks, *global_blocks;
    int query_block_count, key_block_count, global_block_count;
    int documents, queries, globals;
    /// Queries of a chunk.
    int chunk;
};

enum Kind : int { BAND = 0, CAUSAL = 1, FULL = 2 };

struct Visibility {
    /// A `Kind`.
    int kind;
    /// The band's radius, or the number of keys before the first query. At most 2^30, as lengths are.
    int reach;

    /// The smallest range with all keys but global ones that one of `queries` sees, of `keys` keys.
    __device__ Range keys_of(Range queries, int keys) const {
        int first = kind == BAND ? max(queries.first - reach, 0) : 0;
        int end = kind == FULL ? keys : min(queries.end + reach, keys);
        return {min(first, end), end};
    }

    /// The smallest range with all queries that see one of `keys`, which are not global, of `queries` queries.
    __device__ Range queries_of(Range keys, int queries) const {
        int first = kind == FULL ? 0 : max(keys.first - reach, 0);
        int end = kind == BAND ? min(keys.end + reach, queries) : queries;
        return {min(first, end), end};
    }
};

/// Mirrors `Problem` in src/cuda/ffi.rs. Rows of q, k and v are `stride` numbers apart, so that they may be parts of one
/// projection; gradients lie as their tensors do; outputs are dense [rows, heads, head_size].
struct Problem {
    Plan plan;
    const void *q, *k, *v;
    int64_t q_stride, k_stride, v_stride;
    int heads, head_size;
    Visibility visibility;
    /// Positive.
    float scale;
    Draws draws;
};

/// One document's part of a problem.
struct Document {
    int first_query, queries, first_key, keys;
    const int *globals;
    int global_count;

    __device__ Document(const Plan &plan, int index) {
        first_query = plan.query_offsets[index];
        queries = plan.query_offsets[index + 1] - first_query;
        first_key = plan.key_offsets[index];
        keys = plan.key_offsets[index + 1] - first_key;
        globals = plan.global_positions + plan.global_offsets[index];
        global_count = plan.global_offsets[index + 1] - plan.global_offsets[index];
    }

    /// The number of global positions below `position`.
    __device__ int globals_below(int position) const {
        int first = 0, end = global_count;
        while (first < end) {
            int middle = (first + end) / 2;
            if (globals[middle] < position) {
                first = middle + 1;
            } else {
                end = middle;
            }
        }
        return first;
    }

    __device__ bool is_global(int position) const {
        int index = globals_below(position);
        return index < global_count && globals[index] == position;
    }
};

/// The numbers of one head in a row.
template <typename T>
__device__ __forceinline__ T *head_row(T *values, int64_t stride, int64_t row, int head, int head_size) {
    return values + row * stride + int64_t(head) * head_size;
}
