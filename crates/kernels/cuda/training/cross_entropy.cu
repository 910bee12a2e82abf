// Cross-entropy of rows of logits with label smoothing: each row's losses, and its gradient, which may take the place of the
// logits; formulas as in src/cpu/cross_entropy.rs. Where a target is chosen from some entries, only these are read, and the gradient
// is 0 elsewhere. The products before and after, in chunks of rows, are the caller's.
//
// Bytes a logit in f32 with a gradient in bf16: 4 read, 4 read again (some of it from the second-level cache: a row of 50,265 is
// 200 KB), 2 written. A chunk of [512, 50,265]: 257 MB, 77 us at 3.35 TB/s, beside 40 GFLOP of each of three products. Of a row with
// choices hardly more than what is written.
//
// Schedule: a block owns a row; one pass for maximum and sum together, one for the gradient.

#include "../rows/logits.cuh"

namespace {

/// What a row's loss is compared with.
struct Targets {
    /// An entry for each row; below 0 there is none.
    const int *labels;
    /// Where each row's choices begin in `tokens`, and where the last one's end.
    const int *offsets;
    /// The entries that a row's target is chosen from, ascending; without any it is chosen from all.
    const int *tokens;
};

/// What becomes of a row.
struct Losses {
    /// The gradient is that of scale * ((1 - smoothing) nll + smoothing uniform).
    float scale, smoothing;
    /// For each row what its gradient is multiplied by, or null.
    const float *weights;
    float *nll, *uniform;
};

/// The logits of some entries of a row, otherwise like `Row`.
template <typename T, typename G> struct Chosen {
    const T *logits;
    G *results;
    const float *bias;
    const int *tokens;
    int count;

    template <bool STORE, typename Visit> __device__ __forceinline__ void each(Visit visit) const {
        for (int i = threadIdx.x; i < count; i += LOGIT_THREADS) {
            int column = tokens[i];
            float value = visit(column, to_float(logits[column]) + (bias == nullptr ? 0.0f : bias[column]));
            if constexpr (STORE) results[column] = from_float<G>(value);
        }
    }

    /// Writes 0 everywhere else. A warp owns what lies between two entries.
    __device__ __forceinline__ void clear_others(int vocabulary) const {
        for (int gap = warp_index(); gap <= count; gap += LOGIT_THREADS / WARP) {
            int first = gap == 0 ? 0 : tokens[gap - 1] + 1, end = gap == count ? vocabulary : tokens[gap];
            for (int column = first + lane_index(); column < end; column += WARP) results[column] = from_float<G>(0.0f);
        }
    }
};

/// The losses of the row that this block owns, and its gradient where `GRADIENT`.
template <bool GRADIENT, typename Logits>
__device__ __forceinline__ void row_losses(const Logits &logits, int target, const Losses &losses) {
    __shared__ float scratch[LOGIT_THREADS / WARP];
    float total = 0.0f, at_target = 0.0f;
    Exponentials exponentials = exponentials_of(logits, scratch, [&](int column, float value) {
        total += value;
        if (column == target) at_target = value;
    });
    float maximum = exponentials.maximum, sum = exponentials.sum;
    total = block_reduce(total, scratch, Plus());
    at_target = block_reduce(at_target, scratch, Plus());
    if (threadIdx.x == 0) {
        float log_sum = logf(sum);
        losses.nll[blockIdx.x] = log_sum - (at_target - maximum);
        losses.uniform[blockIdx.x] = log_sum - (total / logits.count - maximum);
    }
    if constexpr (GRADIENT) {
        float scale = losses.scale, factor = scale / sum;
        float weight = losses.weights == nullptr ? 1.0f : losses.weights[blockIdx.x];
        float everywhere = scale * losses.smoothing / logits.count, there = scale * (1.0f - losses.smoothing);
        logits.template each<true>([&](int column, float value) {
            float gradient = exp_from(value, maximum) * factor - everywhere;
            return (column == target ? gradient - there : gradient) * weight;
        });
    }
}

template <typename T, typename G, bool PACKS, bool GRADIENT>
__global__ void __launch_bounds__(LOGIT_THREADS)
    cross_entropy(const T *logits, G *results, const float *bias, Targets targets, int64_t stride, int vocabulary, Losses losses) {
    int64_t index = blockIdx.x;
    Row<T, G, PACKS> row{logits + index * stride, GRADIENT ? results + index * stride : nullptr, bias, vocabulary};
    int target = targets.labels[index], first = targets.offsets[index], choices = targets.offsets[index + 1] - first;
    if (target < 0) {
        if (threadIdx.x == 0) losses.nll[index] = losses.uniform[index] = 0.0f;
        if constexpr (GRADIENT) row.template each<true>([](int, float) { return 0.0f; });
    } else if (choices == 0) {
        row_losses<GRADIENT>(row, target, losses);
    } else {
        Chosen<T, G> chosen{row.logits, row.results, bias, targets.tokens + first, choices};
        row_losses<GRADIENT>(chosen, target, losses);
        if constexpr (GRADIENT) chosen.clear_others(vocabulary);
    }
    if constexpr (GRADIENT) {
        // Products read whole rows.
        for (int64_t column = vocabulary + threadIdx.x; column < stride; column += LOGIT_THREADS) {
            row.results[column] = from_float<G>(0.0f);
        }
    }
}

template <typename T, typename G>
int start(
    const void *logits, void *gradient, const float *bias, Targets targets, int64_t rows, int64_t stride, int vocabulary,
    Losses losses, cudaStream_t stream
) {
    bool packs = takes_packs(stride, logits, bias, gradient), differentiates = gradient != nullptr;
    auto kernel = packs ? (differentiates ? cross_entropy<T, G, true, true> : cross_entropy<T, G, true, false>)
                        : (differentiates ? cross_entropy<T, G, false, true> : cross_entropy<T, G, false, false>);
    auto values = static_cast<const T *>(logits);
    auto results = static_cast<G *>(gradient);
    return launch(kernel, dim3(rows), LOGIT_THREADS, 0, stream, values, results, bias, targets, stride, vocabulary, losses);
}

} // namespace

/// logits: `rows` rows of `vocabulary` numbers, `stride` apart; bias [vocabulary] or null; labels [rows], of which one below 0
/// means none; offsets [rows + 1] of each row's choices in tokens. Writes nll = -log p(target) and uniform = the mean of -log p
/// over what it is chosen from, [rows], and to `gradient`, if it is not null, rows like those of the logits, which it may take the
/// place of if they are of its type: the gradient of scale * ((1 - smoothing) nll + smoothing uniform), times each row's weight, if
/// there are any; behind the vocabulary 0.
#define CROSS_ENTROPY(NAME, T, G)                                                                                      \
    extern "C" int epitome_cross_entropy_##NAME(                                                                       \
        const void *logits, void *gradient, const float *bias, const int *labels, const int *offsets, const int *tokens, \
        const float *weights, int64_t rows, int64_t stride, int vocabulary, float smoothing, float scale, float *nll,  \
        float *uniform, cudaStream_t stream                                                                            \
    ) {                                                                                                                \
        Targets targets{labels, offsets, tokens};                                                                      \
        Losses losses{scale, smoothing, weights, nll, uniform};                                                        \
        return start<T, G>(logits, gradient, bias, targets, rows, stride, vocabulary, losses, stream);                 \
    }

CROSS_ENTROPY(f32, float, float)
CROSS_ENTROPY(f32_bf16, float, bf16)
CROSS_ENTROPY(bf16, bf16, bf16)
