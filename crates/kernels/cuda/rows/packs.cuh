// Numbers that lie next to each other, read and written 16 bytes at a time where they are aligned.
#pragma once

#include "../numbers.cuh"
#include "../random.cuh"

/// Numbers a thread takes at once where rows begin at multiples of 16 bytes.
constexpr int PACK = 8;

/// Whether rows of `width` numbers that begin at `pointers` can be taken in packs.
template <typename... Pointers> __host__ __device__ bool takes_packs(int64_t width, const Pointers *...pointers) {
    return width % PACK == 0 && ((reinterpret_cast<uintptr_t>(pointers) % 16 == 0) && ...);
}

/// The numbers of 16 bytes; of a bf16 its bits are the upper half of an f32's.
__device__ __forceinline__ void unpack(float *values, const uint4 &bits, bf16) {
    const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        values[2 * i] = __uint_as_float(words[i] << 16);
        values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000);
    }
}
__device__ __forceinline__ void unpack(float *values, const uint4 &bits, float) {
    values[0] = __uint_as_float(bits.x);
    values[1] = __uint_as_float(bits.y);
    values[2] = __uint_as_float(bits.z);
    values[3] = __uint_as_float(bits.w);
}

/// The 16 bytes of so many numbers.
__device__ __forceinline__ uint4 pack(const float *values, bf16) {
    return {
        ptx::pack_bf16(values[0], values[1]), ptx::pack_bf16(values[2], values[3]), ptx::pack_bf16(values[4], values[5]),
        ptx::pack_bf16(values[6], values[7]),
    };
}
__device__ __forceinline__ uint4 pack(const float *values, float) {
    return {__float_as_uint(values[0]), __float_as_uint(values[1]), __float_as_uint(values[2]), __float_as_uint(values[3])};
}

template <int V, typename T> __device__ __forceinline__ void load_values(float (&values)[V], const T *from) {
    if constexpr (V == 1) {
        values[0] = to_float(from[0]);
    } else {
        constexpr int EACH = 16 / sizeof(T);
#pragma unroll
        for (int first = 0; first < V; first += EACH) unpack(values + first, ptx::load_16(from + first), T());
    }
}

template <int V, typename T> __device__ __forceinline__ void store_values(T *to, const float (&values)[V]) {
    if constexpr (V == 1) {
        to[0] = from_float<T>(values[0]);
    } else {
        constexpr int EACH = 16 / sizeof(T);
#pragma unroll
        for (int first = 0; first < V; first += EACH) ptx::store_16(to + first, pack(values + first, T()));
    }
}

/// Multiplies numbers, of which the first has this index, by their dropout factors.
template <int V> __device__ __forceinline__ void drop_values(float (&values)[V], const Draws &draws, uint64_t index) {
    if (draws.threshold == 0) return;
    // One stream for all, but where the upper half of the index changes among them.
    uint32_t low = uint32_t(index);
    Stream stream = stream_of(draws, uint32_t(index >> 32)), next = stream;
    if (V > 1 && low + (V - 1) < low) next = stream_of(draws, uint32_t(index >> 32) + 1);
#pragma unroll
    for (int i = 0; i < V; i++) {
        Stream own = low + i < low ? next : stream;
        values[i] *= kept(draws, own, low + i) ? draws.keep : 0.0f;
    }
}

/// A lane's numbers of a row that a warp shares, N packs of V, as they lie in memory, all asked for at once; zeros where there is no
/// row.
template <typename T, int V, int N> struct Packs {
    static constexpr int EACH = V * sizeof(T) / 16;
    uint4 bits[N][EACH];

    __device__ __forceinline__ Packs(const T *row, int width) {
#pragma unroll
        for (int n = 0; n < N; n++) {
            int column = V * (lane_index() + n * WARP);
            bool exists = row != nullptr && column < width;
#pragma unroll
            for (int i = 0; i < EACH; i++) {
                bits[n][i] = exists ? ptx::load_16(row + column + i * (16 / sizeof(T))) : uint4{0, 0, 0, 0};
            }
        }
    }

    __device__ __forceinline__ void values(float (&values)[V], int n, int) const {
#pragma unroll
        for (int i = 0; i < EACH; i++) unpack(values + i * (16 / sizeof(T)), bits[n][i], T());
    }
};

/// A row of any length: each pack when it is used.
template <typename T, int V> struct Packs<T, V, 0> {
    const T *row;

    __device__ __forceinline__ Packs(const T *row, int) : row(row) {}
    __device__ __forceinline__ void values(float (&values)[V], int, int column) const {
#pragma unroll
        for (int i = 0; i < V; i++) values[i] = 0.0f;
        if (row != nullptr) load_values(values, row + column);
    }
};
