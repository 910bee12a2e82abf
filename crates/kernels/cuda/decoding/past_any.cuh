// Attention to the past of any type and head size; past_attention.cu says what it is.
//
// Schedule: a block owns a query and head, its warps share the past. A lane scores a key; then lanes add up the 32 values in groups,
// each lane a pack of numbers of every so many keys, which it asks for at once.
#pragma once

#include "past.cuh"

namespace any_size {

constexpr int WARPS = 4;
constexpr int THREADS = WARPS * WARP;
/// Keys of which a lane asks for the values at once, and so the fewest lanes of a group.
constexpr int AT_ONCE = 8;

/// What the keys of a warp are weighted with, and the rows they lie in.
struct Weighted {
    float weights[WARP];
    uint32_t rows[WARP];
};

/// context = rescale context + the weighted values of `count` keys. Behind the last of them are weights of 0. A group has `group` lanes:
/// a power of two, from `AT_ONCE` to those of a warp.
template <typename T, int V>
__device__ __forceinline__ void add_values(
    float *context, float rescale, const Weighted &keys, int count, const Past<T> &past, int group, int head
) {
    int groups = WARP / group, own_group = lane_index() / group, each = ceil_div(count, groups);
    for (int column = 0; column < past.size; column += group * V) {
        int d = column + lane_index() % group * V;
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
        for (int mask = group; mask < WARP; mask *= 2) {
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
__global__ void __launch_bounds__(THREADS, 1) past_attention(Past<T> past, int group, T *output) {
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
        add_values<T, V>(context, rescale, keys, count, past, group, head);
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

template <typename T> int start(const Past<T> &past, int rows, T *output, cudaStream_t stream) {
    bool packs = takes_packs(past.size, past.keys, past.values);
    int group = AT_ONCE;
    while (group < WARP && group * (packs ? PACK : 1) < past.size) group *= 2;
    // The query is read four numbers at a time, also where its last ones are fewer.
    size_t bytes = ceil_div((1 + WARPS) * past.size, 4) * 4 * sizeof(float);
    auto kernel = packs ? past_attention<T, PACK> : past_attention<T, 1>;
    return launch_early(kernel, dim3(rows, past.heads), THREADS, bytes, stream, past, group, output);
}

} // namespace any_size
