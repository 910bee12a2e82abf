// Lists of tensors that one launch works on, cut into chunks: a block of threads owns one.
#pragma once

#include "../rows/packs.cuh"

/// Numbers of a chunk. `CHUNK_VALUES` in src/cuda/optimizer.rs is the same.
constexpr int CHUNK_VALUES = 16384;

/// Mirrors `Values` in src/cuda/ffi.rs: the numbers of a tensor.
struct Values {
    const float *first;
    int64_t count;
};

/// Mirrors `Update` in src/cpu/adamw.rs: the constants of one parameter's update.
struct Update {
    /// 1 - learning rate * weight decay.
    float decay;
    /// learning rate / (1 - beta1^step).
    float step_size;
    /// sqrt(1 - beta2^step).
    float correction;
    float epsilon;
};

/// Mirrors `Trained` in src/cuda/ffi.rs: a parameter, what AdamW keeps of it, its gradient, and its copy in bf16 or null.
struct Trained {
    float *parameter, *mean, *square;
    const float *gradient;
    bf16 *copy;
    int64_t count;
    Update update;
};

/// Mirrors `Chunk` in src/cuda/ffi.rs.
struct Chunk {
    int tensor, index;
};

/// The numbers of a chunk within its tensor.
struct Span {
    int64_t first, end;

    __device__ Span(int64_t count, Chunk chunk) {
        first = int64_t(chunk.index) * CHUNK_VALUES;
        end = min(first + CHUNK_VALUES, count);
    }
};
