// What attention of a decoding step to its past reads and writes.
#pragma once

#include "../rows/packs.cuh"

/// Queries, keys and values of the step [R, H, D], rows of them `stride` numbers apart; keys and values of all steps [.., H, D].
/// Row r joins them as row `places[r]`, and its past is `ancestors[r * reach]..`, `lengths[r]` rows, of the step's own its alone.
template <typename T> struct Past {
    const T *q, *new_keys, *new_values;
    int64_t stride;
    T *keys, *values;
    const uint32_t *places, *lengths, *ancestors;
    int reach, heads, size;
    float scale;
};

