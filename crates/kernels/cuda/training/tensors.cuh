// A list of tensors that one launch works on, cut into chunks: a block of threads owns one.
#pragma once

#include "../rows/packs.cuh"

/// Numbers of a chunk. `CHUNK_VALUES` in src/cuda/training.rs is the same.
constexpr int CHUNK_VALUES = 16384;

/// Mirrors `Trained` in src/cuda/ffi.rs: a parameter, what AdamW keeps of it, its gradient, and a copy in bf16 for the products,
/// or null.
struct Trained {
    float *parameter, *mean, *square;
    const float *gradient;
    bf16 *copy;
    int64_t count;
    /// 1 - learning rate * weight decay.
    float decay;
    /// learning rate / (1 - beta1^step).
    float step_size;
};

/// Mirrors `Chunk` in src/cuda/ffi.rs.
struct Chunk {
    int tensor, index;
};

/// The numbers of a chunk within its tensor.
struct Span {
    int64_t first, end;

    __device__ Span(const Trained &tensor, Chunk chunk) {
        first = int64_t(chunk.index) * CHUNK_VALUES;
        end = min(first + CHUNK_VALUES, tensor.count);
    }
};
