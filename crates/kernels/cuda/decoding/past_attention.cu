// Self-attention of a decoding step: keys and values of the step's rows join a cache, of whose rows each query sees its hypothesis'
// past, so that beams that part never copy a cache. Any head size; src/ops/past.rs is the same on the CPU.
//
// Bytes: the rows seen, 4 D a row and head in bf16: 4 beams after 256 steps of LED-base 3.1 MB a layer, 1 us at 3.35 TB/s; a
// launch takes longer.
//
// Schedule: a block owns a query and head, its warps share the past. A lane scores a key; then lanes add up the 32 values in groups,
// each lane a pack of numbers of every so many keys, which it asks for at once.

#include "../rows/packs.cuh"

namespace {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
/// Keys of which a lane asks for the values at once, and so the fewest lanes of a group.
constexpr int AT_ONCE = 8;

/// Queries, keys and values of the step [R, H, D], rows of them `stride` numbers apart; keys and values of all steps [.., H, D].
/// Row r joins them as row `places[r]`, and its past is `ancestors[r * reach]..`, `lengths[r]` rows, of the step's own its alone.
template <typename T> struct Past {
    const T *q, *new_keys, *new_values;
    int64_t stride;
    T *keys, *values;
    const uint32_t *places, *lengths, *ancestors;
    int reach, heads, size;
    float scale;
    /// Lanes of a group: a power of two, from `AT_ONCE` to those of a warp.
    int group;
};

/// What the keys of a warp are weighted with, and the rows they lie in.
struct Weighted {
    float weights[WARP];
    uint32_t rows[WARP];
};

/// context = rescale context + the weighted values of `count` keys. Behind the last of them are weights of 0.
template <typename T, int V>
__device__ __forceinline__ void add_values(
    float *context, float rescale, const Weighted &keys, int count, const Past<T> &past, int head
) {
    int groups = WARP / past.group, own_group = lane_index() / past.group, each = ceil_div(count, groups);
    for (int column = 0; column < past.size; column += past.group * V) {
        int d = column + lane_index() % past.group * V;
        float own[V] = {};
        if (d < past.size) {
            for (int first = 0; first < each; first += AT_ONCE) {
                float values[AT_ONCE][V];
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++) {
                    int64_t row = keys.rows[(first + i) * groups + own_group];
                    load_values(values[i], past.values + (row * past.heads + head) * past.size + d);
                }
#pragma unroll
                for (int i = 0; i < AT_ONCE; i++) {
                    float weight = keys.weights[(first + i) * groups + own_group];
#pragma unroll
                    for (int n = 0; n < V; n++) own[n] += weight * values[i][n];
                }
            }
        }
        for (int mask = past.group; mask < WARP; mask *= 2) {
#pragma unroll
            for (int n = 0; n < V; n++) own[n] += __shfl_xor_sync(ALL_LANES, own[n], mask);
        }
        if (own_group == 0 && d < past.size) {
#pragma unroll
            for (int n = 0; n < V; n++) context[d + n] = rescale * context[d + n] + own[n];
        }
    }
}

/// V numbers of a key are read at once. Of one block a processor at least, so that registers are no reason to ask for bytes late.
template <typename T, int V>
__global__ void __launch_bounds__(THREADS, 1) past_attention(Past<T> past, T *output) {
    __shared__ float maxima[WARPS], sums[WARPS];
    __shared__ Weighted weighted[WARPS];
    ptx::let_next_kernel_start();
    int row = blockIdx.x, head = blockIdx.y, size = past.size, lane = lane_index();
    // The query lies last, so that nothing that changes lies behind it.
    float *memory = reinterpret_cast<float *>(dynamic_shared_memory());
    float *context = memory + warp_index() * size, *query = memory + WARPS * size;
    auto place = [&](uint32_t of) { return (int64_t(of) * past.heads + head) * size; };
    int64_t from = row * past.stride + int64_t(head) * size, to = place(past.places[row]), own = place(row);
    const uint32_t *ancestors = past.ancestors + int64_t(row) * past.reach;
    int length = past.lengths[row];
    // So far only what the host has written was read.
    ptx::wait_for_kernels_before();
    for (int d = threadIdx.x; d < size; d += THREADS) {
        T q = past.q[from + d], key = past.new_keys[from + d], value = past.new_values[from + d];
        query[d] = past.scale * to_float(q);
        past.keys[to + d] = key;
        past.values[to + d] = value;
    }
    for (int d = lane; d < size; d += WARP) context[d] = 0.0f;
    __syncthreads();

    Weighted &keys = weighted[warp_index()];
    float maximum = -INFINITY, sum = 0.0f;
    for (int first = warp_index() * WARP; first < length; first += THREADS) {
        int count = min(WARP, length - first);
        // Behind the last key its row again, whose weight is 0.
        uint32_t ancestor = ancestors[first + min(lane, count - 1)];
        float score = -INFINITY;
        if (lane < count) {
            const T *key = past.keys + place(ancestor);
            score = 0.0f;
#pragma unroll 8
            for (int d = 0; d < size; d += V) {
                float numbers[V];
                load_values(numbers, key + d);
#pragma unroll
                for (int i = 0; i < V; i++) score += query[d + i] * numbers[i];
            }
        }
        // At least one lane has a key, so the new maximum is a number.
        float most = fmaxf(maximum, lanes_max(score));
        float rescale = expf(maximum - most), p = expf(score - most);
        sum = rescale * sum + lanes_sum(p);
        maximum = most;
        keys.weights[lane] = p;
        keys.rows[lane] = ancestor;
        __syncwarp();
        add_values<T, V>(context, rescale, keys, count, past, head);
        __syncwarp();
    }
    if (lane == 0) {
        maxima[warp_index()] = maximum;
        sums[warp_index()] = sum;
    }
    __syncthreads();
    float most = -INFINITY;
    for (int warp = 0; warp < WARPS; warp++) most = fmaxf(most, maxima[warp]);
    for (int d = threadIdx.x; d < size; d += THREADS) {
        float total = 0.0f, value = 0.0f;
        for (int warp = 0; warp < WARPS; warp++) {
            float weight = expf(maxima[warp] - most);
            total += weight * sums[warp];
            value += weight * memory[warp * size + d];
        }
        output[own + d] = from_float<T>(value / total);
    }
}

template <typename T>
int start(
    const void *q, const void *new_keys, const void *new_values, int64_t stride, void *keys, void *values,
    const uint32_t *places, const uint32_t *lengths, const uint32_t *ancestors, int reach, int rows, int heads, int size,
    float scale, void *output, cudaStream_t stream
) {
    auto read = [](const void *numbers) { return static_cast<const T *>(numbers); };
    bool packs = takes_packs(size, keys, values);
    int group = AT_ONCE;
    while (group < WARP && group * (packs ? PACK : 1) < size) group *= 2;
    Past<T> past{
        read(q), read(new_keys), read(new_values), stride, static_cast<T *>(keys), static_cast<T *>(values),
        places,  lengths,        ancestors,        reach,  heads,                  size,
        scale,   group,
    };
    // The query is read four numbers at a time, also where its last ones are fewer.
    size_t bytes = ceil_div((1 + WARPS) * size, 4) * 4 * sizeof(float);
    auto kernel = packs ? past_attention<T, PACK> : past_attention<T, 1>;
    return launch_early(kernel, dim3(rows, heads), THREADS, bytes, stream, past, static_cast<T *>(output));
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
