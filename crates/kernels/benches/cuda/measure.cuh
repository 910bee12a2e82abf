// Memory, numbers and times for the benchmarks of kernels.
#pragma once

#include "launchers.cuh"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

namespace {

void require(int error, const char *what) {
    if (error == 0) return;
    std::fprintf(stderr, "%s: CUDA error %d, %s\n", what, error, cudaGetErrorString(cudaError_t(error)));
    std::exit(1);
}

double setting(const char *name, double otherwise) {
    const char *text = std::getenv(name);
    return text == nullptr ? otherwise : std::atof(text);
}

/// Device memory that is seldom given back: the process is short.
template <typename T> T *room(size_t count) {
    void *address;
    require(cudaMalloc(&address, count * sizeof(T)), "cudaMalloc");
    require(cudaMemset(address, 0, count * sizeof(T)), "cudaMemset");
    return static_cast<T *>(address);
}

template <typename T> T *upload(const std::vector<T> &values) {
    T *target = room<T>(values.size());
    require(cudaMemcpy(target, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
    return target;
}

template <typename T> std::vector<T> download(const T *source, size_t count) {
    std::vector<T> values(count);
    require(cudaMemcpy(values.data(), source, count * sizeof(T), cudaMemcpyDeviceToHost), "cudaMemcpy");
    return values;
}

uint32_t state = 1;

/// Uniform in -1..1.
float number() {
    state = state * 1664525u + 1013904223u;
    return float(state >> 8) / 8388608.0f - 1.0f;
}

bf16 *numbers(size_t count) {
    std::vector<bf16> values(count);
    for (auto &value : values) {
        float x = number();
        uint32_t bits;
        std::memcpy(&bits, &x, 4);
        value.bits = bits >> 16;
    }
    return upload(values);
}

float widen(bf16 value) {
    uint32_t bits = uint32_t(value.bits) << 16;
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}

/// Median milliseconds of a launch.
double milliseconds(const std::function<int()> &run) {
    cudaEvent_t begin, end;
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    std::vector<float> times;
    for (int i = 0; i < 13; i++) {
        cudaEventRecord(begin);
        require(run(), "launch");
        cudaEventRecord(end);
        require(cudaEventSynchronize(end), "kernel");
        float time;
        cudaEventElapsedTime(&time, begin, end);
        // The first runs warm up.
        if (i >= 3) times.push_back(time);
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
}

/// Milliseconds of one of many launches that follow each other as in a decoding step: as one graph.
double chained_milliseconds(const std::function<int(cudaStream_t)> &run) {
    constexpr int COUNT = 48;
    cudaStream_t stream;
    cudaGraph_t graph;
    cudaGraphExec_t launches;
    require(cudaStreamCreate(&stream), "cudaStreamCreate");
    require(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "a recording");
    for (int i = 0; i < COUNT; i++) require(run(stream), "launch");
    require(cudaStreamEndCapture(stream, &graph), "a recording");
    require(cudaGraphInstantiate(&launches, graph, 0), "a graph");
    require(cudaDeviceSynchronize(), "kernels");
    // Events are of the null stream, which waits for this one and is waited for.
    return milliseconds([&] { return cudaGraphLaunch(launches, stream); }) / COUNT;
}

void print(const std::string &what, double time, double operations, double bytes) {
    double tflops = operations / time / 1e9, gbs = bytes / time / 1e6;
    std::printf(
        "%-50s %8.3f ms  %6.1f TFLOP/s (%4.1f %%)  %6.0f GB/s (%4.1f %%)\n", what.c_str(), time, tflops,
        100 * tflops / setting("PEAK_TFLOPS", 790), gbs, 100 * gbs / setting("PEAK_GBS", 3350)
    );
}

} // namespace
