// Kernels that are wrong, each beside the same done right, by which tests see that races.cpp finds races and nothing else.

#include "../ptx.cuh"

#include <iterator>

namespace {

constexpr int THREADS = 2 * WARP, BLOCKS = 2;

/// Reads what a thread of the other warp wrote.
template <bool SOUND> __global__ void read_without_barrier(int *target) {
    __shared__ int numbers[THREADS];
    numbers[threadIdx.x] = threadIdx.x;
    if (SOUND) __syncthreads();
    target[blockIdx.x * THREADS + threadIdx.x] = numbers[(threadIdx.x + WARP) % THREADS];
}

/// Reads what another lane wrote; a shuffle brings lanes together and orders nothing.
template <bool SOUND> __global__ void read_without_warp_barrier(int *target) {
    __shared__ int numbers[THREADS];
    numbers[threadIdx.x] = threadIdx.x;
    int other = __shfl_xor_sync(0xffffffff, int(threadIdx.x), 1);
    if (SOUND) __syncwarp();
    target[blockIdx.x * THREADS + threadIdx.x] = numbers[other];
}

/// Writes what the other warp may still read.
template <bool SOUND> __global__ void write_without_barrier(int *target) {
    __shared__ int numbers[THREADS];
    numbers[threadIdx.x] = threadIdx.x;
    __syncthreads();
    int other = numbers[(threadIdx.x + WARP) % THREADS];
    if (SOUND) __syncthreads();
    numbers[threadIdx.x] = other;
    target[blockIdx.x * THREADS + threadIdx.x] = other;
}

/// The other warp may still read, too, what one of its readers writes.
template <bool SOUND> __global__ void write_after_two_read(int *target) {
    __shared__ int number;
    if (threadIdx.x == 0) number = 1;
    __syncthreads();
    target[blockIdx.x * THREADS + threadIdx.x] = number;
    if (SOUND) __syncthreads();
    if (threadIdx.x == WARP) number = 2;
}

/// Sixteen bytes at once.
template <bool SOUND> __global__ void read_pack_without_barrier(int *target) {
    auto packs = reinterpret_cast<uint4 *>(dynamic_shared_memory());
    ptx::store_16(packs + threadIdx.x, uint4{threadIdx.x, 0, 0, 0});
    if (SOUND) __syncthreads();
    target[blockIdx.x * THREADS + threadIdx.x] = ptx::load_16(packs + (threadIdx.x + WARP) % THREADS).x;
}

/// Matrices have rows that other lanes wrote.
template <bool SOUND> __global__ void gather_without_warp_barrier(int *target) {
    auto rows = reinterpret_cast<uint4 *>(dynamic_shared_memory());
    rows[threadIdx.x] = uint4{threadIdx.x, 0, 0, 0};
    if (SOUND) __syncwarp();
    uint32_t registers[4];
    ptx::load_matrices(registers, rows + threadIdx.x);
    target[blockIdx.x * THREADS + threadIdx.x] = registers[0];
}

/// Waits for its own copy and reads another's.
template <bool SOUND> __global__ void read_copy_without_barrier(int *target) {
    auto numbers = reinterpret_cast<int *>(dynamic_shared_memory());
    ptx::copy_async_4(numbers + threadIdx.x, target, false);
    ptx::commit_copies();
    ptx::wait_copies<0>();
    if (SOUND) __syncthreads();
    target[blockIdx.x * THREADS + threadIdx.x] = numbers[(threadIdx.x + WARP) % THREADS];
}

/// Writes, between barriers, where a copy has yet to arrive.
template <bool SOUND> __global__ void write_where_copy_arrives(int *) {
    auto numbers = reinterpret_cast<int *>(dynamic_shared_memory());
    if (threadIdx.x == 0) ptx::copy_async_4(numbers, nullptr, false);
    ptx::commit_copies();
    if (SOUND) ptx::wait_copies<0>();
    __syncthreads();
    if (threadIdx.x == 1) numbers[0] = 1;
    __syncthreads();
    ptx::wait_copies<0>();
}

/// Overwrites what other lanes may yet write.
template <bool SOUND> __global__ void overwrite_without_warp_barrier(int *target) {
    if (threadIdx.x >= WARP) return;
    target[blockIdx.x] = 1;
    if (SOUND) __syncwarp();
    if (threadIdx.x == WARP - 1) target[blockIdx.x] = 2;
}

/// Every lane writes one number; right only if it is the same.
template <bool SOUND> __global__ void write_together(int *target) {
    if (threadIdx.x < WARP) target[blockIdx.x] = SOUND ? 1 : int(threadIdx.x);
}

/// Every block writes the same place.
template <bool SOUND> __global__ void write_from_all_blocks(int *target) {
    if (threadIdx.x == 0) target[SOUND ? blockIdx.x : 0] = 1;
}

/// Every block reads what the first writes.
template <bool SOUND> __global__ void read_of_another_block(int *target) {
    if (threadIdx.x == 0 && (SOUND || blockIdx.x == 0)) target[blockIdx.x] = 1;
    if (threadIdx.x == 0) target[BLOCKS + blockIdx.x] = target[SOUND ? blockIdx.x : 0];
}

/// The last block to come reads what others wrote, whose threads had to wait for each other before one of them said that it has come.
template <bool SOUND> __global__ void read_of_blocks_that_came(int *target) {
    __shared__ bool is_last;
    if (threadIdx.x == 1) target[blockIdx.x] = 1;
    if (SOUND) __syncthreads();
    if (threadIdx.x == 0) is_last = ptx::count_arrival(target + 3 * BLOCKS, BLOCKS);
    __syncthreads();
    if (is_last && threadIdx.x == WARP) target[BLOCKS] = target[0];
}

/// Reads what others wrote before they came, and has not waited for the thread that came.
template <bool SOUND> __global__ void read_beside_who_came(int *target) {
    if (threadIdx.x == 0) target[blockIdx.x] = 1;
    if (threadIdx.x == 0) ptx::count_arrival(target + 3 * BLOCKS, BLOCKS);
    if (SOUND) __syncthreads();
    if (threadIdx.x == 1 && blockIdx.x == BLOCKS - 1) target[BLOCKS] = target[0];
}

/// Blocks count where one of them writes.
template <bool SOUND> __global__ void count_where_another_writes(int *target) {
    int *counter = target + 3 * BLOCKS;
    if (threadIdx.x == 1 && blockIdx.x == 0) *(SOUND ? target : counter) = 0;
    if (threadIdx.x == 0) ptx::count_arrival(counter, BLOCKS);
}

/// Reads what a launch wrote that may not have ended, though the one after it waits for it.
template <bool SOUND> __global__ void read_before_waiting(int *target) {
    if (SOUND) ptx::wait_for_kernels_before();
    int number = target[blockIdx.x];
    if (!SOUND) ptx::wait_for_kernels_before();
    if (threadIdx.x == 0) target[BLOCKS + blockIdx.x] = number;
}

template <bool SOUND> __global__ void write_before_waiting(int *target) {
    if (SOUND) ptx::wait_for_kernels_before();
    if (threadIdx.x == 0) target[2 * BLOCKS + blockIdx.x] = 1;
    if (!SOUND) ptx::wait_for_kernels_before();
}

template <bool SOUND> __global__ void count_before_waiting(int *target) {
    if (SOUND) ptx::wait_for_kernels_before();
    if (threadIdx.x == 0) ptx::count_arrival(target + 3 * BLOCKS, BLOCKS);
    if (!SOUND) ptx::wait_for_kernels_before();
}

template <bool SOUND> __global__ void never_wait(int *) {
    if (SOUND) ptx::wait_for_kernels_before();
}

template <bool SOUND> int start(int fault, int *target) {
    using Kernel = void (*)(int *);
    constexpr Kernel alone[] = {
        read_without_barrier<SOUND>,      read_without_warp_barrier<SOUND>,      write_without_barrier<SOUND>,
        write_after_two_read<SOUND>,      read_pack_without_barrier<SOUND>,      gather_without_warp_barrier<SOUND>,
        read_copy_without_barrier<SOUND>, overwrite_without_warp_barrier<SOUND>, write_from_all_blocks<SOUND>,
        read_of_another_block<SOUND>,     read_of_blocks_that_came<SOUND>,       read_beside_who_came<SOUND>,
        count_where_another_writes<SOUND>, write_where_copy_arrives<SOUND>, write_together<SOUND>,
    };
    constexpr Kernel after_others[] = {
        read_before_waiting<SOUND>, write_before_waiting<SOUND>, count_before_waiting<SOUND>, never_wait<SOUND>
    };
    constexpr size_t SHARED_BYTES = THREADS * sizeof(uint4);
    dim3 grid(BLOCKS);
    int count = std::size(alone);
    if (fault < count) return launch(alone[fault], grid, THREADS, SHARED_BYTES, nullptr, target);
    if (fault >= count + int(std::size(after_others))) return INVALID;
    launch(write_from_all_blocks<true>, grid, THREADS, 0, nullptr, target);
    launch_early(write_before_waiting<true>, grid, THREADS, 0, nullptr, target);
    // Without blocks nothing is launched.
    launch_early(never_wait<false>, dim3(0), THREADS, 0, nullptr, target);
    return launch_early(after_others[fault - count], grid, THREADS, 0, nullptr, target);
}

} // namespace

/// target: 128 numbers. Ends the process unless `sound`; `INVALID` behind the last fault.
extern "C" int epitome_emulation_fault(int fault, bool sound, int *target) {
    return sound ? start<true>(fault, target) : start<false>(fault, target);
}
