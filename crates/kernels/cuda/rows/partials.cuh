// Sums over all rows of a matrix, without atomics: a block of threads sums a chunk of rows and writes it to
// `partials` [chunks, width]; then `add_partials` adds the chunks up, always in the same order.
#pragma once

#include "../numbers.cuh"

/// Rows of a chunk. `CHUNK_ROWS` in src/cuda/rows.rs is the same.
constexpr int CHUNK_ROWS = 64;

/// sum[c] += partials[0][c] + partials[1][c] + ...; launched in partials.cu.
int add_partials(float *sum, const float *partials, int chunks, int width, cudaStream_t stream);
