// One step of AdamW on all parameters; formulas as in src/cpu/adamw.rs, parameters and moments in f32.
//
// Bytes a parameter: 16 read, 12 written, and 2 of its copy in bf16, if products read one: made here it is not read again. LED-base,
// 162 million: 4.9 GB, 1.5 ms at 3.35 TB/s.

#include "tensors.cuh"

namespace {

constexpr int THREADS = 256;

/// Mirrors `Betas` in src/cpu/adamw.rs: what all parameters share.
struct Betas {
    /// 1 - beta1, beta2, 1 - beta2; the complements are taken in f64.
    float rest1, beta2, rest2;
};

__device__ __forceinline__ void step(float &p, float &m, float &v, float g, const Betas &betas, const Update &update) {
    m += betas.rest1 * (g - m);
    v = betas.beta2 * v + betas.rest2 * g * g;
    p = update.decay * p - update.step_size * m / (sqrtf(v) / update.correction + update.epsilon);
}

template <int N>
__device__ __forceinline__ void step_values(const Trained &tensor, int64_t at, const Betas &betas, float scale) {
    float p[N], m[N], v[N], g[N];
    load_values(p, tensor.parameter + at);
    load_values(m, tensor.mean + at);
    load_values(v, tensor.square + at);
    load_values(g, tensor.gradient + at);
#pragma unroll
    for (int i = 0; i < N; i++) step(p[i], m[i], v[i], scale * g[i], betas, tensor.update);
    store_values(tensor.parameter + at, p);
    store_values(tensor.mean + at, m);
    store_values(tensor.square + at, v);
    if (tensor.copy != nullptr) store_values(tensor.copy + at, p);
}

__global__ void __launch_bounds__(THREADS)
    adamw_step(const Trained *tensors, const Chunk *chunks, Betas betas, float gradient_scale) {
    Chunk chunk = chunks[blockIdx.x];
    Trained tensor = tensors[chunk.tensor];
    Span span(tensor.count, chunk);
    bool packs = takes_packs(0, tensor.parameter, tensor.mean, tensor.square, tensor.gradient, tensor.copy);
    int64_t packed = packs ? span.first + (span.end - span.first) / PACK * PACK : span.first;
    for (int64_t at = span.first + threadIdx.x * PACK; at < packed; at += THREADS * PACK) {
        step_values<PACK>(tensor, at, betas, gradient_scale);
    }
    for (int64_t at = packed + threadIdx.x; at < span.end; at += THREADS) step_values<1>(tensor, at, betas, gradient_scale);
}

} // namespace

/// `tensors` and `chunks` lie in device memory; gradients are multiplied by `gradient_scale` on the way.
extern "C" int epitome_adamw_step(
    const Trained *tensors, const Chunk *chunks, int chunk_count, const Betas *betas, float gradient_scale,
    cudaStream_t stream
) {
    return launch(adamw_step, dim3(chunk_count), THREADS, 0, stream, tensors, chunks, *betas, gradient_scale);
}
