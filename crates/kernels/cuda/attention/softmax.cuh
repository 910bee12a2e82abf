// The softmax of a warp's queries over tiles of keys, in registers.
#pragma once

#include "../numbers.cuh"

/// The running softmax of a lane's two rows of each of M fragments, each row shared by four lanes, in units of base 2. Exponentials
/// are relative to a maximum that is replaced only when they would pass 2^SLACK: what was summed is then seldom rescaled, and no digit
/// is lost.
template <int M> struct Softmax {
    static constexpr float SLACK = 8.0f;
    /// 2^SLACK: the greatest exponential.
    static constexpr float MOST = 256.0f;

    float maximum[M][2], sum[M][2], rescale[M][2];
    /// Whether a row of this warp has a new maximum.
    bool renewed;

    __device__ Softmax() {
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            maximum[i / 2][i % 2] = -INFINITY;
            sum[i / 2][i % 2] = 0.0f;
        }
    }

    /// Replaces scores by exponentials. The maximum is renewed where theirs passes it by more than `slack`.
    template <int N>
    __device__ __forceinline__ void add(float (&scores)[M][N][4], float scale, float slack = SLACK) {
        float most[M][2];
        bool any = false;
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            int m = i / 2, half = i % 2;
            float even = scores[m][0][2 * half], odd = scores[m][0][2 * half + 1];
#pragma unroll
            for (int n = 1; n < N; n++) {
                even = fmaxf(even, scores[m][n][2 * half]);
                odd = fmaxf(odd, scores[m][n][2 * half + 1]);
            }
            most[m][half] = lanes_max<4>(fmaxf(even, odd));
            // False where nothing has been seen: that difference is no number.
            any |= scale * (most[m][half] - maximum[m][half]) > slack;
        }
        renewed = __any_sync(ALL_LANES, any);
        // Or registers would hold the factors of the tile before.
#pragma unroll
        for (int i = 0; i < 2 * M; i++) rescale[i / 2][i % 2] = 1.0f;
        if (renewed) {
#pragma unroll
            for (int i = 0; i < 2 * M; i++) {
                int m = i / 2, half = i % 2;
                bool is_new = scale * (most[m][half] - maximum[m][half]) > slack;
                rescale[m][half] =
                    is_new ? ptx::exp2_approximate(scale * (maximum[m][half] - most[m][half])) : 1.0f;
                sum[m][half] *= rescale[m][half];
                maximum[m][half] = is_new ? most[m][half] : maximum[m][half];
            }
        }
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            int m = i / 2, half = i % 2;
            // A query that has seen nothing yet has scores of minus infinity alone, whose exponentials must be 0.
            float base = maximum[m][half] == -INFINITY ? 0.0f : scale * maximum[m][half];
            sum[m][half] += exponentials(scores[m], half, scale, base);
        }
    }

    /// The same by the maximum as it is, which need not be looked for: false where it does not do, because an exponential passes
    /// 2^SLACK, a number is none, or a row has seen nothing yet. Then scores are lost, and nothing else has changed.
    template <int N> __device__ __forceinline__ bool add_by_known(float (&scores)[M][N][4], float scale) {
        float parts[M][2];
        bool good = true;
#pragma unroll
        for (int i = 0; i < 2 * M; i++) {
            int m = i / 2, half = i % 2;
            parts[m][half] = exponentials(scores[m], half, scale, scale * maximum[m][half]);
            // Of so many numbers one has to pass it where the sum does, so that the maximum is renewed then.
            good &= parts[m][half] <= 2 * N * MOST;
        }
        if (__any_sync(ALL_LANES, !good)) return false;
        renewed = false;
#pragma unroll
        for (int i = 0; i < 2 * M; i++) sum[i / 2][i % 2] += parts[i / 2][i % 2];
        return true;
    }

    /// Makes sums of before relative to the maximum of now.
    template <int N> __device__ __forceinline__ void renew(float (&context)[M][N][4]) const {
        if (!renewed) return;
#pragma unroll
        for (int m = 0; m < M; m++) {
#pragma unroll
            for (int i = 0; i < 4 * N; i++) context[m][i / 4][i % 4] *= rescale[m][i % 4 / 2];
        }
    }

  private:
    /// Replaces the scores of one of a fragment's rows by their exponentials, of which it returns the sum.
    template <int N>
    static __device__ __forceinline__ float exponentials(float (&scores)[N][4], int half, float scale, float base) {
        float even, odd;
#pragma unroll
        for (int n = 0; n < N; n++) {
            float &left = scores[n][2 * half], &right = scores[n][2 * half + 1];
            left = ptx::exp2_approximate(scale * left - base);
            right = ptx::exp2_approximate(scale * right - base);
            even = n == 0 ? left : even + left;
            odd = n == 0 ? right : odd + right;
        }
        return even + odd;
    }
};
