// Asynchronous copies to shared memory (cp.async) and what matrix units see of it, as strict as their rules: what a copy brings may be
// touched by nobody until its thread waits for it, and by matrix units after a fence, too.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulation {

/// A copy, or zeros where there is no source: it arrives when the thread waits for its group, until when the target holds NaN.
void copy_async(void *shared, const void *global, size_t bytes, bool valid);
void commit_copies();
/// Waits for all but the latest `pending` groups. Ends the process if source or target of one have changed.
void wait_copies(int pending);
/// Lets matrix units see what this thread's copies brought.
void fence_copies();

/// The address by which matrix units know shared memory.
uint32_t shared_address(const void *pointer);
/// What they read there. Ends the process if a copy filled it and was not fenced.
const unsigned char *shared_pointer(uint32_t address, size_t bytes);

/// Forgets the copies of the block before, which had so many threads and this memory.
void begin_copies(int threads, unsigned char *shared, size_t shared_bytes);
/// Ends the process if the running thread has not waited for all of its copies.
void end_copies();

} // namespace emulation
