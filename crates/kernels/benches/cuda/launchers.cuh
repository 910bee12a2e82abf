// The launchers that the benchmark calls; src/cuda/ffi.rs has them all.
#pragma once

#include "attention/problem.cuh"
#include "training/tensors.cuh"

#include <cstring>

struct ColumnSum {
    const void *x;
    float *sum;
};

struct Betas {
    float rest1, beta2, rest2;
};

/// The launchers of attention on matrix units.
extern "C" {
using AttentionForward = int(const Problem *, void *output, float *log_sum_exp, cudaStream_t);
using AttentionBackwardQueries = int(
    const Problem *, const void *output, const void *gradient, const float *log_sum_exp, float *delta, void *dq, cudaStream_t
);
using AttentionBackwardKeys = int(
    const Problem *, const void *gradient, const float *log_sum_exp, const float *delta, void *dk, void *dv,
    float *partial_dk, float *partial_dv, cudaStream_t
);
AttentionForward epitome_attention_forward_bf16, epitome_attention_forward_warp_group_bf16;
AttentionBackwardQueries epitome_attention_backward_queries_bf16, epitome_attention_backward_queries_warp_group_bf16;
AttentionBackwardKeys epitome_attention_backward_keys_bf16, epitome_attention_backward_keys_warp_group_bf16;
}

extern "C" {
int epitome_attention_forward_any_bf16(const Problem *, void *output, float *log_sum_exp, cudaStream_t);
int epitome_attention_reduce_global_bf16(
    const Problem *, const float *partial_dk, const float *partial_dv, void *dk, void *dv, cudaStream_t
);
int epitome_attention_backward_any_bf16(
    const Problem *, const void *gradient, const float *log_sum_exp, const float *delta, void *dq, void *dk, void *dv,
    cudaStream_t
);
int epitome_layer_norm_bf16(
    const void *x, const void *residual, const float *weight, const float *bias, Draws, uint64_t first, int64_t rows,
    int width, float eps, void *y, cudaStream_t
);
int epitome_layer_norm_backward_bf16(
    const void *x, const void *residual, const float *weight, Draws, uint64_t first, int64_t rows, int width, float eps,
    const void *dy, void *dsum, void *dx, float *dweight, float *dbias, float *x_sum, float *partials, int chunk, cudaStream_t
);
int epitome_bias_gelu_bf16(
    const void *x, const float *bias, void *y, int64_t rows, int width, int chunk, cudaStream_t
);
int epitome_bias_gelu_backward_bf16(
    const void *x, const float *bias, const void *dy, void *dx, void *y, float *dbias, float *partials, int64_t rows, int width,
    int chunk, cudaStream_t
);
int epitome_column_sums_bf16(
    const ColumnSum *, int count, float *partials, int64_t rows, int width, int chunk, cudaStream_t
);
int epitome_dropout_bf16(const void *x, void *y, Draws, uint64_t first, int64_t count, cudaStream_t);
int epitome_cross_entropy_f32_bf16(
    const void *logits, void *gradient, const float *bias, const int *labels, const int *offsets, const int *tokens,
    const float *weights, int64_t rows, int64_t stride, int vocabulary, float smoothing, float scale, float *nll,
    float *uniform, cudaStream_t
);
int epitome_adamw_step(
    const Trained *, const Chunk *, int chunk_count, const Betas *, float gradient_scale, cudaStream_t
);
int epitome_sum_of_squares(
    const Values *, const Chunk *, int chunk_count, double *squares, double *total, cudaStream_t
);
int epitome_memory_attention_bf16(
    const Problem *, float *partial_context, float *partial_log_sum_exp, int *arrivals, void *output, cudaStream_t
);
int epitome_past_attention_bf16(
    const void *q, const void *new_keys, const void *new_values, int64_t stride, void *keys, void *values,
    const uint32_t *places, const uint32_t *lengths, const uint32_t *ancestors, int reach, int rows, int heads, int size,
    float scale, void *output, cudaStream_t
);
int epitome_few_rows_bf16(
    const void *x, int count, int width, int steps, const void *residual, const float *norm_weight, const float *norm_bias,
    float eps, void *normalised, const void *weight, const float *bias, int gelu, int outputs, void *y, cudaStream_t
);
int epitome_head_bf16(
    const void *x, int count, int width, const void *weight, const float *bias, int outputs, float *logits, int64_t stride,
    cudaStream_t
);
int epitome_top_k_f32(
    const void *logits, const float *bias, int64_t rows, int64_t stride, int vocabulary, int k, void *room, float *values,
    int *indices, cudaStream_t
);
}
