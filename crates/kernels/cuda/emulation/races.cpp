// The search behind races.h.

// For dladdr.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "races.h"

#include "device.h"

#include <dlfcn.h>
#include <link.h>
#include <cstdio>
#include <memory>
#include <unordered_map>
#include <vector>

namespace emulation {

namespace {

constexpr int LANES = 32;
#ifdef __SANITIZE_ADDRESS__
/// With an address sanitizer accesses are not announced, and what it keeps from being used again would be remembered for ever.
constexpr bool SEARCHES = false;
#else
constexpr bool SEARCHES = true;
#endif
/// Bytes that remember together: the smallest number that a kernel writes.
constexpr size_t GRAIN = 2;
constexpr size_t PAGE_BYTES = 4096;
/// Who it was where that is no one thread: some lanes of the warp whose number is added, some of a block, of a launch.
constexpr int16_t LANES_OF = 1 << 12, OF_BLOCK = 1 << 13, OF_LAUNCH = 1 << 14;

struct Access {
    /// Counted over all launches, from 1.
    uint32_t block = 0;
    /// How often threads of the block had waited for each other.
    uint32_t time = 0;
    /// Where in the program, counted from `origin`: memory is what this search takes most of.
    int32_t place = 0;
    int16_t who = 0;
    bool is_arrival = false;
};

struct Grain {
    Access read, write;
};

struct Page {
    Grain grains[PAGE_BYTES / GRAIN];
};

/// Any place of the program.
const char origin = 0;

int32_t place_of(const void *caller) { return static_cast<const char *>(caller) - &origin; }

struct Range {
    uintptr_t first = 0, bytes = 0;

    bool has(uintptr_t address) const { return address - first < bytes; }
};

Range range(const void *first, size_t bytes) { return {reinterpret_cast<uintptr_t>(first), bytes}; }

int warp_of(int who) { return who < LANES_OF ? who / LANES : who - LANES_OF; }

/// Where this thread's variables of the program lie: __shared__ ones are among them.
Range find_variables() {
    Range found;
    dl_iterate_phdr(
        [](dl_phdr_info *info, size_t, void *result) {
            for (int i = 0; i < info->dlpi_phnum; i++) {
                if (info->dlpi_phdr[i].p_type != PT_TLS || info->dlpi_tls_data == nullptr) continue;
                Range own = range(info->dlpi_tls_data, info->dlpi_phdr[i].p_memsz);
                if (own.has(reinterpret_cast<uintptr_t>(&current))) *static_cast<Range *>(result) = own;
            }
            return 0;
        },
        &found
    );
    return found;
}

/// What a write that comes after another's must leave as it is.
struct Same {
    uintptr_t address = 0;
    uint16_t value = 0;
    Access before;
    int32_t place = 0;
};

/// A thread of a block that has counted itself: when, and when all threads of its block had last waited for each other.
struct Arrival {
    uint32_t block, time, block_order;
    int who;
};

struct Search {
    std::unordered_map<uintptr_t, std::unique_ptr<Page>> pages;
    /// Pages that were asked for lately, each at a place of its number.
    struct {
        uintptr_t number = 0;
        Page *page = nullptr;
    } recent[64];

    uint32_t block = 0, time = 0;
    /// The first block of the launch, and of those that may not have ended when it begins.
    uint32_t launch = 1, unfinished = 1;
    /// Whether the launch may begin before those have ended, and a thread of it has waited for them.
    bool early = false, has_waited = false;
    /// When all threads of the block, and of each warp, last waited for each other.
    uint32_t block_order = 0;
    std::vector<uint32_t> warp_orders;
    /// Which threads have waited for earlier launches.
    std::vector<char> waited;
    /// Those of this launch, at each counter; and those that came before one of this block, of the thread that has counted itself, and
    /// after a barrier of all.
    std::unordered_map<const int *, std::vector<Arrival>> arrivals;
    std::vector<Arrival> met;
    std::vector<char> has_met;
    Range shared, stacks, variables = find_variables();
    /// Of the write that is being made.
    std::vector<Same> sames;

    Grain &grain(uintptr_t address) {
        uintptr_t number = address / PAGE_BYTES;
        auto &slot = recent[number % std::size(recent)];
        if (number != slot.number) {
            auto &page = pages[number];
            if (page == nullptr) page = std::make_unique<Page>();
            slot = {number, page.get()};
        }
        return slot.page->grains[address % PAGE_BYTES / GRAIN];
    }

    void forget(Range memory) {
        for (uintptr_t at = memory.first; at < memory.first + memory.bytes; at += GRAIN) {
            if (pages.count(at / PAGE_BYTES) != 0) grain(at) = Grain();
        }
    }

    /// Whether an access came before all that `who` does from now on.
    bool ordered(const Access &access, int who, bool in_shared) const {
        if (access.block == block) {
            if (access.who == OF_LAUNCH) return false;
            if (access.time < block_order || (access.who == who && who < LANES_OF)) return true;
            return access.who < OF_BLOCK && warp_of(access.who) == warp_of(who) && access.time < warp_orders[warp_of(who)];
        }
        if (in_shared || access.block < unfinished) return true;
        return access.block < launch ? waited[current->index.x] : has_met[current->index.x] && came_before_arrival(access);
    }

    /// Whether an access of another block of this launch came before an arrival that this block has met.
    bool came_before_arrival(const Access &access) const {
        return std::any_of(met.begin(), met.end(), [&](const Arrival &arrival) {
            if (access.block != arrival.block || access.who == OF_LAUNCH) return false;
            return access.time < arrival.block_order || (access.who == arrival.who && access.time <= arrival.time);
        });
    }

    bool same_instruction(const Access &access, int who, int32_t place) const {
        return access.block == block && warp_of(access.who) == warp_of(who) && access.place == place;
    }

    /// Who has read what `who` reads since somebody waited for those who had before.
    int16_t readers(const Access &before, int16_t who, bool in_shared) const {
        if (ordered(before, who, in_shared) || before.block < launch) return who;
        if (before.block != block || before.who == OF_LAUNCH) return OF_LAUNCH;
        if (before.who == OF_BLOCK || warp_of(before.who) != warp_of(who)) return OF_BLOCK;
        return LANES_OF + warp_of(who);
    }

    /// One by one: what is stored in parts and loaded as a whole makes the processor wait.
    void set(Access &access, int16_t who, int32_t place, bool is_arrival = false) const {
        access.is_arrival = is_arrival;
        access.block = block;
        access.time = time;
        access.place = place;
        access.who = who;
    }

    void check_sames();
    void read(const void *from, size_t bytes, int16_t who, const void *caller);
    void write(const void *to, size_t bytes, const void *caller);
    void arrive(const int *counter, const void *caller);
    bool is_private(uintptr_t address) const;
    bool is_shared(uintptr_t address) const { return shared.has(address) || variables.has(address); }
};

/// Of this thread of the process, from its first launch on; the pointer is quicker to read.
thread_local std::unique_ptr<Search> owned;
__thread Search *search = nullptr;

void print_place(int32_t place) {
    Dl_info info;
    // Where the call was, not what follows.
    const char *at = &origin + place - 1;
    if (dladdr(at, &info) == 0) return;
    size_t offset = at - static_cast<const char *>(info.dli_fbase);
    std::fprintf(stderr, "    addr2line -Cfipe %s 0x%zx\n", info.dli_fname, offset);
}

[[noreturn]] void report(const Access &before, const char *what, int32_t place) {
    print_place(before.place);
    print_place(place);
    fail(what);
}

/// Stacks of threads, and what tells a thread its number.
bool Search::is_private(uintptr_t address) const {
    if (stacks.has(address)) return true;
    return range(current, sizeof(Thread)).has(address) || range(&current, sizeof current).has(address);
}

/// Lanes may write the same by the same instruction. What a write leaves is seen when the next access comes.
void Search::check_sames() {
    for (const Same &same : sames) {
        if (*reinterpret_cast<const uint16_t *>(same.address) != same.value) {
            report(same.before, "writes another value than another lane", same.place);
        }
    }
    sames.clear();
}

void Search::read(const void *from, size_t bytes, int16_t who, const void *caller) {
    auto address = reinterpret_cast<uintptr_t>(from);
    int32_t place = place_of(caller);
    if (!sames.empty()) check_sames();
    if (!SEARCHES || is_private(address)) return;
    bool in_shared = is_shared(address);
    for (uintptr_t at = address / GRAIN * GRAIN; at < address + bytes; at += GRAIN) {
        Grain &own = grain(at);
        if (!ordered(own.write, who, in_shared)) report(own.write, "reads what another writes, and nothing orders them", place);
        set(own.read, readers(own.read, who, in_shared), place);
    }
}

void Search::write(const void *to, size_t bytes, const void *caller) {
    auto address = reinterpret_cast<uintptr_t>(to);
    int32_t place = place_of(caller);
    if (!sames.empty()) check_sames();
    if (!SEARCHES || is_private(address)) return;
    bool in_shared = is_shared(address);
    int16_t who = current->index.x;
    if (!in_shared && early && !waited[who]) {
        print_place(place);
        fail("writes before it has waited for the launches before");
    }
    for (uintptr_t at = address / GRAIN * GRAIN; at < address + bytes; at += GRAIN) {
        Grain &own = grain(at);
        bool is_same = !ordered(own.write, who, in_shared);
        if (is_same) {
            if (!same_instruction(own.write, who, place)) {
                report(own.write, "writes what another writes, and nothing orders them", place);
            }
            sames.push_back({at, *reinterpret_cast<const uint16_t *>(at), own.write, place});
        }
        if (!ordered(own.read, who, in_shared)) report(own.read, "writes what another reads, and nothing orders them", place);
        // Of lanes that write the same each may be the last.
        set(own.write, is_same ? LANES_OF + who / LANES : who, place);
    }
}

void Search::arrive(const int *counter, const void *caller) {
    auto address = reinterpret_cast<uintptr_t>(counter);
    int32_t place = place_of(caller);
    int16_t who = current->index.x;
    if (!sames.empty()) check_sames();
    if (early && !waited[who]) {
        print_place(place);
        fail("writes before it has waited for the launches before");
    }
    for (uintptr_t at = address; at < address + sizeof *counter && SEARCHES; at += GRAIN) {
        Grain &own = grain(at);
        if (!own.write.is_arrival && !ordered(own.write, who, false)) {
            report(own.write, "counts where another writes, and nothing orders them", place);
        }
        if (!ordered(own.read, who, false)) report(own.read, "counts where another reads, and nothing orders them", place);
        set(own.write, who, place, true);
    }
    auto &before = arrivals[counter];
    met.insert(met.end(), before.begin(), before.end());
    has_met[who] = true;
    // What it does afterwards comes later, and no barrier was between.
    before.push_back({block, time++, block_order, who});
}

} // namespace

bool count_arrival(int *counter, int count) {
    search->arrive(counter, __builtin_return_address(0));
    bool is_last = *counter >= count - 1;
    *counter = is_last ? 0 : *counter + 1;
    return is_last;
}

void begin_launch(bool early) {
    if (search == nullptr) search = (owned = std::make_unique<Search>()).get();
    search->launch = search->block + 1;
    search->arrivals.clear();
    search->early = early;
    search->has_waited = false;
    if (!early) end_launches();
}

void end_launch() {
    search->check_sames();
    // When it ends those before it need not have, for which the launch after it does not wait.
    if (search->early && !search->has_waited) fail("was started early and never waits for the launches before");
    search->forget(search->shared);
}

void end_launches() {
    if (search != nullptr) search->unfinished = search->block + 1;
}

void begin_block(int threads, const void *shared, size_t shared_bytes, const void *stacks, size_t stack_bytes) {
    search->block++;
    search->time = 0;
    search->block_order = 0;
    search->warp_orders.assign(threads / LANES, 0);
    search->waited.assign(threads, false);
    search->met.clear();
    search->has_met.assign(threads, false);
    search->shared = range(shared, shared_bytes);
    search->stacks = range(stacks, stack_bytes);
}

void order_block() {
    search->check_sames();
    search->block_order = ++search->time;
    for (auto *has : {&search->waited, &search->has_met}) {
        if (std::find(has->begin(), has->end(), true) != has->end()) has->assign(has->size(), true);
    }
}

void order_warp() {
    search->check_sames();
    search->warp_orders[current->index.x / LANES] = ++search->time;
}

void order_launches() { search->waited[current->index.x] = search->has_waited = true; }

void note_read(const void *address, size_t bytes, const void *caller) {
    search->read(address, bytes, current->index.x, caller);
}

void note_write(const void *address, size_t bytes, const void *caller) { search->write(address, bytes, caller); }

void note_warp_read(const void *address, size_t bytes) {
    search->read(address, bytes, LANES_OF + current->index.x / LANES, current->collective);
}

} // namespace emulation

extern "C" void epitome_emulation_end_launches() { emulation::end_launches(); }

extern "C" void epitome_emulation_product(void *target, size_t bytes) {
    emulation::Thread thread{};
    emulation::begin_launch(false);
    emulation::begin_block(1, nullptr, 0, &thread, sizeof thread);
    emulation::current = &thread;
    emulation::note_write(target, bytes, __builtin_return_address(0));
    emulation::current = nullptr;
}
