// The K most probable entries of each row of logits, with their log-probabilities: what a step of beam search brings to the host.
//
// Bytes: the logits once; 4 beams of 50,265 in f32: 0.8 MB, far less time than the launches. So what counts is how often threads wait
// for each other.
//
// Schedule: a row is shared by up to PARTS blocks, so that few rows keep the processor busy. A block holds its part in shared memory;
// each of its warps finds the best of its own entries: every lane knows the best of its own; K times the warp picks the best of
// those, and the lane that had it looks for its next one. Then, after the only barrier, each entry of the warps' lists counts those that
// are better: that is its place in the part's list. Then a warp merges a row's lists, a part a lane, from shared memory.

#include "../rows/logits.cuh"

namespace {

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP;
constexpr int PARTS = WARP;
constexpr int MERGE_THREADS = 128;
/// Bytes of a row's lists that are merged from shared memory.
constexpr size_t MOST_SHARED = 48 << 10;
/// Entries of a part at least.
constexpr int LEAST = 512;
constexpr int NO_INDEX = 0x7fffffff;

/// Numbers in the order of values, 1 at least. Both zeros are equal; what is no number has 0.
__device__ __forceinline__ uint32_t order_of(float value) {
    uint32_t bits = __float_as_uint(value + 0.0f);
    if (value != value) return 0;
    return bits >> 31 ? ~bits : bits | 0x80000000;
}

/// The value with this order; of 0 no number.
__device__ __forceinline__ float value_of(uint32_t order) { return __uint_as_float(order >> 31 ? order ^ 0x80000000 : ~order); }

/// An entry, or none, whose order is 0; of equal values the first is better.
struct Candidate {
    uint32_t order;
    int index;

    __device__ __forceinline__ bool better_than(const Candidate &other) const {
        return order > other.order || (order == other.order && index < other.index);
    }
};

/// The best of the lanes; every lane gets it.
__device__ __forceinline__ Candidate best_of_lanes(const Candidate &own) {
    uint32_t order = __reduce_max_sync(ALL_LANES, own.order);
    return {order, __reduce_min_sync(ALL_LANES, own.order == order ? own.index : NO_INDEX)};
}

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

/// A thread's entries of a part of `count`, whose first has index `first`: every so many packs of V, in shared memory by their order,
/// each in one bank.
template <int V> struct Entries {
    uint32_t *orders;
    int first, count;

    /// Calls `visit(i, order)` for packs of V that begin with entry i of the part, of which `order(n)` is where the order of the n-th is.
    template <typename Visit> __device__ __forceinline__ void packs(Visit visit) const {
        uint32_t *own = orders + threadIdx.x;
        for (int start = threadIdx.x * V; start < count; start += THREADS * V, own += THREADS * V) {
            visit(start, [&](int n) -> uint32_t & { return own[n * THREADS]; });
        }
    }

    /// Takes logits and biases. Returns 0, or what is no number if there is one.
    template <typename T> __device__ __forceinline__ float load(const T *logits, const float *bias) const {
        float none = 0.0f;
        packs([&](int start, auto order) {
            float own[V];
            // What lies behind the last entry is within the row's stride.
            load_values(own, logits + start);
#pragma unroll
            for (int i = 0; i < V; i++) {
                bool exists = start + i < count;
                if (exists && bias != nullptr) own[i] += bias[first + start + i];
                if (exists && own[i] != own[i]) none = own[i];
                order(i) = exists ? order_of(own[i]) : 0;
            }
        });
        return none;
    }

    /// Calls `visit(order, index)`, indices rising; what is no entry has order 0.
    template <typename Visit> __device__ __forceinline__ void each(Visit visit) const {
        packs([&](int start, auto order) {
#pragma unroll
            for (int i = 0; i < V; i++) visit(order(i), first + start + i);
        });
    }

    /// The best of those that are worse than `last`.
    __device__ __forceinline__ Candidate best_after(const Candidate &last) const {
        Candidate best{0, NO_INDEX};
        each([&](uint32_t order, int index) {
            if (last.better_than({order, index}) && order > best.order) best = {order, index};
        });
        return best;
    }
};

/// Writes the best `k` of `count` candidates, no two of which are the same, and nothing else. SHARES lanes compare a candidate with
/// the others.
__device__ __forceinline__ void write_best(const Candidate *candidates, int count, int k, Candidate *target) {
    constexpr int SHARES = 4;
    for (int first = 0; first < count; first += THREADS / SHARES) {
        int i = first + threadIdx.x / SHARES, share = threadIdx.x % SHARES;
        Candidate own = candidates[min(i, count - 1)];
        int place = 0;
#pragma unroll 8
        for (int j = share; j < count; j += SHARES) {
            Candidate other = candidates[j];
            // Places that have none lie in their order.
            bool same = other.order == own.order && other.index == own.index;
            place += other.better_than(own) || (same && j < i);
        }
#pragma unroll
        for (int mask = 1; mask < SHARES; mask *= 2) place += __shfl_xor_sync(ALL_LANES, place, mask);
        if (share == 0 && i < count && place < k) target[place] = own;
    }
    for (int i = count + threadIdx.x; i < k; i += THREADS) target[i] = {0, NO_INDEX};
}

/// A warp lists `listed` of its entries: as many as are asked for, or as it has.
template <typename T, int V>
__global__ void __launch_bounds__(THREADS) find_in_parts(Logits<T> logits, int k, int listed, Found found) {
    __shared__ Exponentials sums[WARPS];
    ptx::let_next_kernel_start();
    ptx::wait_for_kernels_before();
    int part = blockIdx.x, first = part * logits.size, count = max(0, min(logits.size, logits.vocabulary - first));
    auto lists = reinterpret_cast<Candidate *>(dynamic_shared_memory()), own_list = lists + warp_index() * listed;
    Entries<V> entries{reinterpret_cast<uint32_t *>(lists + WARPS * listed), first, count};
    // What is no number shows in the sum, also where a part has nothing else.
    float sum = entries.load(logits.values + blockIdx.y * logits.stride + first, logits.bias);
    Candidate own = entries.best_after({0xffffffff, -1}), best = best_of_lanes(own);
    float maximum = best.order == 0 ? -INFINITY : value_of(best.order);
    for (int n = 0; n < listed; n++) {
        if (lane_index() == 0) own_list[n] = best;
        if (own.order != 0 && own.index == best.index) own = entries.best_after(best);
        best = best_of_lanes(own);
    }
    entries.each([&](uint32_t order, int) { sum += order == 0 ? 0.0f : exp_from(value_of(order), maximum); });
    sum = lanes_sum(sum);
    if (lane_index() == 0) sums[warp_index()] = {maximum, sum};
    __syncthreads();
    int64_t list = int64_t(blockIdx.y) * PARTS + part;
    write_best(lists, WARPS * listed, k, found.candidates + list * k);
    if (threadIdx.x != THREADS - 1) return;
    Exponentials all{-INFINITY, 0.0f};
    for (int warp = 0; warp < WARPS; warp++) all.maximum = fmaxf(all.maximum, sums[warp].maximum);
    for (int warp = 0; warp < WARPS; warp++) all.sum += sums[warp].sum * exp_from(sums[warp].maximum, all.maximum);
    found.exponentials[list] = all;
}

/// A block owns a row of so many parts: all bring its lists to shared memory, if that has room, a warp merges them.
__global__ void __launch_bounds__(MERGE_THREADS)
    merge_parts(Found found, int parts, int k, bool shares, float *values, int *indices) {
    ptx::let_next_kernel_start();
    ptx::wait_for_kernels_before();
    int64_t row = blockIdx.x, list = row * PARTS + lane_index();
    const Candidate *lists = found.candidates + row * PARTS * k;
    bool is_part = lane_index() < parts;
    Exponentials own = is_part ? found.exponentials[list] : Exponentials{-INFINITY, 0.0f};
    if (shares) {
        auto shared = reinterpret_cast<Candidate *>(dynamic_shared_memory());
        for (int i = threadIdx.x; i < parts * k; i += MERGE_THREADS) shared[i] = lists[i];
        lists = shared;
        __syncthreads();
    }
    if (warp_index() > 0) return;
    float maximum = lanes_max(own.maximum);
    // Not added to the maximum, whose last place is coarse beside a log-probability near 0.
    float log_total = logf(lanes_sum(own.sum * exp_from(own.maximum, maximum)));
    lists += lane_index() * k;
    Candidate head = is_part ? lists[0] : Candidate{0, NO_INDEX};
    for (int n = 0, taken = 0; n < k; n++) {
        Candidate best = best_of_lanes(head);
        if (lane_index() == 0) {
            values[row * k + n] = (value_of(best.order) - maximum) - log_total;
            indices[row * k + n] = best.index;
        }
        if (head.order == 0 || head.index != best.index) continue;
        taken++;
        head = taken < k ? lists[taken] : Candidate{0, NO_INDEX};
    }
}

template <int V, typename T>
int start_parts(const Logits<T> &logits, int64_t rows, int k, const Found &found, cudaStream_t stream) {
    int each = ceil_div(logits.size, THREADS * V) * V, listed = k < WARP * each ? k : WARP * each;
    size_t bytes = size_t(WARPS) * listed * sizeof(Candidate) + size_t(THREADS) * each * sizeof(uint32_t);
    dim3 grid(ceil_div(logits.vocabulary, logits.size), rows);
    return launch_early(find_in_parts<T, V>, grid, THREADS, bytes, stream, logits, k, listed, found);
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
    int error = takes_packs(stride, logits.values) ? start_parts<PACK>(logits, rows, k, found, stream)
                                                   : start_parts<1>(logits, rows, k, found, stream);
    if (error != 0 || k == 0) return error;
    size_t bytes = size_t(parts) * k * sizeof(Candidate);
    bool shares = bytes <= MOST_SHARED;
    return launch_early(
        merge_parts, dim3(rows), MERGE_THREADS, shares ? bytes : 0, stream, found, parts, k, shares, found_values, found_indices
    );
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
