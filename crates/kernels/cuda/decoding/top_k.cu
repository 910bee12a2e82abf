// The K most probable entries of each row of logits, with their log-probabilities: what a step of beam search brings to the host.
//
// Bytes: the logits once, and once more from the second-level cache for the first candidates; 4 beams of 50,265 in bf16: 0.4 MB.
//
// Schedule: a block owns a row. Every thread knows the best of its own entries; K times the block picks the best of those, and
// the thread that had it looks for its next one.

#include "../rows/logits.cuh"

namespace {

/// An entry; of equal values the first is better.
struct Candidate {
    float value;
    int index;

    __device__ bool better_than(const Candidate &other) const {
        return value > other.value || (value == other.value && index < other.index);
    }
};

constexpr int NO_INDEX = 0x7fffffff;

/// The best of all threads; every thread gets it.
__device__ __forceinline__ Candidate best_of_block(Candidate own, Candidate *scratch) {
#pragma unroll
    for (int mask = WARP / 2; mask > 0; mask /= 2) {
        float value = __shfl_xor_sync(ALL_LANES, own.value, mask);
        int index = __shfl_xor_sync(ALL_LANES, own.index, mask);
        Candidate other{value, index};
        if (other.better_than(own)) own = other;
    }
    if (lane_index() == 0) scratch[warp_index()] = own;
    __syncthreads();
    Candidate best = scratch[0];
    for (int warp = 1; warp < LOGIT_THREADS / WARP; warp++) {
        if (scratch[warp].better_than(best)) best = scratch[warp];
    }
    __syncthreads();
    return best;
}

template <typename T, bool PACKS>
__global__ void __launch_bounds__(LOGIT_THREADS)
    top_k(T *logits, const float *bias, int64_t stride, int vocabulary, int k, float *values, int *indices) {
    __shared__ float scratch[LOGIT_THREADS / WARP];
    __shared__ Candidate candidates[LOGIT_THREADS / WARP];
    Row<T, PACKS> row{logits + blockIdx.x * stride, bias, vocabulary};
    Candidate own{-INFINITY, NO_INDEX};
    Exponentials exponentials = exponentials_of(row, scratch, [&](int column, float value) {
        Candidate candidate{value, column};
        if (candidate.better_than(own)) own = candidate;
    });
    float log_total = exponentials.maximum + logf(exponentials.sum);
    for (int n = 0; n < k; n++) {
        Candidate best = best_of_block(own, candidates);
        if (threadIdx.x == 0) {
            values[int64_t(blockIdx.x) * k + n] = best.value - log_total;
            indices[int64_t(blockIdx.x) * k + n] = best.index;
        }
        if (own.index != best.index) continue;
        own = {-INFINITY, NO_INDEX};
        row.template each<false>([&](int column, float value) {
            Candidate candidate{value, column};
            if (best.better_than(candidate) && candidate.better_than(own)) own = candidate;
            return value;
        });
    }
}

template <typename T>
int start(
    const void *logits, const float *bias, int64_t rows, int64_t stride, int vocabulary, int k, float *values, int *indices,
    cudaStream_t stream
) {
    // Rows are read only: what is not stored is not changed.
    auto numbers = static_cast<T *>(const_cast<void *>(logits));
    auto kernel = takes_packs(stride, logits, bias) ? top_k<T, true> : top_k<T, false>;
    return launch(kernel, dim3(rows), LOGIT_THREADS, 0, stream, numbers, bias, stride, vocabulary, k, values, indices);
}

} // namespace

/// logits: `rows` rows of `vocabulary` numbers, `stride` apart; bias [vocabulary] or null. values and indices [rows, k], the best
/// first, of equal ones the first; k at most `vocabulary`.
extern "C" int epitome_top_k_f32(
    const void *logits, const float *bias, int64_t rows, int64_t stride, int vocabulary, int k, float *values, int *indices,
    cudaStream_t stream
) {
    return start<float>(logits, bias, rows, stride, vocabulary, k, values, indices, stream);
}

extern "C" int epitome_top_k_bf16(
    const void *logits, const float *bias, int64_t rows, int64_t stride, int vocabulary, int k, float *values, int *indices,
    cudaStream_t stream
) {
    return start<bf16>(logits, bias, rows, stride, vocabulary, k, values, indices, stream);
}
