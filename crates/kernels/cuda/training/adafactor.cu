// One step of Adafactor on a matrix or vector; formulas as in src/cpu/adafactor.rs, everything but sums over rows in f32. A vector
// is one row without a moment.
//
// Bytes a number: the gradient 16 (rows, columns, size of the update, update), the parameter 12, a mean of updates 8. LED-base,
// 162 million, without a mean: 4.5 GB, 1.4 ms at 3.35 TB/s, beside up to seven launches a parameter.
//
// Schedule: a warp owns a row. For sums over rows a thread owns a column of a chunk of rows, or a block writes its sum; these are
// added in order. Nothing comes back to the host.

#include "../rows/partials.cuh"

namespace {

constexpr int THREADS = 256;
/// Rows of a block. `BLOCK_ROWS` in src/cuda/adafactor.rs is the same.
constexpr int WARPS = THREADS / WARP;
/// Rows of a chunk of a column's sum. `CHUNK_ROWS` there is the same.
constexpr int CHUNK_ROWS = 64;

/// Mirrors `Factored` in src/cuda/ffi.rs: a parameter [rows, width] with what is kept of it.
struct Factored {
    float *parameter;
    /// Of updates, or null.
    float *mean;
    /// [rows], or null.
    float *row_moments;
    float *column_moments;
    const float *gradient;
    int64_t rows, width;
};

/// Mirrors `Adafactor` in src/cuda/ffi.rs.
struct Adafactor {
    float learning_rate;
    /// Below 0 the parameter's size does not count.
    float least_scale;
    float beta1, rest1;
    float decay, rest;
    float epsilon, clip_threshold, weight_decay;
    float gradient_scale;
};

/// Mirrors `AdafactorRoom` in src/cuda/ffi.rs: what kernels leave to those after them.
struct Room {
    /// Sums of squares of the columns of chunks, [chunks, width].
    float *partials;
    /// 1 / root of the moment of every column.
    float *column_factors;
    /// Of every block the sums of squares of its updates, then of its part of the parameter.
    double *squares;
    /// The mean of the moments of rows, 1 - rate * weight decay, rate / clipping.
    float *sizes;
};

__device__ __forceinline__ float square(float x) { return x * x; }

/// The new moment, given the mean of the squares of scaled gradients.
__device__ __forceinline__ float blend(float moment, float mean, const Adafactor &adafactor) {
    return adafactor.decay * moment + adafactor.rest * (mean + adafactor.epsilon);
}

/// The row of this warp.
__device__ __forceinline__ int64_t own_row() { return int64_t(blockIdx.x) * WARPS + warp_index(); }

__global__ void __launch_bounds__(THREADS) row_moments(Factored tensor, Adafactor adafactor) {
    int64_t row = own_row();
    if (row >= tensor.rows) return;
    const float *gradient = tensor.gradient + row * tensor.width;
    float sum = 0.0f;
    for (int column = lane_index(); column < tensor.width; column += WARP) {
        sum += square(adafactor.gradient_scale * gradient[column]);
    }
    sum = lanes_sum(sum);
    if (lane_index() == 0) tensor.row_moments[row] = blend(tensor.row_moments[row], sum / tensor.width, adafactor);
}

/// In `sizes[0]`.
__global__ void __launch_bounds__(THREADS) mean_of_row_moments(Factored tensor, Room room) {
    __shared__ double scratch[THREADS / WARP];
    double sum = 0.0;
    for (int64_t row = threadIdx.x; row < tensor.rows; row += THREADS) sum += tensor.row_moments[row];
    sum = block_reduce(sum, scratch, Plus());
    if (threadIdx.x == 0) room.sizes[0] = float(sum / tensor.rows);
}

__global__ void __launch_bounds__(THREADS) column_squares(Factored tensor, Adafactor adafactor, Room room) {
    int64_t column = int64_t(blockIdx.x) * THREADS + threadIdx.x;
    if (column >= tensor.width) return;
    int64_t first = int64_t(blockIdx.y) * CHUNK_ROWS, end = min(first + CHUNK_ROWS, tensor.rows);
    float sum = 0.0f;
    for (int64_t row = first; row < end; row++) {
        sum += square(adafactor.gradient_scale * tensor.gradient[row * tensor.width + column]);
    }
    room.partials[blockIdx.y * tensor.width + column] = sum;
}

__global__ void __launch_bounds__(PARTIALS_THREADS)
    column_moments(Factored tensor, Adafactor adafactor, Room room, int chunks) {
    Column own = sum_of_chunks(room.partials, chunks, tensor.width);
    if (!own.is_mine) return;
    float moment = blend(tensor.column_moments[own.index], own.sum / tensor.rows, adafactor);
    tensor.column_moments[own.index] = moment;
    room.column_factors[own.index] = 1.0f / sqrtf(moment);
}

/// What an update is its gradient's product with, beside its column's factor.
__device__ __forceinline__ float
row_factor(const Factored &tensor, const Adafactor &adafactor, const Room &room, int64_t row) {
    float mean_to_own = tensor.row_moments == nullptr ? 1.0f : room.sizes[0] / tensor.row_moments[row];
    return adafactor.gradient_scale * sqrtf(mean_to_own);
}

__global__ void __launch_bounds__(THREADS) squares_of_block(Factored tensor, Adafactor adafactor, Room room) {
    __shared__ double scratch[THREADS / WARP];
    float updates = 0.0f, parameters = 0.0f, factor = 0.0f;
    int64_t row = own_row();
    if (row < tensor.rows) {
        factor = row_factor(tensor, adafactor, room, row);
        for (int64_t column = lane_index(), at = row * tensor.width + column; column < tensor.width;
             column += WARP, at += WARP) {
            updates += square(room.column_factors[column] * tensor.gradient[at]);
            if (adafactor.least_scale >= 0.0f) parameters += square(tensor.parameter[at]);
        }
    }
    double all_updates = block_reduce(double(factor) * factor * updates, scratch, Plus());
    double all_parameters = block_reduce(double(parameters), scratch, Plus());
    if (threadIdx.x == 0) {
        room.squares[2 * blockIdx.x] = all_updates;
        room.squares[2 * blockIdx.x + 1] = all_parameters;
    }
}

/// In `sizes[1]` and `sizes[2]`.
__global__ void __launch_bounds__(THREADS) rate_and_clipping(Factored tensor, Adafactor adafactor, Room room, int blocks) {
    __shared__ double scratch[THREADS / WARP];
    double updates = 0.0, parameters = 0.0;
    for (int block = threadIdx.x; block < blocks; block += THREADS) {
        updates += room.squares[2 * block];
        parameters += room.squares[2 * block + 1];
    }
    updates = block_reduce(updates, scratch, Plus());
    parameters = block_reduce(parameters, scratch, Plus());
    if (threadIdx.x != 0) return;
    double count = double(tensor.rows) * tensor.width;
    float rate = adafactor.learning_rate;
    if (adafactor.least_scale >= 0.0f) rate *= fmaxf(float(sqrt(parameters / count)), adafactor.least_scale);
    room.sizes[1] = 1.0f - rate * adafactor.weight_decay;
    room.sizes[2] = rate / fmaxf(float(sqrt(updates / count)) / adafactor.clip_threshold, 1.0f);
}

__global__ void __launch_bounds__(THREADS) update(Factored tensor, Adafactor adafactor, Room room) {
    int64_t row = own_row();
    if (row >= tensor.rows) return;
    float keep = room.sizes[1], step = room.sizes[2] * row_factor(tensor, adafactor, room, row);
    for (int64_t column = lane_index(), at = row * tensor.width + column; column < tensor.width;
         column += WARP, at += WARP) {
        float change = step * (room.column_factors[column] * tensor.gradient[at]);
        if (tensor.mean != nullptr) {
            change = adafactor.beta1 * tensor.mean[at] + adafactor.rest1 * change;
            tensor.mean[at] = change;
        }
        tensor.parameter[at] = keep * tensor.parameter[at] - change;
    }
}

} // namespace

/// All pointers but those to the arguments themselves are to device memory. Up to 4,194,240 rows.
extern "C" int
epitome_adafactor_step(const Factored *factored, const Adafactor *hyper, const Room *rooms, cudaStream_t stream) {
    Factored tensor = *factored;
    Adafactor adafactor = *hyper;
    Room room = *rooms;
    int blocks = (tensor.rows + WARPS - 1) / WARPS, chunks = chunks_of(tensor.rows, CHUNK_ROWS);
    int error = 0;
    auto then = [&](auto kernel, dim3 grid, int threads, auto... arguments) {
        if (error == 0) error = launch(kernel, grid, threads, 0, stream, arguments...);
    };
    if (tensor.row_moments != nullptr) {
        then(row_moments, dim3(blocks), THREADS, tensor, adafactor);
        then(mean_of_row_moments, dim3(1), THREADS, tensor, room);
    }
    then(column_squares, dim3(ceil_div(tensor.width, THREADS), chunks), THREADS, tensor, adafactor, room);
    then(column_moments, dim3(ceil_div(tensor.width, WARP)), PARTIALS_THREADS, tensor, adafactor, room, chunks);
    then(squares_of_block, dim3(blocks), THREADS, tensor, adafactor, room);
    then(rate_and_clipping, dim3(1), THREADS, tensor, adafactor, room, blocks);
    then(update, dim3(blocks), THREADS, tensor, adafactor, room);
    return error;
}
