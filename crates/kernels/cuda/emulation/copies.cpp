// The copies behind copies.h.

#include "copies.h"

#include "device.h"

#include <cstring>
#include <vector>

namespace emulation {

namespace {

/// NaN in every format.
constexpr int POISON = 0xff;
constexpr size_t MOST_BYTES = 16;
/// Bytes of the smallest part of shared memory that is followed.
constexpr size_t CHUNK = 16;
/// Where a block's shared memory begins: a multiple of 128 bytes, as on a GPU, and of no more.
constexpr uint32_t FIRST_SHARED = 1024 + 128;

struct Copy {
    void *target;
    const void *source;
    size_t bytes;
    int group;
    /// In the kernel.
    const void *caller;
    /// What source and target must still be when it arrives.
    unsigned char before[MOST_BYTES], meanwhile[MOST_BYTES];
};

/// Of a thread.
struct Copies {
    std::vector<Copy> in_flight;
    int groups = 0;
    /// Chunks that arrived and that no fence has shown to the matrix units yet.
    std::vector<size_t> unfenced;
};

struct Memory {
    unsigned char *first = nullptr;
    size_t bytes = 0;
    /// Which thread has filled a chunk and not fenced it since, counted from 1.
    std::vector<int> unfenced;
};

thread_local std::vector<Copies> all_copies;
thread_local Memory memory;

Copies &own_copies() { return all_copies[current->index.x]; }

/// `bytes` at `target`, which are the source's, or zeros.
void bring(void *target, const void *source, size_t bytes) {
    if (source != nullptr) {
        std::memcpy(target, source, bytes);
    } else {
        std::memset(target, 0, bytes);
    }
}

void deliver(const Copy &copy) {
    if (std::memcmp(copy.target, copy.meanwhile, copy.bytes) != 0) fail("the target of a copy in flight was written");
    note_write(copy.target, copy.bytes, copy.caller);
    if (copy.source != nullptr) note_read(copy.source, copy.bytes, copy.caller);
    bring(copy.target, copy.source, copy.bytes);
    if (std::memcmp(copy.target, copy.before, copy.bytes) != 0) fail("the source of a copy in flight was written");
    size_t chunk = (static_cast<unsigned char *>(copy.target) - memory.first) / CHUNK;
    memory.unfenced[chunk] = current->index.x + 1;
    own_copies().unfenced.push_back(chunk);
}

} // namespace

void copy_async(void *shared, const void *global, size_t bytes, bool valid) {
    const void *caller = __builtin_return_address(0);
    require_shared(shared, bytes);
    if (valid) {
        require_aligned(global, bytes);
        note_read(global, bytes, caller);
    }
    note_write(shared, bytes, caller);
    Copy copy{shared, valid ? global : nullptr, bytes, own_copies().groups, caller, {}, {}};
    bring(copy.before, copy.source, bytes);
    std::memset(copy.meanwhile, POISON, bytes);
    std::memset(shared, POISON, bytes);
    own_copies().in_flight.push_back(copy);
}

void commit_copies() { own_copies().groups++; }

void wait_copies(int pending) {
    auto &copies = own_copies().in_flight;
    int delivered = own_copies().groups - pending;
    size_t kept = 0;
    for (auto &copy : copies) {
        if (copy.group >= delivered) {
            copies[kept++] = copy;
        } else {
            deliver(copy);
        }
    }
    copies.resize(kept);
}

void fence_copies() {
    for (size_t chunk : own_copies().unfenced) {
        if (memory.unfenced[chunk] == int(current->index.x) + 1) memory.unfenced[chunk] = 0;
    }
    own_copies().unfenced.clear();
}

uint32_t shared_address(const void *pointer) {
    return FIRST_SHARED + (static_cast<const unsigned char *>(pointer) - memory.first);
}

const unsigned char *shared_pointer(uint32_t address, size_t bytes) {
    size_t at = address - FIRST_SHARED;
    if (address < FIRST_SHARED || at + bytes > memory.bytes) fail("an address outside shared memory");
    if (memory.unfenced[at / CHUNK] != 0) fail("matrix units read what was copied and not fenced");
    note_warp_read(memory.first + at, bytes);
    return memory.first + at;
}

void begin_copies(int threads, unsigned char *shared, size_t shared_bytes) {
    all_copies.assign(threads, Copies());
    memory = {shared, shared_bytes, std::vector<int>(shared_bytes / CHUNK + 1, 0)};
}

void end_copies() {
    if (!own_copies().in_flight.empty()) fail("a thread ended while its copies were in flight");
}

} // namespace emulation
