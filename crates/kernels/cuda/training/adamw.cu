// One step of AdamW on all parameters; formulas as in src/cpu/adamw.rs, master weights and moments in f32.
//
// Bytes a parameter: 16 read, 12 written, 2 more for the copy in bf16. LED-base, 162 million: 4.9 GB, 1.5 ms at 3.35 TB/s.

#include "tensors.cuh"

namespace {

constexpr int THREADS = 256;

/// What all parameters share; mirrors `AdamW` in src/cuda/ffi.rs.
struct AdamW {
    /// 1 - beta1, beta2, 1 - beta2; the complements are taken in f64.
    float rest1, beta2, rest2;
    /// sqrt(1 - beta2^step).
    float correction;
    float epsilon;
};

__device__ __forceinline__ void
update(float &p, float &m, float &v, float g, const AdamW &adamw, float decay, float step_size) {
    m += adamw.rest1 * (g - m);
    v = adamw.beta2 * v + adamw.rest2 * g * g;
    p = decay * p - step_size * m / (sqrtf(v) / adamw.correction + adamw.epsilon);
}

template <int N>
__device__ __forceinline__ void update_values(const Trained &tensor, int64_t at, const AdamW &adamw, float scale) {
    float p[N], m[N], v[N], g[N];
    load_values(p, tensor.parameter + at);
    load_values(m, tensor.mean + at);
    load_values(v, tensor.square + at);
    load_values(g, tensor.gradient + at);
#pragma unroll
    for (int i = 0; i < N; i++) update(p[i], m[i], v[i], scale * g[i], adamw, tensor.decay, tensor.step_size);
    store_values(tensor.parameter + at, p);
    store_values(tensor.mean + at, m);
    store_values(tensor.square + at, v);
    if (tensor.copy != nullptr) store_values(tensor.copy + at, p);
}

__global__ void __launch_bounds__(THREADS)
    adamw_step(const Trained *tensors, const Chunk *chunks, AdamW adamw, const float *gradient_scale) {
    Chunk chunk = chunks[blockIdx.x];
    Trained tensor = tensors[chunk.tensor];
    Span span(tensor, chunk);
    float scale = gradient_scale == nullptr ? 1.0f : *gradient_scale;
    bool packs = takes_packs(0, tensor.parameter, tensor.mean, tensor.square, tensor.gradient, tensor.copy);
    int64_t packed = packs ? span.first + (span.end - span.first) / PACK * PACK : span.first;
    for (int64_t at = span.first + threadIdx.x * PACK; at < packed; at += THREADS * PACK) {
        update_values<PACK>(tensor, at, adamw, scale);
    }
    for (int64_t at = packed + threadIdx.x; at < span.end; at += THREADS) update_values<1>(tensor, at, adamw, scale);
}

} // namespace

/// `tensors` and `chunks` lie in device memory; `gradient_scale`, too, or is null.
extern "C" int epitome_adamw_step(
    const Trained *tensors, const Chunk *chunks, int chunk_count, const AdamW *adamw, const float *gradient_scale,
    cudaStream_t stream
) {
    return launch(adamw_step, dim3(chunk_count), THREADS, 0, stream, tensors, chunks, *adamw, gradient_scale);
}
