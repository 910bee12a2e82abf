// The scheduler behind device.h.

// Its check of longjmp knows nothing of stacks of our own.
#undef _FORTIFY_SOURCE

#include "copies.h"
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
constexpr int LANES = 32, MOST_THREADS = 1024;
/// NaN in every format, and the least likely index.
constexpr int POISON = 0xff;

enum class State { Ready, AtWarp, AtBlock, Done };

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
    char *stack = nullptr;
};

struct Warp {
    Operation operation = nullptr;
    void *operands[LANES];
    int arrived = 0;
};

struct Block {
    std::vector<std::unique_ptr<Fiber>> fibers;
    /// Of all fibers, one behind the other.
    std::unique_ptr<char[]> stacks{new char[MOST_THREADS * STACK_BYTES]};
    std::vector<Warp> warps;
    Context scheduler;
    Body body{};
    unsigned char *shared = nullptr;
    size_t shared_bytes = 0;
    int at_barrier = 0;
    int threads = 0;
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
    block.body.function(block.body.kernel);
    end_copies();
    yield(State::Done);
}

void start(Fiber &fiber) {
    getcontext(&fiber.context.start);
    fiber.context.start.uc_stack.ss_sp = fiber.stack;
    fiber.context.start.uc_stack.ss_size = STACK_BYTES;
    fiber.context.start.uc_link = nullptr;
    fiber.context.stack = fiber.stack;
    fiber.context.stack_bytes = STACK_BYTES;
    fiber.context.started = false;
    makecontext(&fiber.context.start, fiber_main, 0);
    fiber.state = State::Ready;
}

void release(State waiting, size_t first, size_t end) {
    for (size_t i = first; i < end; i++) {
        if (block.fibers[i]->state == waiting) block.fibers[i]->state = State::Ready;
    }
}

void run_block(dim3 grid, dim3 index) {
    std::memset(block.shared, POISON, block.shared_bytes);
    block.at_barrier = 0;
    begin_products(block.threads / LANES);
    begin_copies(block.threads, block.shared, block.shared_bytes);
    begin_block(block.threads, block.shared, block.shared_bytes, block.stacks.get(), MOST_THREADS * STACK_BYTES);
    for (int i = 0; i < block.threads; i++) {
        Fiber &fiber = *block.fibers[i];
        fiber.index = dim3(i, 0, 0);
        fiber.block_index = index;
        fiber.block_size = dim3(block.threads);
        fiber.grid_size = grid;
        start(fiber);
    }
    std::fill(block.warps.begin(), block.warps.end(), Warp());
    for (int done = 0; done < block.threads;) {
        bool progress = false;
        for (int i = 0; i < block.threads; i++) {
            Fiber &fiber = *block.fibers[i];
            if (fiber.state != State::Ready) continue;
            current = &fiber;
            switch_context(block.scheduler, fiber.context, false);
            progress = true;
            done += fiber.state == State::Done;
        }
        if (block.at_barrier == block.threads) {
            block.at_barrier = 0;
            order_block();
            release(State::AtBlock, 0, block.threads);
        } else if (!progress) {
            fail("threads wait for others that never come");
        }
    }
    end_products();
    order_block();
}

} // namespace

void fail(const char *what) {
    auto at = current->block_index;
    std::fprintf(stderr, "emulated kernel: %s (block %u %u %u, thread %u)\n", what, at.x, at.y, at.z, current->index.x);
    std::abort();
}

void run(dim3 grid, int threads, size_t shared_bytes, bool early, Body body) {
    Thread launcher;
    current = &launcher;
    if (threads % LANES != 0 || threads > MOST_THREADS) fail("a block must be whole warps, at most 32");
    while (block.fibers.size() < size_t(threads)) {
        block.fibers.push_back(std::make_unique<Fiber>());
        block.fibers.back()->stack = &block.stacks[(block.fibers.size() - 1) * STACK_BYTES];
    }
    begin_launch(early);
    block.threads = threads;
    block.warps.resize(threads / LANES);
    block.body = body;
    block.shared_bytes = shared_bytes;
    // Exactly as much as was asked for, so that an address sanitizer sees what lies outside.
    block.shared = static_cast<unsigned char *>(std::aligned_alloc(128, (shared_bytes + 127) / 128 * 128));
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) run_block(grid, dim3(x, y, z));
        }
    }
    current = &launcher;
    end_launch();
    std::free(block.shared);
    current = nullptr;
}

unsigned char *shared_memory() { return block.shared; }

void barrier() {
    block.at_barrier++;
    yield(State::AtBlock);
}

void collective(Operation operation, void *operands, const void *caller) {
    current->collective = caller != nullptr ? caller : __builtin_return_address(0);
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

} // namespace emulation
