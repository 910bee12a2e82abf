// The scheduler behind device.h.

// Its check of longjmp knows nothing of stacks of our own.
#undef _FORTIFY_SOURCE

#include "device.h"
#include "products.h"

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <ucontext.h>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulation {

__thread Thread *current;

namespace {

constexpr size_t STACK_BYTES = 256 << 10;
constexpr int LANES = 32;
/// NaN in every format, and the least likely index.
constexpr int POISON = 0xff;
/// Bytes of the smallest part of shared memory that is followed.
constexpr size_t CHUNK = 16;
/// Where a block's shared memory begins: a multiple of 128 bytes, as on a GPU, and of no more.
constexpr uint32_t FIRST_SHARED = 1024 + 128;

enum class State { Ready, AtWarp, AtBlock, Done };

struct Copy {
    void *target;
    const void *source;
    size_t bytes;
    int group;
};

/// Where a fiber, or the scheduler, goes on. `_setjmp` makes no system call, as `swapcontext` does.
struct Context {
    ucontext_t start;
    jmp_buf resume;
    bool started = true;
    void *stack = nullptr;
    size_t stack_bytes = 0;
};

struct Fiber : Thread {
    Context context;
    State state = State::Ready;
    std::vector<Copy> copies;
    /// Chunks of shared memory that arrived and that no fence has shown to the matrix units yet.
    std::vector<size_t> unfenced;
    int groups = 0;
    std::unique_ptr<char[]> stack{new char[STACK_BYTES]};
};

struct Warp {
    Operation operation = nullptr;
    void *operands[LANES];
    int arrived = 0;
};

struct Block {
    std::vector<std::unique_ptr<Fiber>> fibers;
    std::vector<Warp> warps;
    Context scheduler;
    const std::function<void()> *body = nullptr;
    unsigned char *shared = nullptr;
    size_t shared_bytes = 0;
    /// Which fiber has filled a chunk and not fenced it since, counted from 1.
    std::vector<int> unfenced;
    int at_barrier = 0;
    int threads = 0;
    /// Blocks that have run on this thread of the process.
    int count = 0;
};

thread_local Block block;

#ifdef __SANITIZE_ADDRESS__
/// `ends`: nobody comes back, and what the sanitizer keeps of the stack is given back.
void switch_context(Context &from, Context &to, bool ends) {
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(ends ? nullptr : &fake, to.stack, to.stack_bytes);
    swapcontext(&from.start, &to.start);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
}
#else
void switch_context(Context &from, Context &to, bool) {
    if (_setjmp(from.resume) != 0) return;
    if (to.started) _longjmp(to.resume, 1);
    to.started = true;
    setcontext(&to.start);
}
#endif

Fiber &running() { return *static_cast<Fiber *>(current); }

Warp &warp_of(const Thread &thread) { return block.warps[thread.index.x / LANES]; }

void yield(State state) {
    running().state = state;
    switch_context(running().context, block.scheduler, state == State::Done);
}

void fiber_main() {
#ifdef __SANITIZE_ADDRESS__
    const void *stack;
    size_t bytes;
    __sanitizer_finish_switch_fiber(nullptr, &stack, &bytes);
    block.scheduler.stack = const_cast<void *>(stack);
    block.scheduler.stack_bytes = bytes;
#endif
    (*block.body)();
    if (!running().copies.empty()) fail("a thread ended while its copies were in flight");
    yield(State::Done);
}

void start(Fiber &fiber) {
    getcontext(&fiber.context.start);
    fiber.context.start.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.start.uc_stack.ss_size = STACK_BYTES;
    fiber.context.start.uc_link = nullptr;
    fiber.context.stack = fiber.stack.get();
    fiber.context.stack_bytes = STACK_BYTES;
    fiber.context.started = false;
    makecontext(&fiber.context.start, fiber_main, 0);
    fiber.state = State::Ready;
    fiber.copies.clear();
    fiber.unfenced.clear();
    fiber.groups = 0;
}

void release(State waiting, size_t first, size_t end) {
    for (size_t i = first; i < end; i++) {
        if (block.fibers[i]->state == waiting) block.fibers[i]->state = State::Ready;
    }
}

void run_block(dim3 grid, dim3 index) {
    std::memset(block.shared, POISON, block.shared_bytes);
    block.unfenced.assign(block.shared_bytes / CHUNK + 1, 0);
    block.at_barrier = 0;
    begin_products(block.threads / LANES);
    for (int i = 0; i < block.threads; i++) {
        Fiber &fiber = *block.fibers[i];
        fiber.index = dim3(i, 0, 0);
        fiber.block_index = index;
        fiber.block_size = dim3(block.threads);
        fiber.grid_size = grid;
        start(fiber);
    }
    std::fill(block.warps.begin(), block.warps.end(), Warp());
    // Every other block from the last thread to the first, so that whoever reads what another writes without waiting for it
    // comes too early somewhere.
    bool backwards = block.count++ % 2 == 1;
    for (int done = 0; done < block.threads;) {
        bool progress = false;
        for (int i = 0; i < block.threads; i++) {
            Fiber &fiber = *block.fibers[backwards ? block.threads - 1 - i : i];
            if (fiber.state != State::Ready) continue;
            current = &fiber;
            switch_context(block.scheduler, fiber.context, false);
            progress = true;
            done += fiber.state == State::Done;
        }
        if (block.at_barrier == block.threads) {
            block.at_barrier = 0;
            release(State::AtBlock, 0, block.threads);
        } else if (!progress) {
            fail("threads wait for others that never come");
        }
    }
    end_products();
}

/// Delivers a copy of the running fiber.
void deliver(const Copy &copy) {
    if (copy.source != nullptr) {
        std::memcpy(copy.target, copy.source, copy.bytes);
    } else {
        std::memset(copy.target, 0, copy.bytes);
    }
    size_t chunk = (static_cast<unsigned char *>(copy.target) - block.shared) / CHUNK;
    block.unfenced[chunk] = running().index.x + 1;
    running().unfenced.push_back(chunk);
}

} // namespace

void fail(const char *what) {
    auto at = current->block_index;
    std::fprintf(stderr, "emulated kernel: %s (block %u %u %u, thread %u)\n", what, at.x, at.y, at.z, current->index.x);
    std::abort();
}

void run(dim3 grid, int threads, size_t shared_bytes, const std::function<void()> &body) {
    Thread launcher;
    current = &launcher;
    if (threads % LANES != 0) fail("a block must be whole warps");
    while (block.fibers.size() < size_t(threads)) block.fibers.push_back(std::make_unique<Fiber>());
    block.threads = threads;
    block.warps.resize(threads / LANES);
    block.body = &body;
    block.shared_bytes = shared_bytes;
    // Exactly as much as was asked for, so that an address sanitizer sees what lies outside.
    block.shared = static_cast<unsigned char *>(std::aligned_alloc(128, (shared_bytes + 127) / 128 * 128));
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) run_block(grid, dim3(x, y, z));
        }
    }
    std::free(block.shared);
    current = nullptr;
}

unsigned char *shared_memory() { return block.shared; }

void barrier() {
    block.at_barrier++;
    yield(State::AtBlock);
}

void collective(Operation operation, void *operands) {
    Warp &warp = warp_of(*current);
    if (warp.arrived == 0) {
        warp.operation = operation;
    } else if (warp.operation != operation) {
        fail("lanes of a warp came to different collective instructions");
    }
    warp.operands[current->index.x % LANES] = operands;
    if (++warp.arrived < LANES) {
        yield(State::AtWarp);
        return;
    }
    operation(warp.operands);
    warp.arrived = 0;
    size_t first = current->index.x / LANES * LANES;
    release(State::AtWarp, first, first + LANES);
}

void require_aligned(const void *address, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(address) % bytes != 0) fail("an access that is not aligned");
}

void require_shared(const void *address, size_t bytes) {
    require_aligned(address, bytes);
    auto *byte = static_cast<const unsigned char *>(address);
    if (byte < block.shared || byte + bytes > block.shared + block.shared_bytes) fail("an address outside shared memory");
}

void copy_async(void *shared, const void *global, size_t bytes, bool valid) {
    require_shared(shared, bytes);
    if (valid) require_aligned(global, bytes);
    std::memset(shared, POISON, bytes);
    running().copies.push_back({shared, valid ? global : nullptr, bytes, running().groups});
}

void commit_copies() { running().groups++; }

void wait_copies(int pending) {
    auto &copies = running().copies;
    int delivered = running().groups - pending;
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
    for (size_t chunk : running().unfenced) {
        if (block.unfenced[chunk] == int(running().index.x) + 1) block.unfenced[chunk] = 0;
    }
    running().unfenced.clear();
}

uint32_t shared_address(const void *pointer) {
    return FIRST_SHARED + (static_cast<const unsigned char *>(pointer) - block.shared);
}

const unsigned char *shared_pointer(uint32_t address, size_t bytes) {
    size_t at = address - FIRST_SHARED;
    if (address < FIRST_SHARED || at + bytes > block.shared_bytes) fail("an address outside shared memory");
    if (block.unfenced[at / CHUNK] != 0) fail("matrix units read what was copied and not fenced");
    return block.shared + at;
}

} // namespace emulation
