// Finds what no order of fibers shows: accesses to the same memory, one of them a write, that nothing orders.
//
// The compiler calls the functions of a thread sanitizer (-fsanitize=thread) at every load and store of a kernel; announced.cpp has
// them. Every two bytes of shared and global memory remember who read and wrote them last. Two accesses are ordered
//   - in a thread;
//   - in a block by a barrier between them, in a warp by __syncwarp, and by nothing else: shuffles, ldmatrix and products only
//     bring lanes together;
//   - between the blocks of a launch by arrivals that a counter counts, from what barriers order before one to what they order
//     after a later one, and by nothing else;
//   - between launches, unless the later one was started early and has not waited for those before it.
// Products of the library count as launches; what candle does on its own is not seen.
// Ends the process at the first pair that is not. Lanes of a warp may write the same value by the same instruction.
#pragma once

#include <cstddef>

namespace emulation {

/// Says that the blocks that follow are those of another launch, and that they have been.
void begin_launch(bool early);
void end_launch();
/// Says how many threads the next block has, and where its shared memory and its threads' stacks are, which no other block sees.
void begin_block(int threads, const void *shared, size_t shared_bytes, const void *stacks, size_t stack_bytes);
/// Says that what follows begins when all launches so far have ended, as after a copy.
void end_launches();
/// The threads of the block, or of the running one's warp, have waited for each other.
void order_block();
void order_warp();
/// The running thread has waited for the launches before.
void order_launches();

/// Counts an arrival of the running thread, which orders what was before earlier ones at this counter, in this launch, and what comes
/// after this one. Says whether `count` have come; then it begins again at 0. Only arrivals may meet there without an order.
bool count_arrival(int *counter, int count);

/// An access by the running thread, which `caller` makes.
void note_read(const void *address, size_t bytes, const void *caller);
void note_write(const void *address, size_t bytes, const void *caller);
/// A read by all lanes of its warp together, in a collective instruction.
void note_warp_read(const void *address, size_t bytes);

} // namespace emulation
