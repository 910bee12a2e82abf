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
    print(what + (after_norm ? ", after layer norm" : "") + (gelu ? ", GELU" : ""), milliseconds([&] {
        return epitome_few_rows_bf16(
            x, ROWS, width, steps, after_norm ? residual : nullptr, norm_weight, norm_bias, 1e-5f, normalised,
            weights + turn++ % count * each, bias, gelu, outputs, y, nullptr
        );
    }), 0, 2.0 * each);
    require(cudaFree(weights), "cudaFree");
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
