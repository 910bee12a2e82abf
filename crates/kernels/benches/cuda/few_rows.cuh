// Times of the layers of few rows and of the head that a decoding step has.
#pragma once

#include "measure.cuh"

namespace {

/// Layers of few rows, each time with another weight, so that no cache holds it.
void time_few_rows(int width, int outputs, int steps, bool after_norm, bool gelu) {
    constexpr int ROWS = 4;
    size_t each = size_t(width) * outputs, count = std::max<size_t>(1, (size_t(96) << 20) / each / sizeof(bf16));
    bf16 *weights = numbers(each * count), *x = numbers(ROWS * width), *y = room<bf16>(ROWS * outputs);
    bf16 *residual = numbers(ROWS * width), *normalised = room<bf16>(ROWS * width);
    float *norm_weight = room<float>(width), *norm_bias = room<float>(width), *bias = room<float>(outputs);
    size_t turn = 0;
    std::string what = "4 rows, " + std::to_string(width) + " x " + std::to_string(outputs);
    auto run = [&](cudaStream_t stream) {
        return epitome_few_rows_bf16(
            x, ROWS, width, steps, after_norm ? residual : nullptr, norm_weight, norm_bias, 1e-5f, normalised,
            weights + turn++ % count * each, bias, gelu, outputs, y, stream
        );
    };
    what += std::string(after_norm ? ", after layer norm" : "") + (gelu ? ", GELU" : "");
    print(what, milliseconds([&] { return run(nullptr); }), 0, 2.0 * each);
    print(what + ", one of many", chained_milliseconds(run), 0, 2.0 * each);
    require(cudaFree(weights), "cudaFree");
}

/// Attention of 4 beams to `length` tokens, heads of 64, each time in another layer's cache.
void time_past(int heads, int length) {
    constexpr int ROWS = 4, SIZE = 64, REACH = 1024, LAYERS = 16;
    size_t width = size_t(heads) * SIZE, each = size_t(ROWS) * length * width;
    bf16 *keys = numbers(LAYERS * each), *values = numbers(LAYERS * each), *qkv = numbers(ROWS * 3 * width);
    bf16 *output = room<bf16>(ROWS * width);
    // Row r of token n is row n * ROWS + r of the cache.
    std::vector<uint32_t> places(ROWS), lengths(ROWS, length), ancestors(ROWS * REACH);
    for (int row = 0; row < ROWS; row++) {
        places[row] = (length - 1) * ROWS + row;
        for (int n = 0; n < length; n++) ancestors[row * REACH + n] = n * ROWS + row;
    }
    uint32_t *words[] = {upload(places), upload(lengths), upload(ancestors)};
    size_t turn = 0;
    auto run = [&](cudaStream_t stream) {
        size_t first = turn++ % LAYERS * each;
        return epitome_past_attention_bf16(
            qkv, qkv + width, qkv + 2 * width, 3 * width, keys + first, values + first, words[0], words[1], words[2], REACH, ROWS,
            heads, SIZE, 0.125f, output, stream
        );
    };
    std::string what = std::to_string(heads) + " heads, a past of " + std::to_string(length);
    print(what, milliseconds([&] { return run(nullptr); }), 0, 4.0 * each);
    print(what + ", one of many", chained_milliseconds(run), 0, 4.0 * each);
}

/// A step's head, another one each time, and the best of its logits.
void time_head(int width) {
    constexpr int ROWS = 4, VOCABULARY = 50265, STRIDE = 50272, K = 8, COUNT = 3;
    size_t each = size_t(width) * VOCABULARY;
    bf16 *weights = numbers(each * COUNT), *x = numbers(ROWS * width);
    float *logits = room<float>(size_t(ROWS) * STRIDE);
    size_t turn = 0;
    std::string what = "4 rows, " + std::to_string(width) + " x 50,265: ";
    print(what + "logits", milliseconds([&] {
        return epitome_head_bf16(
            x, ROWS, width, weights + turn++ % COUNT * each, nullptr, VOCABULARY, logits, STRIDE, nullptr
        );
    }), 0, 2.0 * each);
    float *values = room<float>(ROWS * K), *lists = room<float>(ROWS * 32 * 2 * (1 + K));
    int *indices = room<int>(ROWS * K);
    print(what + "top 8", milliseconds([&] {
        return epitome_top_k_f32(logits, nullptr, ROWS, STRIDE, VOCABULARY, K, lists, values, indices, nullptr);
    }), 0, 4.0 * ROWS * VOCABULARY);
    require(cudaFree(weights), "cudaFree");
}

} // namespace
