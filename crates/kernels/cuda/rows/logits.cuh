// A row of logits that a block of threads reads together.
#pragma once

#include "packs.cuh"

constexpr int LOGIT_THREADS = 512;

/// Sum of exp(logit - maximum).
struct Exponentials {
    float maximum, sum;
};

__device__ __forceinline__ float exp_from(float value, float maximum) {
    return maximum == -INFINITY ? 0.0f : expf(value - maximum);
}

struct Larger {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// One row of logits, which a block of threads owns, in packs where they are aligned. A bias, if there is one, is added on
/// reading. What becomes of them is of type G and may take their place.
template <typename T, typename G, bool PACKS> struct Row {
    const T *logits;
    G *results;
    const float *bias;
    int count;

    /// Calls `visit(column, value)` for this thread's share, and stores what it returns among the results where `STORE`.
    template <bool STORE, typename Visit> __device__ __forceinline__ void each(Visit visit) const {
        int packed = PACKS ? count / PACK * PACK : 0;
        for (int first = threadIdx.x * PACK; first < packed; first += LOGIT_THREADS * PACK) visit_part<PACK, STORE>(first, visit);
        for (int column = packed + threadIdx.x; column < count; column += LOGIT_THREADS) visit_part<1, STORE>(column, visit);
    }

    template <int V, bool STORE, typename Visit> __device__ __forceinline__ void visit_part(int first, Visit visit) const {
        float values[V], added[V] = {};
        load_values(values, logits + first);
        if (bias != nullptr) load_values(added, bias + first);
#pragma unroll
        for (int i = 0; i < V; i++) values[i] = visit(first + i, values[i] + added[i]);
        if constexpr (STORE) store_values(results + first, values);
    }
};

/// The sum of the exponentials of logits, in one pass, in which `visit(column, value)` sees every one of them, too. They are
/// those of a `Row`, or of what has an `each` like it.
template <typename Logits, typename Visit>
__device__ __forceinline__ Exponentials exponentials_of(const Logits &logits, float *scratch, Visit visit) {
    Exponentials own{-INFINITY, 0.0f};
    logits.template each<false>([&](int column, float value) {
        float most = fmaxf(own.maximum, value);
        own.sum = own.sum * exp_from(own.maximum, most) + exp_from(value, most);
        own.maximum = most;
        visit(column, value);
        return value;
    });
    float maximum = block_reduce(own.maximum, scratch, Larger());
    return {maximum, block_reduce(own.sum * exp_from(own.maximum, maximum), scratch, Plus())};
}
