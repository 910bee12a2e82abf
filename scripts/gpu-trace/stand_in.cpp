// A GPU that computes nothing: the functions of CUDA's driver, run-time library and cuBLAS that epitome calls. Kernels do not run,
// memory is only counted, and what is copied from it is zeros. Every call is a line of the file that GPU_TRACE names: seconds, kind and
// details, parted by tabs. What is not here is made by trace.py as a function that returns 0.
//
// The signatures are those of CUDA 13's headers, as far as arguments are used.
#include <algorithm>
#include <chrono>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#define CALL extern "C" __attribute__((visibility("default")))

namespace {

constexpr int OUT_OF_MEMORY = 2;

std::recursive_mutex one_at_a_time;

struct Trace {
    FILE *file;
    std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();

    Trace() {
        const char *path = getenv("GPU_TRACE");
        file = path == nullptr ? nullptr : fopen(path, "w");
    }

    void line(const char *kind, const char *format, ...) {
        if (file == nullptr) return;
        std::lock_guard<std::recursive_mutex> guard(one_at_a_time);
        std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
        fprintf(file, "%.6f\t%s\t", passed.count(), kind);
        va_list details;
        va_start(details, format);
        vfprintf(file, format, details);
        va_end(details);
        fputc('\n', file);
    }
};

Trace &trace() {
    static Trace trace;
    return trace;
}

size_t capacity() {
    const char *gib = getenv("GPU_TRACE_GIB");
    return size_t((gib == nullptr ? 80.0 : atof(gib)) * (1 << 30));
}

/// Sizes by address; no address is given twice.
struct Memory {
    std::map<uint64_t, size_t> sizes;
    uint64_t next = uint64_t(0x7000) << 32;
    size_t used = 0, peak = 0;

    int allocate(uint64_t *address, size_t bytes) {
        std::lock_guard<std::recursive_mutex> guard(one_at_a_time);
        if (used + bytes > capacity()) return OUT_OF_MEMORY;
        *address = next;
        sizes[next] = bytes;
        next += (bytes + 511) / 512 * 512 + 512;
        used += bytes;
        if (used > peak) peak = used;
        trace().line("allocate", "%zu bytes, %zu used, %zu at most", bytes, used, peak);
        return 0;
    }

    int release(uint64_t address) {
        std::lock_guard<std::recursive_mutex> guard(one_at_a_time);
        auto found = sizes.find(address);
        if (found == sizes.end()) return 0;
        used -= found->second;
        trace().line("release", "%zu bytes", found->second);
        sizes.erase(found);
        return 0;
    }
};

Memory &memory() {
    static Memory memory;
    return memory;
}

/// Kernels that are being recorded, as many as a graph has nodes. A graph is its number of nodes.
bool recording = false;
uintptr_t recorded = 0;

int launch(const char *name, const char *details) {
    if (recording) recorded++;
    trace().line(recording ? "record" : "launch", "%s  %s", name, details);
    return 0;
}

struct Grid {
    unsigned x, y, z;
};

int launch(const char *name, Grid grid, Grid block, size_t shared_bytes) {
    char details[128];
    const char *format = "grid %u,%u,%u block %u,%u,%u shared %zu";
    snprintf(details, sizeof details, format, grid.x, grid.y, grid.z, block.x, block.y, block.z, shared_bytes);
    return launch(name, details);
}

} // namespace

// The driver.
CALL int cuDriverGetVersion(int *version) { return *version = 13000, 0; }
CALL int cuDeviceGetCount(int *count) { return *count = 1, 0; }
CALL int cuDeviceGet(int *device, int index) { return *device = index, 0; }
CALL int cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = capacity(), 0; }
CALL int cuMemGetInfo_v2(size_t *free, size_t *total) { return *total = capacity(), *free = *total - memory().used, 0; }
CALL int cuDeviceGetAttribute(int *value, int attribute, int) {
    enum { SHARED_MEMORY = 97, PROCESSORS = 16, MAJOR = 75, MINOR = 76 };
    switch (attribute) {
    case SHARED_MEMORY: *value = 232448; break;
    case PROCESSORS: *value = 132; break;
    case MAJOR: *value = 9; break;
    case MINOR: *value = 0; break;
    default: *value = 1;
    }
    return 0;
}
CALL int cuDevicePrimaryCtxRetain(void **context, int) { return *context = &recording, 0; }
CALL int cuCtxGetCurrent(void **context) { return *context = &recording, 0; }
CALL int cuCtxGetDevice(int *device) { return *device = 0, 0; }
CALL int cuStreamCreate(void **stream, unsigned) { return *stream = &recorded, 0; }
CALL int cuStreamCreateWithPriority(void **stream, unsigned, int) { return *stream = &recorded, 0; }
CALL int cuEventCreate(void **event, unsigned) { return *event = &recorded, 0; }
CALL int cuDeviceGetDefaultMemPool(void **pool, int) { return *pool = &recorded, 0; }
CALL int cuGetErrorString(int, const char **text) { return *text = "from the stand-in", 0; }
CALL int cuGetErrorName(int code, const char **text) {
    return *text = code == OUT_OF_MEMORY ? "CUDA_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR", 0;
}

CALL int cuStreamSynchronize(void *) { return trace().line("wait", "stream"), 0; }
CALL int cuCtxSynchronize() { return trace().line("wait", "context"), 0; }
CALL int cuMemAlloc_v2(uint64_t *address, size_t bytes) { return memory().allocate(address, bytes); }
CALL int cuMemAllocAsync(uint64_t *address, size_t bytes, void *) { return memory().allocate(address, bytes); }
CALL int cuMemFree_v2(uint64_t address) { return memory().release(address); }
CALL int cuMemFreeAsync(uint64_t address, void *) { return memory().release(address); }
CALL int cuMemcpyHtoD_v2(uint64_t, const void *, size_t bytes) { return trace().line("to GPU", "%zu bytes", bytes), 0; }
CALL int cuMemcpyHtoDAsync_v2(uint64_t, const void *, size_t bytes, void *) {
    return trace().line("to GPU", "%zu bytes", bytes), 0;
}
CALL int cuMemcpyDtoH_v2(void *host, uint64_t, size_t bytes) {
    memset(host, 0, bytes);
    return trace().line("from GPU", "%zu bytes", bytes), 0;
}
CALL int cuMemcpyDtoHAsync_v2(void *host, uint64_t address, size_t bytes, void *) {
    return cuMemcpyDtoH_v2(host, address, bytes);
}
CALL int cuMemcpyDtoDAsync_v2(uint64_t, uint64_t, size_t bytes, void *) { return trace().line("copy", "%zu bytes", bytes), 0; }
CALL int cuMemsetD8Async(uint64_t, unsigned char, size_t bytes, void *) { return trace().line("fill", "%zu bytes", bytes), 0; }

CALL int cuModuleLoadData(void **module, const void *) { return *module = &recorded, 0; }
CALL int cuModuleGetFunction(void **function, void *, const char *name) { return *function = strdup(name), 0; }
CALL int cuLaunchKernel(
    void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shared_bytes, void *,
    void **, void **
) {
    return launch(static_cast<const char *>(function), {gx, gy, gz}, {bx, by, bz}, shared_bytes);
}

CALL int cuStreamBeginCapture_v2(void *, int) { return recording = true, recorded = 0, 0; }
CALL int cuStreamEndCapture(void *, void **graph) {
    recording = false;
    return *graph = reinterpret_cast<void *>(recorded), 0;
}
CALL int cuStreamIsCapturing(void *, int *status) { return *status = recording, 0; }
CALL int cuGraphInstantiateWithFlags(void **executable, void *graph, unsigned long long) { return *executable = graph, 0; }
CALL int cuGraphGetNodes(void *graph, void **nodes, size_t *count) {
    *count = reinterpret_cast<uintptr_t>(graph);
    if (nodes != nullptr) std::fill(nodes, nodes + *count, graph);
    return 0;
}
CALL int cuGraphNodeGetType(void *, int *kind) { return *kind = 0, 0; }
CALL int cuGraphLaunch(void *graph, void *) {
    return trace().line("graph", "%zu nodes", size_t(reinterpret_cast<uintptr_t>(graph))), 0;
}

// The run-time library, through which kernels of our own are started.
namespace {

std::map<const void *, std::string> &kernels() {
    static std::map<const void *, std::string> kernels;
    return kernels;
}

thread_local struct {
    Grid grid, block;
    size_t shared_bytes;
    void *stream;
} configuration;

} // namespace

CALL void **__cudaRegisterFatBinary(void *) {
    static void *handle;
    return &handle;
}
CALL void __cudaRegisterFunction(
    void **, const char *host, char *, const char *name, int, void *, void *, void *, void *, int *
) {
    kernels()[host] = name;
}
CALL unsigned __cudaPushCallConfiguration(Grid grid, Grid block, size_t shared_bytes, void *stream) {
    configuration = {grid, block, shared_bytes, stream};
    return 0;
}
CALL int __cudaPopCallConfiguration(Grid *grid, Grid *block, size_t *shared_bytes, void **stream) {
    *grid = configuration.grid;
    *block = configuration.block;
    *shared_bytes = configuration.shared_bytes;
    *stream = configuration.stream;
    return 0;
}
CALL int __cudaGetKernel(const void **kernel, const void *host) { return *kernel = host, 0; }
CALL int cudaLaunchKernel(const void *host, Grid grid, Grid block, void **, size_t shared_bytes, void *) {
    return launch(kernels()[host].c_str(), grid, block, shared_bytes);
}
CALL int __cudaLaunchKernel(const void *host, Grid grid, Grid block, void **, size_t shared_bytes, void *) {
    return launch(kernels()[host].c_str(), grid, block, shared_bytes);
}
CALL int cudaGetDevice(int *device) { return *device = 0, 0; }
CALL int cudaDeviceGetAttribute(int *value, int attribute, int device) { return cuDeviceGetAttribute(value, attribute, device); }
CALL int cudaLaunchKernelExC(const void *configuration, const void *host, void **) {
    struct Configuration {
        Grid grid, block;
        size_t shared_bytes;
    };
    auto own = static_cast<const Configuration *>(configuration);
    return launch(kernels()[host].c_str(), own->grid, own->block, own->shared_bytes);
}
CALL const char *cudaGetErrorString(int) { return "from the stand-in"; }

// Products. cuBLASLt's matrices are stored by columns: what is m here is n there.
namespace {

struct Layout {
    uint64_t rows, columns;
};

struct Description {
    int is_transposed;
};

} // namespace

CALL int cublasLtCreate(void **handle) { return *handle = &recorded, 0; }
CALL int cublasLtMatmulDescCreate(void **description, int, int) { return *description = new Description{0}, 0; }
CALL int cublasLtMatmulDescDestroy(void *description) { return delete static_cast<Description *>(description), 0; }
CALL int cublasLtMatmulDescSetAttribute(void *description, int attribute, const void *value, size_t) {
    constexpr int TRANSA = 3;
    if (attribute == TRANSA) memcpy(&static_cast<Description *>(description)->is_transposed, value, sizeof(int));
    return 0;
}
CALL int cublasLtMatrixLayoutCreate(void **layout, int, uint64_t rows, uint64_t columns, int64_t) {
    return *layout = new Layout{rows, columns}, 0;
}
CALL int cublasLtMatrixLayoutDestroy(void *layout) { return delete static_cast<Layout *>(layout), 0; }
CALL int cublasLtMatmulPreferenceCreate(void **preference) { return *preference = &recorded, 0; }
CALL int cublasLtMatmulAlgoGetHeuristic(
    void *, void *, void *, void *, void *, void *, void *, int, void *results, int *count
) {
    constexpr size_t RESULT_BYTES = 96;
    memset(results, 0, RESULT_BYTES);
    return *count = 1, 0;
}
CALL int cublasLtMatmul(
    void *, void *description, const void *, const void *, void *a, const void *, void *, const void *beta, const void *, void *c
) {
    auto first = static_cast<Layout *>(a), result = static_cast<Layout *>(c);
    bool is_transposed = static_cast<Description *>(description)->is_transposed != 0;
    char details[128];
    unsigned long long m = result->columns, n = result->rows, k = is_transposed ? first->rows : first->columns;
    bool adds = *static_cast<const float *>(beta) != 0.0f;
    snprintf(details, sizeof details, "%llu x %llu x %llu%s", m, n, k, adds ? ", added" : "");
    return launch("cublasLtMatmul", details);
}
CALL int cublasCreate_v2(void **handle) { return *handle = &recorded, 0; }
CALL int cublasGemmStridedBatchedEx(void *, int, int, int m, int n, int k) {
    char details[128];
    snprintf(details, sizeof details, "%d x %d x %d", n, m, k);
    return launch("cublasGemm", details);
}
CALL int curandCreateGenerator(void **generator, int) { return *generator = &recorded, 0; }
