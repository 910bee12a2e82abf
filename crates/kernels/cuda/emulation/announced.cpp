// What the compiler calls at loads and stores of kernels, in place of a thread sanitizer's library.

#include "device.h"

#include <cstring>

namespace {

// Outside kernels there is nothing to find.

void read(const void *address, size_t bytes, const void *caller) {
    if (emulation::current != nullptr) emulation::note_read(address, bytes, caller);
}

void write(const void *address, size_t bytes, const void *caller) {
    if (emulation::current != nullptr) emulation::note_write(address, bytes, caller);
}

} // namespace

#define CALLER __builtin_return_address(0)
#define ACCESSES(bytes)                                                                                                \
    void __tsan_read##bytes(void *address) { read(address, bytes, CALLER); }                                           \
    void __tsan_unaligned_read##bytes(void *address) { read(address, bytes, CALLER); }                                 \
    void __tsan_write##bytes(void *address) { write(address, bytes, CALLER); }                                         \
    void __tsan_unaligned_write##bytes(void *address) { write(address, bytes, CALLER); }

extern "C" {

ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

// GCC has ranges, LLVM functions of the library.

void __tsan_read_range(void *address, size_t bytes) { read(address, bytes, CALLER); }
void __tsan_write_range(void *address, size_t bytes) { write(address, bytes, CALLER); }

void *__tsan_memcpy(void *target, const void *source, size_t bytes) {
    read(source, bytes, CALLER);
    write(target, bytes, CALLER);
    return std::memcpy(target, source, bytes);
}

void *__tsan_memmove(void *target, const void *source, size_t bytes) {
    read(source, bytes, CALLER);
    write(target, bytes, CALLER);
    return std::memmove(target, source, bytes);
}

void *__tsan_memset(void *target, int value, size_t bytes) {
    write(target, bytes, CALLER);
    return std::memset(target, value, bytes);
}

void __tsan_init() {}
void __tsan_func_entry(void *) {}
void __tsan_func_exit() {}
}
