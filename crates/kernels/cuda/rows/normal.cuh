// The normal distribution, of which GELU is made.
#pragma once

#include "../numbers.cuh"

struct Normal {
    /// Probability of numbers below.
    float distribution;
    /// exp(-z^2 / 2), which is in proportion to the density.
    float bell;
};

/// For numbers in memory of type T. In f32 by erf and exp; for bf16 by the approximation 7.1.26 of Abramowitz and Stegun, whose error
/// is below 1.5e-7, in a third of the instructions.
template <typename T> __device__ __forceinline__ Normal normal_of(float z);

template <> __device__ __forceinline__ Normal normal_of<float>(float z) {
    constexpr float SQRT_HALF = 0.707106781186548f;
    return {0.5f * (1.0f + erff(SQRT_HALF * z)), expf(-0.5f * z * z)};
}

template <> __device__ __forceinline__ Normal normal_of<bf16>(float z) {
    // 0.3275911 / sqrt 2, and half of the formula's coefficients.
    constexpr float SLOPE = 0.231641887f;
    constexpr float A[5] = {0.127414796f, -0.142248368f, 0.710706870f, -0.726576014f, 0.530702715f};
    float bell = ptx::exp2_approximate(-0.5f * LOG2_E * z * z), t = ptx::reciprocal_approximate(1.0f + SLOPE * fabsf(z));
    float tail = ((((A[4] * t + A[3]) * t + A[2]) * t + A[1]) * t + A[0]) * t * bell;
    return {z < 0.0f ? tail : 1.0f - tail, bell};
}
