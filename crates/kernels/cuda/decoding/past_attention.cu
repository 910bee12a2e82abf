// Self-attention of a decoding step: each query sees rows of a cache that lie apart, its hypothesis' past, so that beams that
// part never copy a cache. Any head size; src/ops/past.rs is the same on the CPU.
//
// Bytes: the rows seen, 4 D a row and head in bf16: 4 beams after 256 steps of LED-base 3.1 MB a layer, 1 us at 3.35 TB/s; a
// launch takes longer.
//
// Schedule: a block owns a query and head, its warps share the past. A lane scores a key, then all lanes add the 32 values.

#include "../numbers.cuh"

namespace {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;

/// q [R, H, D]; keys and values [rows, H, D]; the past of query r is `ancestors[r * stride]..`, `lengths[r]` rows.
template <typename T> struct Past {
    const T *q, *keys, *values;
    const uint32_t *ancestors, *lengths;
    int stride, heads, size;
    float scale;
};

template <typename T> __global__ void __launch_bounds__(THREADS) past_attention(Past<T> past, T *output) {
    __shared__ float maxima[WARPS], sums[WARPS];
    int row = blockIdx.x, head = blockIdx.y, size = past.size, lane = lane_index();
    float *memory = reinterpret_cast<float *>(dynamic_shared_memory());
    float *query = memory, *context = memory + size + warp_index() * size;
    int64_t own = (int64_t(row) * past.heads + head) * size;
    for (int d = threadIdx.x; d < size; d += THREADS) query[d] = past.scale * to_float(past.q[own + d]);
    for (int d = lane; d < size; d += WARP) context[d] = 0.0f;
    __syncthreads();

    const uint32_t *ancestors = past.ancestors + int64_t(row) * past.stride;
    int length = past.lengths[row];
    auto place = [&](uint32_t ancestor) { return (int64_t(ancestor) * past.heads + head) * size; };
    float maximum = -INFINITY, sum = 0.0f;
    for (int first = warp_index() * WARP; first < length; first += THREADS) {
        int count = min(WARP, length - first);
        uint32_t ancestor = lane < count ? ancestors[first + lane] : 0;
        float score = -INFINITY;
        if (lane < count) {
            const T *key = past.keys + place(ancestor);
            score = 0.0f;
            for (int d = 0; d < size; d++) score += query[d] * to_float(key[d]);
        }
        // At least one lane has a key, so the new maximum is a number.
        float most = fmaxf(maximum, lanes_max(score));
        float rescale = expf(maximum - most), p = expf(score - most);
        sum = rescale * sum + lanes_sum(p);
        maximum = most;
        for (int d = lane; d < size; d += WARP) context[d] *= rescale;
        for (int n = 0; n < count; n++) {
            float weight = __shfl_sync(ALL_LANES, p, n);
            const T *value = past.values + place(__shfl_sync(ALL_LANES, ancestor, n));
            for (int d = lane; d < size; d += WARP) context[d] += weight * to_float(value[d]);
        }
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
        for (int warp = 0; warp < WARPS && length > 0; warp++) {
            float weight = expf(maxima[warp] - most);
            total += weight * sums[warp];
            value += weight * memory[(1 + warp) * size + d];
        }
        output[own + d] = from_float<T>(length > 0 ? value / total : 0.0f);
    }
}

template <typename T>
int start(
    const void *q, const void *keys, const void *values, const uint32_t *ancestors, const uint32_t *lengths, int stride,
    int rows, int heads, int size, float scale, void *output, cudaStream_t stream
) {
    auto numbers = [](const void *values) { return static_cast<const T *>(values); };
    Past<T> past{numbers(q), numbers(keys), numbers(values), ancestors, lengths, stride, heads, size, scale};
    size_t bytes = (1 + WARPS) * size * sizeof(float);
    return launch(past_attention<T>, dim3(rows, heads), THREADS, bytes, stream, past, static_cast<T *>(output));
}

} // namespace

/// output [R, H, D]; a query without a past gets zeros.
#define PAST_ATTENTION(NAME, T)                                                                                        \
    extern "C" int epitome_past_attention_##NAME(                                                                      \
        const void *q, const void *keys, const void *values, const uint32_t *ancestors, const uint32_t *lengths,       \
        int stride, int rows, int heads, int size, float scale, void *output, cudaStream_t stream                      \
    ) {                                                                                                                \
        return start<T>(q, keys, values, ancestors, lengths, stride, rows, heads, size, scale, output, stream);        \
    }

PAST_ATTENTION(f32, float)
PAST_ATTENTION(bf16, bf16)
