// The K most probable entries of each row of logits, with their log-probabilities: what a step of beam search brings to the host.
//
// Bytes: the logits once; 4 beams of 50,265 in f32: 0.8 MB, far less time than the launches.
//
// Schedule: a row is shared by up to PARTS blocks, so that few rows keep the processor busy. A block holds its part in shared memory: every
// thread knows the best of its own entries; K times the block picks the best of those, and the thread that had it looks for its
// next one. Then a warp merges a row's lists, a part a lane.

#include "../rows/logits.cuh"

namespace {

constexpr int THREADS = 128;
constexpr int PARTS = WARP;
/// Entries of a part at least.
constexpr int LEAST = 512;
constexpr int NO_INDEX = 0x7fffffff;

/// An entry; of equal values the first is better.
struct Candidate {
    float value;
    int index;

    __device__ bool better_than(const Candidate &other) const {
        return value > other.value || (value == other.value && index < other.index);
    }
};

/// The best of the lanes; every lane gets it.
__device__ __forceinline__ Candidate best_of_lanes(Candidate own) {
#pragma unroll
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        float value = __shfl_xor_sync(ALL_LANES, own.value, mask);
        int index = __shfl_xor_sync(ALL_LANES, own.index, mask);
        Candidate other{value, index};
        if (other.better_than(own)) own = other;
    }
    return own;
}

/// The best of all threads; every thread gets it. May be called again at once.
__device__ __forceinline__ Candidate best_of_block(Candidate own, Candidate *scratch) {
    own = best_of_lanes(own);
    if (lane_index() == 0) scratch[warp_index()] = own;
    __syncthreads();
    Candidate best = scratch[0];
    for (int warp = 1; warp < THREADS / WARP; warp++) {
        if (scratch[warp].better_than(best)) best = scratch[warp];
    }
    __syncthreads();
    return best;
}

struct Larger {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

/// What the parts of all rows found: [rows, PARTS] each, and [rows, PARTS, k] candidates, the best first.
struct Found {
    Exponentials *exponentials;
    Candidate *candidates;
};

/// Rows of `vocabulary` logits, `stride` apart, and a bias or none. A part has `size` entries.
template <typename T> struct Logits {
    const T *values;
    const float *bias;
    int64_t stride;
    int vocabulary, size;
};

template <typename T, int V>
__global__ void __launch_bounds__(THREADS) find_in_parts(Logits<T> logits, int k, Found found) {
    __shared__ float scratch[THREADS / WARP];
    __shared__ Candidate best_of_warps[THREADS / WARP];
    float *values = reinterpret_cast<float *>(dynamic_shared_memory());
    int part = blockIdx.x, first = part * logits.size, count = max(0, min(logits.size, logits.vocabulary - first));
    const T *row = logits.values + blockIdx.y * logits.stride + first;
    float maximum = -INFINITY, sum = 0.0f;
    for (int start = threadIdx.x * V; start < count; start += THREADS * V) {
        float own[V];
        // What lies behind the last entry is within the row's stride.
        load_values(own, row + start);
#pragma unroll
        for (int i = 0; i < V; i++) {
            if (start + i >= count) break;
            if (logits.bias != nullptr) own[i] += logits.bias[first + start + i];
            values[start + i] = own[i];
            maximum = fmaxf(maximum, own[i]);
        }
    }
    maximum = block_reduce(maximum, scratch, Larger());
    Candidate own{-INFINITY, NO_INDEX};
    for (int i = threadIdx.x; i < count; i += THREADS) {
        // What is no number shows in the sum, also where a part has nothing else.
        sum += values[i] != values[i] ? values[i] : exp_from(values[i], maximum);
        Candidate candidate{values[i], first + i};
        if (candidate.better_than(own)) own = candidate;
    }
    sum = block_reduce(sum, scratch, Plus());
    int64_t list = int64_t(blockIdx.y) * PARTS + part;
    if (threadIdx.x == 0) found.exponentials[list] = {maximum, sum};
    for (int n = 0; n < k; n++) {
        Candidate best = best_of_block(own, best_of_warps);
        if (threadIdx.x == 0) found.candidates[list * k + n] = best;
        if (own.index != best.index || own.index == NO_INDEX) continue;
        own = {-INFINITY, NO_INDEX};
        for (int i = threadIdx.x; i < count; i += THREADS) {
            Candidate candidate{values[i], first + i};
            if (best.better_than(candidate) && candidate.better_than(own)) own = candidate;
        }
    }
}

/// A warp owns a row of so many parts.
__global__ void __launch_bounds__(WARP) merge_parts(Found found, int parts, int k, float *values, int *indices) {
    int64_t row = blockIdx.x, list = row * PARTS + lane_index();
    bool is_part = lane_index() < parts;
    Exponentials own = is_part ? found.exponentials[list] : Exponentials{-INFINITY, 0.0f};
    float maximum = lanes_max(own.maximum);
    // Not added to the maximum, whose last place is coarse beside a log-probability near 0.
    float log_total = logf(lanes_sum(own.sum * exp_from(own.maximum, maximum)));
    const Candidate *candidates = found.candidates + list * k;
    Candidate head = is_part ? candidates[0] : Candidate{-INFINITY, NO_INDEX};
    for (int n = 0, taken = 0; n < k; n++) {
        Candidate best = best_of_lanes(head);
        if (lane_index() == 0) {
            values[row * k + n] = (best.value - maximum) - log_total;
            indices[row * k + n] = best.index;
        }
        if (head.index != best.index || head.index == NO_INDEX) continue;
        taken++;
        head = taken < k ? candidates[taken] : Candidate{-INFINITY, NO_INDEX};
    }
}

template <typename T>
int start(
    const void *values, const float *bias, int64_t rows, int64_t stride, int vocabulary, int k, void *room, float *found_values,
    int *found_indices, cudaStream_t stream
) {
    int size = max(LEAST, ceil_div(vocabulary, PARTS * PACK) * PACK), parts = ceil_div(vocabulary, size);
    Logits<T> logits{static_cast<const T *>(values), bias, stride, vocabulary, size};
    auto exponentials = static_cast<Exponentials *>(room);
    Found found{exponentials, reinterpret_cast<Candidate *>(exponentials + rows * PARTS)};
    auto kernel = takes_packs(stride, logits.values) ? find_in_parts<T, PACK> : find_in_parts<T, 1>;
    int error = launch(kernel, dim3(parts, rows), THREADS, size * sizeof(float), stream, logits, k, found);
    if (error != 0 || k == 0) return error;
    return launch(merge_parts, dim3(rows), WARP, 0, stream, found, parts, k, found_values, found_indices);
}

} // namespace

/// logits: `rows` rows of `vocabulary` numbers, `stride` apart; bias [vocabulary] or null. values and indices [rows, k], the best
/// first, of equal ones the first; k at most `vocabulary`. `room`: [rows, 32, 1 + k] pairs of words.
#define TOP_K(NAME, T)                                                                                                 \
    extern "C" int epitome_top_k_##NAME(                                                                               \
        const void *logits, const float *bias, int64_t rows, int64_t stride, int vocabulary, int k, void *room,        \
        float *values, int *indices, cudaStream_t stream                                                               \
    ) {                                                                                                                \
        return start<T>(logits, bias, rows, stride, vocabulary, k, room, values, indices, stream);                     \
    }

TOP_K(f32, float)
TOP_K(bf16, bf16)
