// What a block of keys is to the queries that see it, for the gradients of keys and values.
#pragma once

#include "fragments.cuh"

/// The gradients of keys and values, or of global ones the partial sums.
struct Targets {
    bf16 *dk, *dv;
    float *partial_dk, *partial_dv;
};

/// The keys of a block, or ROWS of them.
template <int ROWS = BLOCK> struct OwnedKeys {
    Document document;
    Visibility visibility;
    bool global;
    /// Of the document, or of its global positions.
    Range keys;
    /// The queries to walk, and those that see every key.
    Range queries, common;
    /// Of global keys, the row of the partial sums of the first.
    int64_t partial_row;

    __device__ OwnedKeys(const Problem &problem, Block block, bool global, int first_row = 0)
        : document(problem.plan, block.document), visibility(problem.visibility), global(global) {
        int count = global ? document.global_count : document.keys, first_key = block.first + first_row;
        // Only a part of a block can be without keys.
        keys = {ROWS < BLOCK ? min(first_key, count) : first_key, min(first_key + ROWS, count)};
        if (ROWS < BLOCK && keys.first == keys.end) {
            queries = common = {0, 0};
            partial_row = 0;
        } else if (global) {
            int first = block.chunk * problem.plan.chunk;
            queries = common = {first, min(first + problem.plan.chunk, document.queries)};
            partial_row = problem.plan.partial_offsets[block.document] +
                          int64_t(block.chunk) * document.global_count + keys.first;
        } else {
            queries = visibility.queries_of(keys, document.queries);
            common.first = visibility.queries_of({keys.end - 1, keys.end}, document.queries).first;
            common.end = visibility.queries_of({keys.first, keys.first + 1}, document.queries).end;
            partial_row = 0;
        }
    }

    __device__ bool exists(int row) const { return keys.first + row < keys.end; }

    /// Position in the document of a row that exists.
    __device__ int position(int row) const {
        return global ? document.globals[keys.first + row] : keys.first + row;
    }

    __device__ Source source(int row, const void *values, int64_t stride, int head, int size) const {
        auto rows = static_cast<const bf16 *>(values);
        if (!exists(row)) return {rows, false};
        return {head_row(rows, stride, document.first_key + position(row), head, size), true};
    }

    /// The queries that see a row.
    __device__ Range seen_by(int row) const {
        if (global) return queries;
        int key = keys.first + row;
        return visibility.queries_of({key, key + 1}, document.queries);
    }
};
