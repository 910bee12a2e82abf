// Dropout of a tensor, conversions between f32 and bf16, and updates in place.
//
// Bytes a number: dropout 4 in bf16, a conversion 6; [16,384, 768] takes 15 and 23 us at 3.35 TB/s. An update 6 in bf16, 10
// where bf16 comes to a sum in f32.

#include "packs.cuh"

namespace {

constexpr int THREADS = 256;

/// Blocks that share `count` numbers, a thread PACK at a time.
dim3 grid_of(int64_t count) { return dim3((count + int64_t(THREADS) * PACK - 1) / (int64_t(THREADS) * PACK)); }

/// y = convert(x) times the dropout factor of index first + i.
template <typename From, typename To, bool PACKS>
__global__ void __launch_bounds__(THREADS) transform(const From *x, To *y, Draws draws, uint64_t first, int64_t count) {
    int64_t start = (int64_t(blockIdx.x) * THREADS + threadIdx.x) * PACK;
    if (PACKS && start + PACK <= count) {
        float values[PACK];
        load_values(values, x + start);
        drop_values(values, draws, first + start);
        store_values(y + start, values);
        return;
    }
    for (int64_t i = start; i < min(start + PACK, count); i++) {
        float value[1];
        load_values(value, x + i);
        drop_values(value, draws, first + i);
        store_values(y + i, value);
    }
}

template <typename From, typename To>
int start(const void *x, void *y, Draws draws, uint64_t first, int64_t count, cudaStream_t stream) {
    auto kernel = takes_packs(0, x, y) ? transform<From, To, true> : transform<From, To, false>;
    auto from = static_cast<const From *>(x);
    return launch(kernel, grid_of(count), THREADS, 0, stream, from, static_cast<To *>(y), draws, first, count);
}

constexpr Draws NONE{0, 0, 1.0f};

/// sum = keep * sum + factor * x. Without x the last part is nothing.
template <typename Sum, typename X, int N>
__device__ __forceinline__ void blend_values(Sum *sum, const X *x, float keep, float factor) {
    float own[N], values[N];
    load_values(own, sum);
    if (x != nullptr) load_values(values, x);
#pragma unroll
    for (int i = 0; i < N; i++) own[i] = keep * own[i] + (x == nullptr ? 0.0f : factor * values[i]);
    store_values(sum, own);
}

template <typename Sum, typename X, bool PACKS>
__global__ void __launch_bounds__(THREADS) blend(Sum *sum, const X *x, float keep, float factor, int64_t count) {
    int64_t start = (int64_t(blockIdx.x) * THREADS + threadIdx.x) * PACK;
    auto at = [&](int64_t i) { return x == nullptr ? nullptr : x + i; };
    if (PACKS && start + PACK <= count) {
        blend_values<Sum, X, PACK>(sum + start, at(start), keep, factor);
        return;
    }
    for (int64_t i = start; i < min(start + PACK, count); i++) blend_values<Sum, X, 1>(sum + i, at(i), keep, factor);
}

template <typename Sum, typename X>
int update(void *sum, const void *x, float keep, float factor, int64_t count, cudaStream_t stream) {
    auto kernel = takes_packs(0, sum, x) ? blend<Sum, X, true> : blend<Sum, X, false>;
    auto own = static_cast<Sum *>(sum);
    auto values = static_cast<const X *>(x);
    return launch(kernel, grid_of(count), THREADS, 0, stream, own, values, keep, factor, count);
}

} // namespace

/// Element i has index first + i; y may be x.
extern "C" int epitome_dropout_f32(
    const void *x, void *y, Draws draws, uint64_t first, int64_t count, cudaStream_t stream
) {
    return start<float, float>(x, y, draws, first, count, stream);
}

extern "C" int epitome_dropout_bf16(
    const void *x, void *y, Draws draws, uint64_t first, int64_t count, cudaStream_t stream
) {
    return start<bf16, bf16>(x, y, draws, first, count, stream);
}

extern "C" int epitome_round_to_bf16(const float *x, void *y, int64_t count, cudaStream_t stream) {
    return start<float, bf16>(x, y, NONE, 0, count, stream);
}

extern "C" int epitome_widen_to_f32(const void *x, float *y, int64_t count, cudaStream_t stream) {
    return start<bf16, float>(x, y, NONE, 0, count, stream);
}

/// sum = keep * sum + factor * x, in place; x may be null.
#define BLEND(NAME, SUM, X)                                                                                            \
    extern "C" int epitome_blend_##NAME(                                                                               \
        void *sum, const void *x, float keep, float factor, int64_t count, cudaStream_t stream                         \
    ) {                                                                                                                \
        return update<SUM, X>(sum, x, keep, factor, count, stream);                                                    \
    }

BLEND(f32, float, float)
BLEND(bf16, bf16, bf16)
BLEND(f32_bf16, float, bf16)
