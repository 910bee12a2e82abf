// The engine behind products.h. Every warp makes its 16 of the 64 rows by itself: the four warps of a group need not come
// together, but must come to the same products.

#include "products.h"

#include "device.h"

#include <algorithm>
#include <array>
#include <vector>

namespace emulation {

namespace {

constexpr int LANES = 32, GROUP_WARPS = 4, ROWS = 16, DEPTH = 16;
/// NaN.
constexpr uint32_t POISON = 0xffffffff;

using Numbers = std::vector<uint16_t>;

/// An operand in shared memory, after the section on matrix descriptors in the PTX reference.
struct Descriptor {
    uint32_t start, leading, stride, base_offset, swizzle;

    explicit Descriptor(uint64_t bits)
        : start((bits & 0x3fff) << 4), leading((bits >> 16 & 0x3fff) << 4), stride((bits >> 32 & 0x3fff) << 4),
          base_offset(bits >> 49 & 7), swizzle(bits >> 62) {}

    /// Chunks of 16 bytes of a row of the pattern.
    uint32_t width() const { return swizzle == 0 ? 1 : 16 >> swizzle; }

    /// The address of the number at `row` (of A; a column of B) and `depth`: eight rows of a pattern are eight of the matrix,
    /// or eight of its depth where its rows follow each other in memory.
    uint32_t address(uint32_t row, uint32_t depth, bool rows_adjacent) const {
        uint32_t at = rows_adjacent ? row % 8 * 2 : depth % 8 * 2;
        uint32_t line = 16 * width();
        if (swizzle == 0) {
            at += rows_adjacent ? depth % 8 * 16 + depth / 8 * leading + row / 8 * stride
                                : row % 8 * 16 + depth / 8 * leading + row / 8 * stride;
        } else if (rows_adjacent) {
            uint32_t chunk = row / 8;
            at += chunk % width() * 16 + chunk / width() * leading + depth % 8 * line + depth / 8 * stride;
        } else {
            at += depth / 8 * 16 + row % 8 * line + row / 8 * stride;
        }
        uint32_t absolute = start + at;
        uint32_t phase = (absolute >> 7) - base_offset;
        return absolute ^ ((phase & (width() - 1)) << 4);
    }

    /// [rows, 16] from row `first`.
    Numbers read(int first, int rows, bool rows_adjacent) const {
        if (start % 16 != 0) fail("a matrix that is not aligned");
        Numbers numbers;
        for (int row = first; row < first + rows; row++) {
            for (int depth = 0; depth < DEPTH; depth++) {
                const unsigned char *at = shared_pointer(address(row, depth, rows_adjacent), 2);
                uint16_t number;
                std::memcpy(&number, at, 2);
                numbers.push_back(number);
            }
        }
        return numbers;
    }
};

float widen(uint32_t bits) { return __uint_as_float(bits << 16); }

struct Product {
    std::array<GroupProduct, LANES> lanes;
    int group;
    Numbers a, b;

    /// The operands as they are now: [16, 16] and [columns, 16].
    std::array<Numbers, 2> operands() const {
        const GroupProduct &first = lanes[0];
        int warp = current->index.x / LANES % GROUP_WARPS;
        Numbers b = Descriptor(first.b_descriptor).read(0, first.columns, first.b_transposed);
        if (first.a == nullptr) return {Descriptor(first.a_descriptor).read(warp * ROWS, ROWS, false), b};
        Numbers a(ROWS * DEPTH);
        for (int lane = 0; lane < LANES; lane++) {
            for (int i = 0; i < 4; i++) {
                uint16_t *pair = &a[(lane / 4 + i % 2 * 8) * DEPTH + lane % 4 * 2 + i / 2 * 8];
                pair[0] = lanes[lane].a[i];
                pair[1] = lanes[lane].a[i] >> 16;
            }
        }
        return {a, b};
    }
};

/// Sums that products in flight change: what they are, while the registers hold NaN.
struct Sums {
    std::array<float *, LANES> registers;
    std::array<std::vector<float>, LANES> values;
    int in_flight;

    Sums(const std::array<GroupProduct, LANES> &lanes) : in_flight(0) {
        for (int lane = 0; lane < LANES; lane++) {
            float *own = lanes[lane].sums;
            registers[lane] = own;
            values[lane].assign(own, own + lanes[lane].columns / 2);
            std::fill_n(own, values[lane].size(), __uint_as_float(POISON));
        }
    }

    void add(const Product &product) {
        for (int lane = 0; lane < LANES; lane++) {
            for (size_t i = 0; i < values[lane].size(); i++) {
                int row = lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
                float sum = product.lanes[0].accumulate ? values[lane][i] : 0.0f;
                const uint16_t *a = &product.a[row * DEPTH], *b = &product.b[column * DEPTH];
                for (int k = 0; k < DEPTH; k++) sum += widen(a[k]) * widen(b[k]);
                values[lane][i] = sum;
            }
        }
    }

    void arrive() const {
        for (int lane = 0; lane < LANES; lane++) {
            for (size_t i = 0; i < values[lane].size(); i++) {
                if (__float_as_uint(registers[lane][i]) != POISON) fail("the sums of a product in flight were written");
                registers[lane][i] = values[lane][i];
            }
        }
    }
};

struct Warp {
    std::vector<Product> products;
    std::vector<Sums> sums;
    int groups = 0;
    bool fenced = false;
    /// Tells one sequence of products from another.
    uint64_t history = 0;
};

thread_local std::vector<Warp> warps;

Warp &own_warp() { return warps[current->index.x / LANES]; }

void start(void *const operands[LANES]) {
    Warp &warp = own_warp();
    Product product;
    for (int lane = 0; lane < LANES; lane++) product.lanes[lane] = *static_cast<GroupProduct *>(operands[lane]);
    const GroupProduct &first = product.lanes[0];
    for (const GroupProduct &lane : product.lanes) {
        bool same = lane.a_descriptor == first.a_descriptor && lane.b_descriptor == first.b_descriptor &&
                    lane.accumulate == first.accumulate;
        if (!same) fail("lanes of a warp give different operands");
    }
    if (!warp.fenced) fail("a product without a fence since the last wait");
    auto now = product.operands();
    product.a = now[0];
    product.b = now[1];
    product.group = warp.groups;
    for (uint64_t word : {first.a_descriptor, first.b_descriptor, uint64_t(first.columns)}) {
        warp.history = (warp.history ^ word) * 0x100000001b3;
    }
    auto own = std::find_if(warp.sums.begin(), warp.sums.end(), [&](const Sums &sums) {
        return sums.registers[0] == first.sums;
    });
    if (own == warp.sums.end()) own = warp.sums.insert(own, Sums(product.lanes));
    own->in_flight++;
    warp.products.push_back(std::move(product));
}

void finish(Warp &warp, const Product &product) {
    // Read as late as the hardware may, and found as they were as early as it may.
    auto now = product.operands();
    if (now[0] != product.a || now[1] != product.b) fail("the operands of a product in flight changed");
    auto own = std::find_if(warp.sums.begin(), warp.sums.end(), [&](const Sums &sums) {
        return sums.registers[0] == product.lanes[0].sums;
    });
    own->add(product);
    if (--own->in_flight > 0) return;
    own->arrive();
    warp.sums.erase(own);
}

void wait(void *const operands[LANES]) {
    Warp &warp = own_warp();
    int pending = *static_cast<int *>(operands[0]);
    size_t done = 0;
    while (done < warp.products.size() && warp.products[done].group < warp.groups - pending) {
        finish(warp, warp.products[done++]);
    }
    warp.products.erase(warp.products.begin(), warp.products.begin() + done);
    warp.fenced = false;
}

} // namespace

void multiply_group(GroupProduct product) { collective(start, &product); }

void fence_products() {
    collective([](void *const *) { own_warp().fenced = true; }, nullptr);
}

void commit_products() {
    collective([](void *const *) { own_warp().groups++; }, nullptr);
}

void wait_products(int pending) { collective(wait, &pending); }

void begin_products(size_t count) { warps.assign(count, Warp()); }

void end_products() {
    for (size_t i = 0; i < warps.size(); i++) {
        if (!warps[i].products.empty()) fail("a warp ended while its products were in flight");
        if (warps[i].history != warps[i / GROUP_WARPS * GROUP_WARPS].history) fail("warps of a group made different products");
    }
}

} // namespace emulation
