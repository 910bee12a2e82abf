// The softmax of a warp's queries over tiles of keys, in registers.
#pragma once

#include "../numbers.cuh"

/// The running softmax of a warp's queries, in units of base 2: a lane holds two rows of each fragment, shared by four
/// lanes, and a sum over its own columns.
template <int M, int KEYS> struct Softmax {
    float maximum[M][2], sum[M][2];

    __device__ Softmax() {
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            maximum[i / 2][i % 2] = -INFINITY;
            sum[i / 2][i % 2] = 0.0f;
        }
    }

    /// Replaces scores by exponentials relative to the new maximum, and rescales what was summed relative to the old one.
    template <int N>
    __device__ __forceinline__ void add(float (&scores)[M][KEYS / 8][4], float (&context)[M][N][4], float scale) {
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float most = maximum[m][half];
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++) {
                    most = fmaxf(most, fmaxf(scores[m][n][2 * half], scores[m][n][2 * half + 1]));
                }
                most = lanes_max<4>(most);
                // A query that has seen nothing yet has scores of minus infinity alone, whose exponentials must be 0.
                float base = most == -INFINITY ? 0.0f : scale * most;
                float rescale = ptx::exp2_approximate(scale * maximum[m][half] - base);
                float total = rescale * sum[m][half];
#pragma unroll
                for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
                    for (int side = 0; side < 2; side++) {
                        float &score = scores[m][n][2 * half + side];
                        score = ptx::exp2_approximate(scale * score - base);
                        total += score;
                    }
                }
#pragma unroll
                for (int n = 0; n < N; n++) {
                    context[m][n][2 * half] *= rescale;
                    context[m][n][2 * half + 1] *= rescale;
                }
                maximum[m][half] = most;
                sum[m][half] = total;
            }
        }
    }
};
