// Products of warp groups (wgmma) on the CPU, as strict as their rules: what a product reads may not change between its start
// and the wait for it, its sums are NaN until then, and shared memory that a thread filled must have been fenced.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulation {

/// What a lane gives to a product of 64 rows by `columns`, 16 deep: its sums (columns / 2 of them), and either four registers
/// of A or, where they are null, the descriptor of A in shared memory.
struct GroupProduct {
    float *sums;
    const uint32_t *a;
    uint64_t a_descriptor, b_descriptor;
    int columns;
    /// Whether the columns of B follow each other in shared memory; else its depth does.
    bool b_transposed;
    /// Else the sums begin at 0.
    bool accumulate;
};

/// Starts a product; all lanes of a warp together, as what follows.
void multiply_group(GroupProduct product);
/// Registers of products that begin after it are as they were before it.
void fence_products();
void commit_products();
/// Waits for all but the latest `pending` groups, whose sums come then.
void wait_products(int pending);

/// Forgets the products of the block before, of so many warps.
void begin_products(size_t warps);
/// Ends the process if a product was not waited for or the warps of a group differ in their products.
void end_products();

} // namespace emulation
