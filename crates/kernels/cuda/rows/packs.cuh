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

template <int V, typename T> __device__ __forceinline__ void load_values(float (&values)[V], const T *from) {
    if constexpr (V == 1) {
        values[0] = to_float(from[0]);
    } else {
        constexpr int EACH = 16 / sizeof(T);
#pragma unroll
        for (int first = 0; first < V; first += EACH) {
            uint4 bits = ptx::load_16(from + first);
#pragma unroll
            for (int i = 0; i < EACH; i++) values[first + i] = to_float(reinterpret_cast<const T *>(&bits)[i]);
        }
    }
}

template <int V, typename T> __device__ __forceinline__ void store_values(T *to, const float (&values)[V]) {
    if constexpr (V == 1) {
        to[0] = from_float<T>(values[0]);
    } else {
        constexpr int EACH = 16 / sizeof(T);
#pragma unroll
        for (int first = 0; first < V; first += EACH) {
            uint4 bits;
#pragma unroll
            for (int i = 0; i < EACH; i++) reinterpret_cast<T *>(&bits)[i] = from_float<T>(values[first + i]);
            ptx::store_16(to + first, bits);
        }
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
        for (int i = 0; i < V; i++) values[i] = to_float(reinterpret_cast<const T *>(bits[n])[i]);
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
