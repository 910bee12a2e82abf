// Cross-entropy of rows of logits with label smoothing: each row's losses, and its gradient in place of the logits; formulas as
// in src/cpu/cross_entropy.rs. The products before and after, in chunks of rows, are the caller's.
//
// Bytes a logit in bf16: 2 read, 2 read again (from the second-level cache: a row of 50,265 is 100 KB), 2 written. A chunk of
// [512, 50,265]: 103 MB, 31 us at 3.35 TB/s, beside 0.8 GFLOP x 50 of the products.
//
// Schedule: a block owns a row; one pass for maximum and sum together, one for the gradient.

#include "../rows/logits.cuh"

namespace {

template <typename T, bool PACKS, bool GRADIENT>
__global__ void __launch_bounds__(LOGIT_THREADS) cross_entropy(
    T *logits, const float *bias, const int *targets, int64_t stride, int vocabulary, float smoothing, float scale,
    float *nll, float *uniform
) {
    __shared__ float scratch[LOGIT_THREADS / WARP];
    int64_t index = blockIdx.x;
    Row<T> row{logits + index * stride, bias, vocabulary};
    int target = targets[index];
    if (target < 0) {
        if (threadIdx.x == 0) nll[index] = uniform[index] = 0.0f;
        if constexpr (GRADIENT) row.template each<PACKS, true>([](int, float) { return 0.0f; });
        return;
    }
    float total = 0.0f, at_target = 0.0f;
    Exponentials exponentials = row.template exponentials<PACKS>(scratch, [&](int column, float value) {
        total += value;
        if (column == target) at_target = value;
    });
    float maximum = exponentials.maximum, sum = exponentials.sum;
    total = block_reduce(total, scratch, Plus());
    at_target = block_reduce(at_target, scratch, Plus());
    if (threadIdx.x == 0) {
        float log_sum = logf(sum);
        nll[index] = log_sum - (at_target - maximum);
        uniform[index] = log_sum - (total / vocabulary - maximum);
    }
    if constexpr (GRADIENT) {
        float factor = scale / sum, everywhere = scale * smoothing / vocabulary, there = scale * (1.0f - smoothing);
        row.template each<PACKS, true>([&](int column, float value) {
            float gradient = exp_from(value, maximum) * factor - everywhere;
            return column == target ? gradient - there : gradient;
        });
    }
}

template <typename T>
int start(
    void *logits, const float *bias, const int *targets, int64_t rows, int64_t stride, int vocabulary, bool gradient,
    float smoothing, float scale, float *nll, float *uniform, cudaStream_t stream
) {
    bool packs = takes_packs(stride, logits, bias);
    auto kernel = packs ? (gradient ? cross_entropy<T, true, true> : cross_entropy<T, true, false>)
                        : (gradient ? cross_entropy<T, false, true> : cross_entropy<T, false, false>);
    auto values = static_cast<T *>(logits);
    return launch(
        kernel, dim3(rows), LOGIT_THREADS, 0, stream, values, bias, targets, stride, vocabulary, smoothing, scale, nll, uniform
    );
}

} // namespace

/// logits: `rows` rows of `vocabulary` numbers, `stride` apart; bias [vocabulary] or null; a target below 0 means none. Writes
/// nll = -log p(target) and uniform = the mean of -log p over the vocabulary, [rows], and if `gradient` is not 0 that of
/// scale * ((1 - smoothing) nll + smoothing uniform) over the logits.
extern "C" int epitome_cross_entropy_f32(
    void *logits, const float *bias, const int *targets, int64_t rows, int64_t stride, int vocabulary, int gradient,
    float smoothing, float scale, float *nll, float *uniform, cudaStream_t stream
) {
    return start<float>(
        logits, bias, targets, rows, stride, vocabulary, gradient, smoothing, scale, nll, uniform, stream
    );
}

extern "C" int epitome_cross_entropy_bf16(
    void *logits, const float *bias, const int *targets, int64_t rows, int64_t stride, int vocabulary, int gradient,
    float smoothing, float scale, float *nll, float *uniform, cudaStream_t stream
) {
    return start<bf16>(
        logits, bias, targets, rows, stride, vocabulary, gradient, smoothing, scale, nll, uniform, stream
    );
}
