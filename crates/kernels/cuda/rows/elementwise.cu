// Dropout of a tensor, and conversions between f32 and bf16.
//
// Bytes a number: dropout 4 in bf16, a conversion 6; [16,384, 768] takes 15 and 23 us at 3.35 TB/s.

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
