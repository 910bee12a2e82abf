// Self-attention of a decoding step: keys and values of the step's rows join a cache, of whose rows each query sees its hypothesis'
// past, so that beams that part never copy a cache. Any head size; src/ops/past.rs is the same on the CPU.
//
// Bytes: the rows seen, 4 D a row and head in bf16: 4 beams after 256 steps of LED-base 3.1 MB a layer, 1 us at 3.35 TB/s; a
// launch takes longer.
//
// Schedule in bf16, of heads of up to 256 numbers in packs: a block owns a query and head. A lane has a pack of numbers of every so many
// keys, a group of lanes a key. The past but for the row's own key is of earlier steps: where kernels are started early its first 256
// keys (of heads of 64), and their values, are in registers before the kernel that makes the query has ended, and later ones are asked
// for half of that ahead. The row's own key and value come from where they were made. Each group of lanes has a softmax of its own,
// in base 2; a warp merges its groups' by shuffles, and after the only barrier the warps' are merged in their order. 119 registers, 2 KB
// of shared memory (heads of 64). Everything else: past_any.cuh.

#include "past_any.cuh"

namespace {

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP;
/// Keys of a lane in a batch. Two batches are under way.
constexpr int AT_ONCE = 4;

/// What a lane has of the keys and values of a batch: a pack of each.
struct Batch {
    uint4 keys[AT_ONCE], values[AT_ONCE];
};

/// A softmax over some keys: weights are relative to 2^maximum. Every lane of a group has its pack of the weighted values.
struct Sums {
    float maximum = -INFINITY, total = 0.0f, context[PACK] = {};

    /// For another maximum, not below the old one; of no keys it is minus infinity.
    __device__ __forceinline__ float rescale(float most) {
        float reference = most == -INFINITY ? 0.0f : most, scale = ptx::exp2_approximate(maximum - reference);
        maximum = most;
        total *= scale;
#pragma unroll
        for (int n = 0; n < PACK; n++) context[n] *= scale;
        return reference;
    }
};

/// The past of one query and head; GROUP lanes share a key.
template <int GROUP> struct Head {
    static constexpr int GROUPS = WARP / GROUP;
    /// Keys between those of a lane, and of a batch.
    static constexpr int APART = WARPS * GROUPS, BATCH = AT_ONCE * APART;

    /// The lane's numbers of the cache's first key and value, and how far apart rows are.
    const bf16 *keys, *values;
    int stride;
    const uint32_t *ancestors;
    /// Keys of earlier steps.
    int earlier;

    /// Whether the warp has keys in a batch, of which its first group has the first.
    __device__ __forceinline__ bool has(int batch) const { return batch * BATCH + warp_index() * GROUPS < earlier; }

    /// Key i of the lane in a batch.
    __device__ __forceinline__ int key(int batch, int i) const {
        return batch * BATCH + i * APART + warp_index() * GROUPS + lane_index() / GROUP;
    }

    /// Asks for all keys and values of a batch that the warp has; behind the last of them for that one again.
    __device__ __forceinline__ void load(Batch &to, int batch) const {
        if (!has(batch)) return;
        int rows[AT_ONCE];
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) rows[i] = int(ancestors[min(key(batch, i), earlier - 1)]);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            to.keys[i] = ptx::stream_16(keys + int64_t(rows[i]) * stride);
            to.values[i] = ptx::stream_16(values + int64_t(rows[i]) * stride);
        }
    }

    /// The query times a key; every lane of the group gets it.
    static __device__ __forceinline__ float score(const float (&query)[PACK], const uint4 &key) {
        float sums[2] = {}, numbers[PACK];
        unpack(numbers, key, bf16());
#pragma unroll
        for (int n = 0; n < PACK; n++) sums[n % 2] += query[n] * numbers[n];
        return lanes_sum<GROUP>(sums[0] + sums[1]);
    }

    __device__ __forceinline__ void add(Sums &sums, const float (&query)[PACK], const Batch &own, int batch) const {
        float scores[AT_ONCE], most = sums.maximum;
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            scores[i] = score(query, own.keys[i]);
            if (key(batch, i) >= earlier) scores[i] = -INFINITY;
            most = fmaxf(most, scores[i]);
        }
        float reference = sums.rescale(most);
#pragma unroll
        for (int i = 0; i < AT_ONCE; i++) {
            float weight = ptx::exp2_approximate(scores[i] - reference), numbers[PACK];
            sums.total += weight;
            unpack(numbers, own.values[i], bf16());
#pragma unroll
            for (int n = 0; n < PACK; n++) sums.context[n] += weight * numbers[n];
        }
    }

    /// What all groups of the warp have found.
    static __device__ __forceinline__ void merge(Sums &sums) {
        float most = sums.maximum;
#pragma unroll
        for (int mask = GROUP; mask < WARP; mask *= 2) most = fmaxf(most, __shfl_xor_sync(ALL_LANES, most, mask));
        sums.rescale(most);
#pragma unroll
        for (int mask = GROUP; mask < WARP; mask *= 2) {
            sums.total += __shfl_xor_sync(ALL_LANES, sums.total, mask);
#pragma unroll
            for (int n = 0; n < PACK; n++) sums.context[n] += __shfl_xor_sync(ALL_LANES, sums.context[n], mask);
        }
    }
};

/// Of one block a processor at least, so that registers are no reason to ask for bytes late.
template <int GROUP> __global__ void __launch_bounds__(THREADS, 1) past_attention(Past<bf16> past, bf16 *output) {
    using H = Head<GROUP>;
    alignas(16) __shared__ float contexts[WARPS][GROUP * PACK];
    __shared__ float maxima[WARPS], totals[WARPS];
    ptx::let_next_kernel_start();
    int row = blockIdx.x, size = past.size, column = lane_index() % GROUP * PACK;
    // Lanes behind the last pack of a head have the first one, of a query of zeros.
    bool exists = column < size;
    int64_t first = int64_t(blockIdx.y) * size, from = row * past.stride + first + (exists ? column : 0);
    int stride = past.heads * size;
    int64_t own_place = int64_t(past.places[row]) * stride + first + column;
    H head{
        past.keys + first + (exists ? column : 0), past.values + first + (exists ? column : 0), stride,
        past.ancestors + int64_t(row) * past.reach, int(past.lengths[row]) - 1,
    };
    // So far only what the host has written was read, and now of the cache what steps before this one have.
    Batch batches[2];
    head.load(batches[0], 0);
    head.load(batches[1], 1);
    ptx::wait_for_kernels_before();

    // The warp with the fewest keys takes the row's own.
    bool takes_own = warp_index() == WARPS - 1;
    uint4 bits = ptx::load_16(past.q + from), own_key{0, 0, 0, 0}, own_value{0, 0, 0, 0};
    if (takes_own) {
        own_key = ptx::load_16(past.new_keys + from);
        own_value = ptx::load_16(past.new_values + from);
    }
    float query[PACK], scale = exists ? past.scale * LOG2_E : 0.0f;
    unpack(query, bits, bf16());
#pragma unroll
    for (int n = 0; n < PACK; n++) query[n] *= scale;
    Sums sums;
    if (takes_own) {
        float score = H::score(query, own_key);
        if (lane_index() < GROUP) {
            sums.maximum = score;
            sums.total = 1.0f;
            unpack(sums.context, own_value, bf16());
            if (exists) {
                ptx::store_16(past.keys + own_place, own_key);
                ptx::store_16(past.values + own_place, own_value);
            }
        }
    }
    for (int batch = 0; head.has(batch); batch += 2) {
        head.add(sums, query, batches[0], batch);
        head.load(batches[0], batch + 2);
        if (!head.has(batch + 1)) break;
        head.add(sums, query, batches[1], batch + 1);
        head.load(batches[1], batch + 3);
    }
    H::merge(sums);
    if (lane_index() < GROUP) store_values(&contexts[warp_index()][column], sums.context);
    if (lane_index() == 0) {
        maxima[warp_index()] = sums.maximum;
        totals[warp_index()] = sums.total;
    }
    __syncthreads();
    if (int(threadIdx.x) >= size) return;
    // The row's own key is there always, so this is a number.
    float most = -INFINITY, total = 0.0f, value = 0.0f;
#pragma unroll
    for (int warp = 0; warp < WARPS; warp++) most = fmaxf(most, maxima[warp]);
#pragma unroll
    for (int warp = 0; warp < WARPS; warp++) {
        float weight = ptx::exp2_approximate(maxima[warp] - most);
        total += weight * totals[warp];
        value += weight * contexts[warp][threadIdx.x];
    }
    output[int64_t(row) * stride + first + threadIdx.x] = from_float<bf16>(value * ptx::reciprocal_approximate(total));
}

int start_packs(const Past<bf16> &past, int rows, bf16 *output, cudaStream_t stream) {
    auto kernel = past.size <= 8 * PACK ? past_attention<8> : past.size <= 16 * PACK ? past_attention<16> : past_attention<32>;
    return launch_early(kernel, dim3(rows, past.heads), THREADS, 0, stream, past, output);
}

template <typename T>
int start(
    const void *q, const void *new_keys, const void *new_values, int64_t stride, void *keys, void *values,
    const uint32_t *places, const uint32_t *lengths, const uint32_t *ancestors, int reach, int rows, int heads, int size,
    float scale, void *output, cudaStream_t stream
) {
    auto read = [](const void *numbers) { return static_cast<const T *>(numbers); };
    Past<T> past{
        read(q), read(new_keys), read(new_values), stride, static_cast<T *>(keys), static_cast<T *>(values),
        places,  lengths,        ancestors,        reach,  heads,                  size,
        scale,
    };
    auto to = static_cast<T *>(output);
    if constexpr (sizeof(T) == sizeof(bf16)) {
        bool packs = takes_packs(size, q, new_keys, new_values, keys, values) && stride % PACK == 0;
        if (packs && size <= WARP * PACK) return start_packs(past, rows, to, stream);
    }
    return any_size::start(past, rows, to, stream);
}

} // namespace

/// output [R, H, D]. Every row has a past, its own place at least.
#define PAST_ATTENTION(NAME, T)                                                                                        \
    extern "C" int epitome_past_attention_##NAME(                                                                      \
        const void *q, const void *new_keys, const void *new_values, int64_t stride, void *keys, void *values,         \
        const uint32_t *places, const uint32_t *lengths, const uint32_t *ancestors, int reach, int rows, int heads,    \
        int size, float scale, void *output, cudaStream_t stream                                                       \
    ) {                                                                                                                \
        return start<T>(                                                                                               \
            q, new_keys, new_values, stride, keys, values, places, lengths, ancestors, reach, rows, heads, size,       \
            scale, output, stream                                                                                      \
        );                                                                                                             \
    }

PAST_ATTENTION(f32, float)
PAST_ATTENTION(bf16, bf16)
