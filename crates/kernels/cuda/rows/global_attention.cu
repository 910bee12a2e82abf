// Attention of global rows to all tokens of their document, between products by a library: what goes into these, the softmax and its
// backward, and what becomes of them. A lane is a head of a global row. What goes into a product in bf16 is the sum of two numbers of
// that type, the lower part first, so that it keeps 16 bits; in f32 it is itself.
//
// Bytes a lane and token of the softmax: forward 8 to read, 4 to write; backward 16 and 6: for the 12 lanes of LED-base at 16,384
// tokens 2.4 and 4.3 MB, 1 us at 3.35 TB/s.
//
// Schedule: a block of threads owns a lane and passes over its tokens: for the maximum and the sum, and to write. So few blocks
// are far from what the processor can do, but they do little, and each thread has several loads under way.

#include "../numbers.cuh"
#include "../random.cuh"

namespace {

constexpr int THREADS = 512, SPLIT_THREADS = 256;

/// Matrices of rows of a document's tokens, `stride` apart, those of the lanes `PARTS` times, lower parts first.
template <typename T> constexpr int PARTS = sizeof(T) == 2 ? 2 : 1;

/// The lanes of a document. Dropout's index of a lane's first token is `(first + lane) << 32`.
struct Lanes {
    int count, tokens;
    int64_t stride;
    Draws draws;
    uint32_t first;
    /// How far a lane's bias, mass and their gradients lie from the next one's.
    int64_t lane_stride;
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
    float own_bias = bias[lane * lanes.lane_stride];
    auto score = [&](int token) { return product<T>(scores, lanes, lane, token) + own_bias; };
    float maximum = -INFINITY, sum = 0.0f, kept_sum = 0.0f;
#pragma unroll 8
    for (int token = threadIdx.x; token < lanes.tokens; token += THREADS) maximum = fmaxf(maximum, score(token));
    maximum = block_reduce(maximum, scratch, Larger());
#pragma unroll 8
    for (int token = threadIdx.x; token < lanes.tokens; token += THREADS) sum += expf(score(token) - maximum);
    sum = block_reduce(sum, scratch, Plus());
#pragma unroll 8
    for (int token = threadIdx.x; token < lanes.tokens; token += THREADS) {
        float p = expf(score(token) - maximum) / sum * factor(lanes.draws, stream, token);
        kept_sum += p;
        store_parts(probabilities, lanes, lane, token, p);
    }
    kept_sum = block_reduce(kept_sum, scratch, Plus());
    if (threadIdx.x == 0) {
        mass[lane * lanes.lane_stride] = kept_sum;
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
    float shift = incoming.bias[lane * lanes.lane_stride] - incoming.log_sum_exp[lane];
    float mass_gradient = incoming.mass_gradient[lane * lanes.lane_stride];
    auto probability = [&](int token) { return expf(product<T>(incoming.scores, lanes, lane, token) + shift); };
    auto gradient = [&](int token) {
        float own = product<T>(incoming.products, lanes, lane, token) + mass_gradient;
        return own * factor(lanes.draws, stream, token);
    };
    float delta = 0.0f, sum = 0.0f;
#pragma unroll 8
    for (int token = threadIdx.x; token < lanes.tokens; token += THREADS) delta += probability(token) * gradient(token);
    delta = block_reduce(delta, scratch, Plus());
#pragma unroll 4
    for (int token = threadIdx.x; token < lanes.tokens; token += THREADS) {
        float p = probability(token), ds = p * (gradient(token) - delta);
        sum += ds;
        store_parts(score_gradients, lanes, lane, token, ds);
        float kept_p = p * factor(lanes.draws, stream, token);
        probabilities[lane * lanes.stride + token] = from_float<T>(kept_p);
    }
    sum = block_reduce(sum, scratch, Plus());
    if (threadIdx.x == 0) bias_gradient[lane * lanes.lane_stride] = sum;
}

/// A lane's numbers as factors of a product: of the second matrix the higher part first, so that the higher parts of both follow each
/// other. Rows of the matrices are [width numbers | one more].
template <typename T>
__global__ void __launch_bounds__(SPLIT_THREADS) split(const float *first, const float *second, int width, T *parts) {
    int lane = blockIdx.x, lanes = gridDim.x;
    bool is_second = blockIdx.y == 1;
    const float *row = (is_second ? second : first) + int64_t(lane) * (width + 1);
    T *own = parts + (int64_t(is_second ? PARTS<T> : 0) * lanes + lane) * width;
    int64_t other = int64_t(lanes) * width;
    for (int column = threadIdx.x; column < width; column += SPLIT_THREADS) {
        T high = from_float<T>(row[column]);
        own[PARTS<T> == 2 && !is_second ? other + column : column] = high;
        if constexpr (PARTS<T> == 2) {
            own[is_second ? other + column : column] = from_float<T>(row[column] - to_float(high));
        }
    }
}

/// The sums of a lane's parts [parts, L, width], as the first numbers of rows of one more.
template <typename T>
__global__ void __launch_bounds__(SPLIT_THREADS) join(const float *parts, int width, float *rows) {
    int lane = blockIdx.x, lanes = gridDim.x;
    for (int column = threadIdx.x; column < width; column += SPLIT_THREADS) {
        float sum = 0.0f;
#pragma unroll
        for (int part = 0; part < PARTS<T>; part++) sum += parts[(int64_t(part) * lanes + lane) * width + column];
        rows[int64_t(lane) * (width + 1) + column] = sum;
    }
}

} // namespace

/// scores [parts, L, stride] f32; bias and mass f32, `lane_stride` from lane to lane; log_sum_exp [L] f32; probabilities
/// [parts, L, stride]. Parts are two for bf16, one for f32.
#define GLOBAL_SOFTMAX(NAME, T)                                                                                        \
    extern "C" int epitome_global_softmax_##NAME(                                                                      \
        int count, int tokens, int64_t stride, Draws draws, uint32_t first, int64_t lane_stride, const float *scores,  \
        const float *bias, void *probabilities, float *mass, float *log_sum_exp, cudaStream_t stream                   \
    ) {                                                                                                                \
        Lanes lanes{count, tokens, stride, draws, first, lane_stride};                                                 \
        return launch(                                                                                                 \
            softmax<T>, dim3(count), THREADS, 0, stream, lanes, scores, bias, static_cast<T *>(probabilities), mass,   \
            log_sum_exp                                                                                                \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" int epitome_global_softmax_backward_##NAME(                                                             \
        int count, int tokens, int64_t stride, Draws draws, uint32_t first, int64_t lane_stride, const float *scores,  \
        const float *products, const float *bias, const float *mass_gradient, const float *log_sum_exp,                \
        void *score_gradients, void *probabilities, float *bias_gradient, cudaStream_t stream                          \
    ) {                                                                                                                \
        Lanes lanes{count, tokens, stride, draws, first, lane_stride};                                                 \
        Incoming incoming{scores, products, bias, mass_gradient, log_sum_exp};                                         \
        return launch(                                                                                                 \
            softmax_backward<T>, dim3(count), THREADS, 0, stream, lanes, incoming, static_cast<T *>(score_gradients),  \
            static_cast<T *>(probabilities), bias_gradient                                                             \
        );                                                                                                             \
    }                                                                                                                  \
    extern "C" int epitome_split_lanes_##NAME(                                                                         \
        int count, int width, const float *first, const float *second, void *parts, cudaStream_t stream                \
    ) {                                                                                                                \
        dim3 grid(count, second == nullptr ? 1 : 2);                                                                   \
        return launch(split<T>, grid, SPLIT_THREADS, 0, stream, first, second, width, static_cast<T *>(parts));        \
    }                                                                                                                  \
    extern "C" int epitome_join_lanes_##NAME(                                                                          \
        int count, int width, const float *parts, float *rows, cudaStream_t stream                                     \
    ) {                                                                                                                \
        return launch(join<T>, dim3(count), SPLIT_THREADS, 0, stream, parts, width, rows);                             \
    }

/// The backward: products [parts, L, stride], score_gradients [parts, L, stride], probabilities [L, stride], after dropout. Split: first
/// and second, if there is one, [L, width + 1]; parts [parts or twice as many, L, width]. Join: parts [parts, L, width], rows
/// [L, width + 1].
GLOBAL_SOFTMAX(f32, float)
GLOBAL_SOFTMAX(bf16, bf16)
