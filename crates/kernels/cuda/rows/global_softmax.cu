// The softmax of global rows over all tokens of their document, and its backward, between products by a library: a lane is a head of
// a global row. What goes into a product in bf16 is the sum of two numbers of that type, the lower part first, so that it keeps
// 16 bits; in f32 it is itself.
//
// Bytes a lane and token: forward 8 to read, 4 to write; backward 16 and 6: for the 12 lanes of LED-base at 16,384 tokens 2.4 and
// 4.3 MB, 1 us at 3.35 TB/s.
//
// Schedule: a block of threads owns a lane and passes over its tokens: for the maximum and the sum, and to write. So few blocks
// are far from what the processor can do, but they do little.

#include "../numbers.cuh"
#include "../random.cuh"

namespace {

constexpr int THREADS = 512;

/// Matrices of rows of a document's tokens, `stride` apart, those of the lanes `PARTS` times, lower parts first.
template <typename T> constexpr int PARTS = sizeof(T) == 2 ? 2 : 1;

/// The lanes of a document. Dropout's index of a lane's first token is `(first + lane) << 32`.
struct Lanes {
    int count, tokens;
    int64_t stride;
    Draws draws;
    uint32_t first;
};

/// A number of a product whose parts are apart.
template <typename T> __device__ __forceinline__ float product(const float *parts, const Lanes &lanes, int lane, int token) {
    float sum = 0.0f;
#pragma unroll
    for (int part = 0; part < PARTS<T>; part++) {
        sum += parts[(int64_t(part) * lanes.count + lane) * lanes.stride + token];
    }
    return sum;
}

/// Writes a number in parts.
template <typename T>
__device__ __forceinline__ void store_parts(T *parts, const Lanes &lanes, int lane, int token, float value) {
    auto at = [&](int part) { return (int64_t(part) * lanes.count + lane) * lanes.stride + token; };
    T high = from_float<T>(value);
    parts[at(PARTS<T> - 1)] = high;
    if constexpr (PARTS<T> == 2) parts[at(0)] = from_float<T>(value - to_float(high));
}

__device__ __forceinline__ float factor(const Draws &draws, Stream stream, int token) {
    if (draws.threshold == 0) return 1.0f;
    return kept(draws, stream, token) ? draws.keep : 0.0f;
}

struct Larger {
    __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

template <typename T>
__global__ void __launch_bounds__(THREADS)
    softmax(Lanes lanes, const float *scores, const float *bias, T *probabilities, float *mass, float *log_sum_exp) {
    __shared__ float scratch[THREADS / WARP];
    int lane = blockIdx.x;
    Stream stream = stream_of(lanes.draws, lanes.first + lane);
    auto score = [&](int token) { return product<T>(scores, lanes, lane, token) + bias[lane]; };
    float maximum = -INFINITY, sum = 0.0f, kept_sum = 0.0f;
    for (int token = threadIdx.x; token < lanes.tokens; token += THREADS) maximum = fmaxf(maximum, score(token));
    maximum = block_reduce(maximum, scratch, Larger());
    for (int token = threadIdx.x; token < lanes.tokens; token += THREADS) sum += expf(score(token) - maximum);
    sum = block_reduce(sum, scratch, Plus());
    for (int token = threadIdx.x; token < lanes.tokens; token += THREADS) {
        float p = expf(score(token) - maximum) / sum * factor(lanes.draws, stream, token);
        kept_sum += p;
        store_parts(probabilities, lanes, lane, token, p);
    }
    kept_sum = block_reduce(kept_sum, scratch, Plus());
    if (threadIdx.x == 0) {
        mass[lane] = kept_sum;
        log_sum_exp[lane] = maximum + logf(sum);
    }
}

/// What the backward reads: the products of the forward again and those of the gradients with tokens; the bias of the former,
/// the gradient of the mass, which is a bias of the latter, and log-sum-exp.
struct Incoming {
    const float *scores, *products, *bias, *mass_gradient, *log_sum_exp;
};

template <typename T>
__global__ void __launch_bounds__(THREADS)
    softmax_backward(Lanes lanes, Incoming incoming, T *score_gradients, T *probabilities, float *bias_gradient) {
    __shared__ float scratch[THREADS / WARP];
    int lane = blockIdx.x;
    Stream stream = stream_of(lanes.draws, lanes.first + lane);
    float shift = incoming.bias[lane] - incoming.log_sum_exp[lane], mass_gradient = incoming.mass_gradient[lane];
    auto probability = [&](int token) { return expf(product<T>(incoming.scores, lanes, lane, token) + shift); };
    auto gradient = [&](int token) {
        float own = product<T>(incoming.products, lanes, lane, token) + mass_gradient;
        return own * factor(lanes.draws, stream, token);
    };
    float delta = 0.0f, sum = 0.0f;
    for (int token = threadIdx.x; token < lanes.tokens; token += THREADS) delta += probability(token) * gradient(token);
    delta = block_reduce(delta, scratch, Plus());
    for (int token = threadIdx.x; token < lanes.tokens; token += THREADS) {
        float p = probability(token), ds = p * (gradient(token) - delta);
        sum += ds;
        store_parts(score_gradients, lanes, lane, token, ds);
        float kept_p = p * factor(lanes.draws, stream, token);
        probabilities[lane * lanes.stride + token] = from_float<T>(kept_p);
    }
    sum = block_reduce(sum, scratch, Plus());
    if (threadIdx.x == 0) bias_gradient[lane] = sum;
}

} // namespace

/// scores [parts, L, stride] f32, bias, mass and log_sum_exp [L] f32; probabilities [parts, L, stride]. Parts are two for bf16, one
/// for f32.
#define GLOBAL_SOFTMAX(NAME, T)                                                                                        \
    extern "C" int epitome_global_softmax_##NAME(                                                                      \
        int count, int tokens, int64_t stride, Draws draws, uint32_t first, const float *scores, const float *bias,    \
        void *probabilities, float *mass, float *log_sum_exp, cudaStream_t stream                                      \
    ) {                                                                                                                \
        Lanes lanes{count, tokens, stride, draws, first};                                                              \
        return launch(                                                                                                 \
            softmax<T>, dim3(count), THREADS, 0, stream, lanes, scores, bias, static_cast<T *>(probabilities), mass,   \
            log_sum_exp                                                                                                \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" int epitome_global_softmax_backward_##NAME(                                                             \
        int count, int tokens, int64_t stride, Draws draws, uint32_t first, const float *scores,                       \
        const float *products, const float *bias, const float *mass_gradient, const float *log_sum_exp,                \
        void *score_gradients, void *probabilities, float *bias_gradient, cudaStream_t stream                          \
    ) {                                                                                                                \
        Lanes lanes{count, tokens, stride, draws, first};                                                              \
        Incoming incoming{scores, products, bias, mass_gradient, log_sum_exp};                                         \
        return launch(                                                                                                 \
            softmax_backward<T>, dim3(count), THREADS, 0, stream, lanes, incoming, static_cast<T *>(score_gradients),  \
            static_cast<T *>(probabilities), bias_gradient                                                             \
        );                                                                                                             \
    }

/// The backward: products [parts, L, stride], score_gradients [parts, L, stride], probabilities [L, stride], after dropout.
GLOBAL_SOFTMAX(f32, float)
GLOBAL_SOFTMAX(bf16, bf16)
