// Times the CUDA kernels at the sizes of LED-base and LED-large and compares attention on the matrix units with attention without.
//
//     nvcc -O3 -std=c++17 -gencode arch=compute_90a,code=sm_90a -I crates/kernels/cuda \
//         crates/kernels/benches/cuda/main.cu crates/kernels/cuda/*/*.cu -o cuda-bench && ./cuda-bench
//
// On processors of another capability it leaves out the kernels of warp groups: then for `sm_80`, say, without their files
// (`_warp_group.cu`) and with -D NO_WARP_GROUPS.
//
// Prints the median of several runs, and its share of the peaks given as PEAK_TFLOPS and PEAK_GBS (790 and 3350 unless set).

#include "few_rows.cuh"

namespace {

/// Whether a comparison failed.
bool wrong = false;

/// Kernels on matrix units.
struct Units {
    const char *name;
    AttentionForward *forward;
    AttentionBackwardQueries *queries;
    AttentionBackwardKeys *keys;
};

const Units ALL_UNITS[] = {
    {"", epitome_attention_forward_bf16, epitome_attention_backward_queries_bf16, epitome_attention_backward_keys_bf16},
#ifndef NO_WARP_GROUPS
    {", warp groups", epitome_attention_forward_warp_group_bf16, epitome_attention_backward_queries_warp_group_bf16,
     epitome_attention_backward_keys_warp_group_bf16},
#endif
};

/// Attention within documents of one length.
struct Case {
    Problem problem{};
    bf16 *output, *exact_output, *gradient, *dq, *dk, *dv, *exact_dq, *exact_dk, *exact_dv;
    float *log_sum_exp, *delta, *partial_dk, *partial_dv;
    int length, documents;
    size_t count;

    Case(int documents, int length, int heads, int size, Visibility visibility, std::vector<int> globals, float dropout)
        : length(length), documents(documents) {
        std::vector<int> offsets, global_offsets, positions, partial_offsets;
        std::vector<Block> blocks, global_blocks;
        constexpr int CHUNK = 1024;
        int chunks = ceil_div(length, CHUNK), globals_each = globals.size();
        for (int b = 0; b <= documents; b++) {
            offsets.push_back(b * length);
            global_offsets.push_back(b * globals_each);
            partial_offsets.push_back(b * chunks * globals_each);
            if (b == documents) break;
            positions.insert(positions.end(), globals.begin(), globals.end());
            for (int first = 0; first < length; first += BLOCK) blocks.push_back({b, first, 0});
            for (int first = 0; first < globals_each; first += BLOCK) {
                for (int chunk = 0; chunk < chunks; chunk++) global_blocks.push_back({b, first, chunk});
            }
        }
        int total = documents * length;
        Plan &plan = problem.plan;
        plan.query_offsets = plan.key_offsets = upload(offsets);
        plan.global_offsets = upload(global_offsets);
        plan.global_positions = upload(positions);
        plan.partial_offsets = upload(partial_offsets);
        plan.key_blocks = upload(blocks);
        auto query_blocks = blocks;
        if (visibility.kind == CAUSAL) std::reverse(query_blocks.begin(), query_blocks.end());
        plan.query_blocks = upload(query_blocks);
        plan.global_blocks = upload(global_blocks);
        plan.query_block_count = plan.key_block_count = blocks.size();
        plan.global_block_count = global_blocks.size();
        plan.documents = documents;
        plan.queries = total;
        plan.globals = positions.size();
        plan.chunk = CHUNK;
        count = size_t(total) * heads * size;
        problem.q = numbers(count);
        problem.k = numbers(count);
        problem.v = numbers(count);
        problem.q_stride = problem.k_stride = problem.v_stride = heads * size;
        problem.heads = heads;
        problem.head_size = size;
        problem.visibility = visibility;
        problem.scale = 1.0f / sqrtf(size);
        problem.draws = {0x1234567, uint32_t(dropout * 4294967296.0), 1.0f / (1.0f - dropout)};
        for (bf16 **target : {&output, &exact_output, &dq, &dk, &dv, &exact_dq, &exact_dk, &exact_dv}) {
            *target = room<bf16>(count);
        }
        gradient = numbers(count);
        log_sum_exp = room<float>(size_t(heads) * total);
        delta = room<float>(size_t(heads) * total);
        size_t partial = size_t(partial_offsets.back()) * heads * size;
        partial_dk = room<float>(partial);
        partial_dv = room<float>(partial);
    }

    int forward(const Units &units) { return units.forward(&problem, output, log_sum_exp, nullptr); }
    int queries(const Units &units) { return units.queries(&problem, output, gradient, log_sum_exp, delta, dq, nullptr); }
    int keys(const Units &units) {
        return units.keys(&problem, gradient, log_sum_exp, delta, dk, dv, partial_dk, partial_dv, nullptr);
    }
    int reduce() {
        return epitome_attention_reduce_global_bf16(&problem, partial_dk, partial_dv, dk, dv, nullptr);
    }
    int exact() {
        int error = epitome_attention_forward_any_bf16(&problem, exact_output, log_sum_exp, nullptr);
        if (error != 0) return error;
        return epitome_attention_backward_any_bf16(
            &problem, gradient, log_sum_exp, delta, exact_dq, exact_dk, exact_dv, nullptr
        );
    }

    /// Pairs of query and key that see each other.
    double pairs() const {
        double all = 0;
        for (int i = 0; i < length; i++) {
            int reach = problem.visibility.reach;
            int first = problem.visibility.kind == BAND ? std::max(i - reach, 0) : 0;
            int end = problem.visibility.kind == FULL ? length : std::min(i + reach + 1, length);
            all += end - first;
        }
        return all * documents * problem.heads;
    }

    void time(const std::string &what) {
        for (const Units &units : ALL_UNITS) time(what + units.name, units);
    }

    void time(const std::string &what, const Units &units) {
        double unit = 2.0 * pairs() * problem.head_size;
        double forward_time = milliseconds([&] { return forward(units); });
        print(what + " forward", forward_time, 2 * unit, 8.0 * count);
        double query_time = milliseconds([&] { return queries(units); }), key_time = milliseconds([&] { return keys(units); });
        double reduce_time = milliseconds([&] { return reduce(); });
        print("  dq, three products, and delta", query_time, 3 * unit, 12.0 * count);
        print("  dk and dv, four products", key_time, 4 * unit, 12.0 * count);
        double all = query_time + key_time + reduce_time;
        print("  backward, counted as five", all, 5 * unit, 16.0 * count);
    }

    /// Root mean square of the difference, as a share of the exact one.
    void compare(const char *what, const bf16 *found, const bf16 *exact) {
        auto a = download(found, count), b = download(exact, count);
        double errors = 0, squares = 0;
        for (size_t i = 0; i < count; i++) {
            double difference = widen(a[i]) - widen(b[i]);
            errors += difference * difference;
            squares += double(widen(b[i])) * widen(b[i]);
        }
        double ratio = std::sqrt(errors / squares);
        wrong |= !(ratio < 0.015);
        std::printf("  %-8s differs by %.5f of itself%s\n", what, ratio, ratio < 0.015 ? "" : "   <-- WRONG");
    }

    void check(const std::string &what) {
        for (const Units &units : ALL_UNITS) check(what + units.name, units);
    }

    void check(const std::string &what, const Units &units) {
        std::printf("%s\n", what.c_str());
        // NaN, so that what is not written shows.
        for (bf16 *target : {output, dq, dk, dv}) require(cudaMemset(target, 0xff, 2 * count), "cudaMemset");
        require(forward(units), "forward");
        require(queries(units), "dq");
        require(keys(units), "dk, dv");
        require(reduce(), "reduce");
        require(exact(), "exact");
        require(cudaDeviceSynchronize(), "kernels");
        compare("output", output, exact_output);
        compare("dq", dq, exact_dq);
        compare("dk", dk, exact_dk);
        compare("dv", dv, exact_dv);
    }
};

void check_attention() {
    for (int size : {64, 128}) {
        std::string head = " of heads of " + std::to_string(size);
        Case(2, 777, 3, size, {BAND, 100}, {0, 5, 300}, 0.0f).check("band" + head);
        Case(2, 777, 3, size, {BAND, 100}, {0, 5, 300}, 0.1f).check("band with dropout" + head);
        Case(1, 1500, 3, size, {CAUSAL, 0}, {}, 0.0f).check("causal" + head);
        Case(3, 300, 3, size, {FULL, 0}, {}, 0.1f).check("full with dropout" + head);
    }
}

void time_attention() {
    Case(1, 16384, 12, 64, {BAND, 512}, {0}, 0.0f).time("LED-base band 16,384");
    Case(8, 16384, 12, 64, {BAND, 512}, {0}, 0.0f).time("LED-base band 8 x 16,384");
    Case wide(1, 16384, 12, 64, {BAND, 512}, {0}, 0.0f);
    // Scores of a deviation of 2: those of numbers between -1 and 1 have one of 0.33, trained models' more.
    wide.problem.scale *= 6.0f;
    wide.time("LED-base band 16,384 of wide scores");
    Case(1, 16384, 12, 64, {BAND, 512}, {0}, 0.1f).time("LED-base band 16,384 with dropout");
    Case(1, 16384, 8, 128, {BAND, 512}, {0}, 0.0f).time("8 heads of 128, band 16,384");
    Case(8, 1024, 12, 64, {CAUSAL, 0}, {}, 0.0f).time("LED-base causal 8 x 1,024");
    Case(1, 8192, 12, 64, {FULL, 0}, {}, 0.0f).time("12 heads of 64, full 8,192");
}

void time_rows() {
    int64_t rows = 16384;
    int width = 768, inner = 3072;
    size_t count = rows * width, wide = rows * inner;
    Draws none{0, 0, 1.0f}, draws{7, 429496729, 1.0f / 0.9f};
    bf16 *x = numbers(wide), *dy = numbers(wide), *y = room<bf16>(wide), *residual = numbers(count), *dx = room<bf16>(count);
    float *weight = room<float>(inner), *bias = room<float>(inner), *sums = room<float>(3 * inner);
    float *partials = room<float>(3 * 256 * inner);
    print("layer norm forward", milliseconds([&] {
        return epitome_layer_norm_bf16(x, residual, weight, bias, none, 0, rows, width, 1e-5f, y, nullptr);
    }), 0, 6.0 * count);
    print("layer norm backward with dropout", milliseconds([&] {
        return epitome_layer_norm_backward_bf16(
            x, residual, weight, draws, 0, rows, width, 1e-5f, dy, y, dx, sums, sums + inner, sums + 2 * inner, partials, 64,
            nullptr
        );
    }), 0, 10.0 * count);
    for (int64_t some : {rows, int64_t(512)}) {
        std::string name = "layer norm backward, rows: " + std::to_string(some);
        print(name.c_str(), milliseconds([&] {
            int chunk = some == rows ? 64 : 8;
            return epitome_layer_norm_backward_bf16(
                x, residual, weight, none, 0, some, width, 1e-5f, dy, y, nullptr, sums, sums + inner, sums + 2 * inner, partials,
                chunk, nullptr
            );
        }), 0, 8.0 * some * width);
    }
    print("sums of the columns of three", milliseconds([&] {
        ColumnSum list[] = {{x, sums}, {dy, sums + inner}, {residual, sums + 2 * inner}};
        return epitome_column_sums_bf16(list, 3, partials, rows, width, 64, nullptr);
    }), 0, 6.0 * count);
    print("bias and GELU forward", milliseconds([&] {
        return epitome_bias_gelu_bf16(x, bias, y, rows, inner, 64, nullptr);
    }), 0, 4.0 * wide);
    print("bias and GELU backward", milliseconds([&] {
        return epitome_bias_gelu_backward_bf16(x, bias, dy, y, nullptr, sums, partials, rows, inner, 64, nullptr);
    }), 0, 6.0 * wide);
    bf16 *again = room<bf16>(wide);
    print("bias and GELU backward, and forward again", milliseconds([&] {
        return epitome_bias_gelu_backward_bf16(x, bias, dy, y, again, sums, partials, rows, inner, 64, nullptr);
    }), 0, 8.0 * wide);
    print("dropout", milliseconds([&] { return epitome_dropout_bf16(x, y, draws, 0, wide, nullptr); }), 0, 4.0 * wide);
}

void time_training() {
    int vocabulary = 50265, stride = 50272;
    int64_t rows = 512;
    bf16 *gradient_of_logits = numbers(rows * stride);
    float *logits = room<float>(rows * stride);
    int *labels = upload(std::vector<int>(rows, 17));
    int *offsets = upload(std::vector<int>(rows + 1, 0));
    float *losses = room<float>(2 * rows);
    print("cross-entropy with gradient, 512 rows", milliseconds([&] {
        return epitome_cross_entropy_f32_bf16(
            logits, gradient_of_logits, nullptr, labels, offsets, nullptr, nullptr, rows, stride, vocabulary, 0.1f, 1.0f, losses,
            losses + rows, nullptr
        );
    }), 0, 10.0 * rows * vocabulary);
    size_t count = 162000000;
    float *state = room<float>(4 * count);
    float *gradient = state + 3 * count;
    Trained tensor{
        state, state + count, state + 2 * count, gradient, room<bf16>(count), int64_t(count), {1.0f, 0.1f, 1.0f, 1e-8f}
    };
    std::vector<Chunk> chunks;
    for (int i = 0; i < int((count + CHUNK_VALUES - 1) / CHUNK_VALUES); i++) chunks.push_back({0, i});
    Trained *tensors = upload(std::vector<Trained>{tensor});
    Values *gradients = upload(std::vector<Values>{{gradient, int64_t(count)}});
    Chunk *list = upload(chunks);
    double *squares = room<double>(chunks.size() + 1);
    Betas betas{0.1f, 0.999f, 0.001f};
    print("AdamW, 162 million", milliseconds([&] {
        return epitome_adamw_step(tensors, list, chunks.size(), &betas, 1.0f, nullptr);
    }), 0, 30.0 * count);
    print("sum of squares, 162 million", milliseconds([&] {
        return epitome_sum_of_squares(gradients, list, chunks.size(), squares + 1, squares, nullptr);
    }), 0, 4.0 * count);
}

void time_decoding() {
    // Steps as src/cuda/few_rows.rs chooses them.
    time_few_rows(768, 2304, 4, true, false);
    time_few_rows(768, 768, 4, false, false);
    time_few_rows(768, 3072, 4, true, true);
    time_few_rows(3072, 768, 6, false, false);
    time_few_rows(1024, 4096, 4, true, true);
    time_few_rows(4096, 1024, 8, false, false);
    for (int length : {32, 136, 256, 1000}) time_past(12, length);
    int keys = 16384, heads = 12, size = 64, beams = 4;
    for (int documents : {1, 8}) {
        // As src/cuda/plan.rs splits them.
        int split = documents == 1 ? 768 : 8192, splits = (keys + split - 1) / split;
        Case memory(documents, keys, heads, size, {FULL, 0}, {}, 0.0f);
        std::vector<int> queries, partial;
        std::vector<Block> blocks;
        for (int b = 0; b <= documents; b++) {
            queries.push_back(b * beams);
            partial.push_back(b * beams * splits);
            for (int chunk = 0; b < documents && chunk < splits; chunk++) blocks.push_back({b, 0, chunk});
        }
        Plan &plan = memory.problem.plan;
        plan.query_offsets = upload(queries);
        plan.partial_offsets = upload(partial);
        plan.query_blocks = upload(blocks);
        plan.query_block_count = blocks.size();
        plan.queries = documents * beams;
        plan.chunk = split;
        float *context = room<float>(size_t(partial.back()) * heads * size), *sums = room<float>(partial.back() * heads);
        int *arrivals = room<int>(blocks.size() * heads);
        print("memory attention, documents of 16,384: " + std::to_string(documents), milliseconds([&] {
            return epitome_memory_attention_bf16(&memory.problem, context, sums, arrivals, memory.output, nullptr);
        }), 0, 4.0 * memory.count);
    }
    for (int width : {768, 1024}) time_head(width);
}

} // namespace

int main() {
    cudaDeviceProp device;
    require(cudaGetDeviceProperties(&device, 0), "a GPU");
    std::printf("%s\n", device.name);
    check_attention();
    time_attention();
    time_rows();
    time_training();
    time_decoding();
    return wrong;
}
