// What the kernels for any head size share: a warp owns one row, its lanes 32 others at a time.
#pragma once

#include "problem.cuh"

constexpr int ANY_WARPS = 4;
constexpr int ANY_THREADS = ANY_WARPS * WARP;

/// This warp's share of the dynamic shared memory.
__device__ __forceinline__ float *warp_memory(int floats) {
    return reinterpret_cast<float *>(dynamic_shared_memory()) + warp_index() * floats;
}

/// Copies a row to shared memory; the lanes of a warp together.
template <typename T> __device__ __forceinline__ void load_row(float *target, const T *row, int size) {
    for (int d = lane_index(); d < size; d += WARP) target[d] = to_float(row[d]);
}

template <typename T> __device__ __forceinline__ float dot(const float *a, const T *b, int size) {
    float sum = 0.0f;
    for (int d = 0; d < size; d++) sum += a[d] * to_float(b[d]);
    return sum;
}

/// The keys that one query sees: global ones first, then its range, in which global ones are left out.
struct SeenKeys {
    Document document;
    Range range;
    int count;

    /// A global query sees none.
    __device__ SeenKeys(const Document &document, const Visibility &visibility, int query) : document(document) {
        range = visibility.keys_of({query, query + 1}, document.keys);
        count = document.is_global(query) ? 0 : document.global_count + range.end - range.first;
    }

    /// Position of key `index`; negative where there is none.
    __device__ int at(int index) const {
        if (index >= count) return -1;
        if (index < document.global_count) return document.globals[index];
        int key = range.first + index - document.global_count;
        return document.is_global(key) ? -1 : key;
    }
};
