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

/// An operand, [16, rows]: its depth, then its rows (of A; the columns of B).
using Numbers = std::vector<uint16_t>;

/// An operand in shared memory, after the section on matrix descriptors in the PTX reference.
struct Descriptor {
    uint32_t start, leading, stride, base_offset, swizzle;

    explicit Descriptor(uint64_t bits)
        : start((bits & 0x3fff) << 4), leading((bits >> 16 & 0x3fff) << 4), stride((bits >> 32 & 0x3fff) << 4),
          base_offset(bits >> 49 & 7), swizzle(bits >> 62) {}

    /// Chunks of 16 bytes in a line of the pattern.
    uint32_t width() const { return swizzle == 0 ? 1 : 16 >> swizzle; }

    /// The address of the chunk with the number at `row` and `depth`: eight numbers of one row, or of one depth where rows are
    /// adjacent. Eight lines of the pattern are eight rows, or eight depths.
    uint32_t chunk(uint32_t row, uint32_t depth, bool rows_adjacent) const {
        uint32_t along = (rows_adjacent ? row : depth) / 8, across = rows_adjacent ? depth : row;
        uint32_t at = across % 8 * 16 * width();
        if (swizzle != 0) {
            at += along % width() * 16 + along / width() * leading + across / 8 * stride;
        } else {
            // Without a pattern the strides are those of the depth and of rows.
            at += depth / 8 * leading + row / 8 * stride;
        }
        uint32_t address = start + at, phase = (address >> 7) - base_offset;
        return address ^ (phase & (width() - 1)) << 4;
    }

    /// `rows` rows from row `first`.
    Numbers read(int first, int rows, bool rows_adjacent) const {
        Numbers numbers(DEPTH * rows);
        int row_step = rows_adjacent ? 8 : 1, depth_step = rows_adjacent ? 1 : 8;
        for (int row = 0; row < rows; row += row_step) {
            for (int depth = 0; depth < DEPTH; depth += depth_step) {
                uint16_t eight[8];
                std::memcpy(eight, shared_pointer(chunk(first + row, depth, rows_adjacent), sizeof eight), sizeof eight);
                uint16_t *target = &numbers[depth * rows + row];
                for (int i = 0; i < 8; i++) target[rows_adjacent ? i : i * rows] = eight[i];
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

    /// The operands as they are now.
    std::array<Numbers, 2> operands() const {
        const GroupProduct &first = lanes[0];
        int warp = current->index.x / LANES % GROUP_WARPS;
        Numbers b = Descriptor(first.b_descriptor).read(0, first.columns, first.b_transposed);
        if (first.a == nullptr) return {Descriptor(first.a_descriptor).read(warp * ROWS, ROWS, false), b};
        Numbers a(ROWS * DEPTH);
        for (int lane = 0; lane < LANES; lane++) {
            for (int i = 0; i < 4; i++) {
                int row = lane / 4 + i % 2 * 8, depth = lane % 4 * 2 + i / 2 * 8;
                a[depth * ROWS + row] = lanes[lane].a[i];
                a[(depth + 1) * ROWS + row] = lanes[lane].a[i] >> 16;
            }
        }
        return {a, b};
    }
};

/// Sums that products in flight change, while the registers hold NaN.
struct Sums {
    std::array<float *, LANES> registers;
    int columns, in_flight = 0;
    /// [16, columns].
    std::vector<float> values;

    explicit Sums(const std::array<GroupProduct, LANES> &lanes) : columns(lanes[0].columns), values(ROWS * columns) {
        for (int lane = 0; lane < LANES; lane++) registers[lane] = lanes[lane].sums;
        each([](float &held, float &value) {
            value = held;
            held = __uint_as_float(POISON);
        });
    }

    /// `visit` of every register and its sum.
    template <typename Visit> void each(Visit visit) {
        for (int lane = 0; lane < LANES; lane++) {
            for (int i = 0; i < columns / 2; i++) {
                int row = lane / 4 + i / 2 % 2 * 8, column = i / 4 * 8 + lane % 4 * 2 + i % 2;
                visit(registers[lane][i], values[row * columns + column]);
            }
        }
    }

    void add(const Product &product) {
        if (!product.lanes[0].accumulate) std::fill(values.begin(), values.end(), 0.0f);
        std::vector<float> b(product.b.size());
        std::transform(product.b.begin(), product.b.end(), b.begin(), widen);
        for (int row = 0; row < ROWS; row++) {
            float *sums = &values[row * columns];
            for (int depth = 0; depth < DEPTH; depth++) {
                float a = widen(product.a[depth * ROWS + row]);
                const float *others = &b[depth * columns];
                for (int column = 0; column < columns; column++) sums[column] += a * others[column];
            }
        }
    }

    void arrive() {
        each([](float &held, float &value) {
            if (__float_as_uint(held) != POISON) fail("the sums of a product in flight were written");
            held = value;
        });
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
    // Warps of a group wait alike, too.
    warp.history = (warp.history ^ uint64_t(1 + pending)) * 0x100000001b3;
    size_t done = 0;
    while (done < warp.products.size() && warp.products[done].group < warp.groups - pending) {
        finish(warp, warp.products[done++]);
    }
    warp.products.erase(warp.products.begin(), warp.products.begin() + done);
    warp.fenced = false;
}

} // namespace

void multiply_group(GroupProduct product) { collective(start, &product, __builtin_return_address(0)); }

void fence_products() {
    collective([](void *const *) { own_warp().fenced = true; }, nullptr);
}

void commit_products() {
    collective([](void *const *) { own_warp().groups++; }, nullptr);
}

void wait_products(int pending) { collective(wait, &pending, __builtin_return_address(0)); }

void begin_products(size_t count) { warps.assign(count, Warp()); }

void end_products() {
    for (size_t i = 0; i < warps.size(); i++) {
        if (!warps[i].products.empty()) fail("a warp ended while its products were in flight");
        if (warps[i].history != warps[i / GROUP_WARPS * GROUP_WARPS].history) fail("warps of a group made different products");
    }
}

} // namespace emulation
