// The counter-based draws of src/random.rs, to the bit.
#pragma once

#include "platform.cuh"

/// Mirrors `Draws` in src/cuda/ffi.rs. Elements whose 32 random bits are below `threshold` are dropped, the others multiplied
/// by `keep`; a threshold of 0 drops nothing.
struct Draws {
    uint64_t key;
    uint32_t threshold;
    float keep;
};

/// Selects the draws of the 2^32 elements whose indices have the same upper half.
struct Stream {
    uint32_t offset, salt;
};

__device__ __forceinline__ uint64_t mix(uint64_t bits) {
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9u;
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EBu;
    return bits ^ bits >> 31;
}

__device__ __forceinline__ Stream stream_of(const Draws &draws, uint32_t high) {
    uint64_t bits = mix(draws.key ^ mix(uint64_t(high) + 0x9E3779B97F4A7C15u));
    return {uint32_t(bits), uint32_t(bits >> 32)};
}

/// Whether element `low` of the stream is kept.
__device__ __forceinline__ bool kept(const Draws &draws, Stream stream, uint32_t low) {
    uint32_t bits = low * 0x9E3779B9u + stream.offset;
    bits = (bits ^ bits >> 16) * 0x7FEB352Du + stream.salt;
    bits = (bits ^ bits >> 15) * 0x846CA68Bu;
    return (bits ^ bits >> 16) >= draws.threshold;
}
