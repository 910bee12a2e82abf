//! Products by cuBLASLt.

use super::{Product, Sizes, Then, plain};
use crate::cuda::place::{address_mut, row_address};
use candle_core::cuda_backend::DeviceId;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublaslt::{result, sys};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use candle_core::{DType, Error, Result, Tensor, bail};
use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// Bytes that a product may use beside its matrices: what cuBLAS asks for on Hopper.
const WORKSPACE_BYTES: usize = 32 << 20;

/// The greatest alignment that makes a difference.
const ALIGNED: usize = 256;

/// Shapes whose algorithms are remembered.
const MOST_SHAPES: usize = 1 << 12;

/// Of each device that was opened, in the order of whose stream products use the workspace.
static LIBRARIES: LazyLock<Mutex<HashMap<DeviceId, Library>>> = LazyLock::new(Mutex::default);

/// Writes or adds the product.
pub(super) fn multiply(product: &Product, target: &Tensor, then: Then<'_>) -> Result<()> {
    let device = product.a.device().as_cuda_device()?;
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    let library = match libraries.entry(device.id()) {
        std::collections::hash_map::Entry::Occupied(found) => found.into_mut(),
        std::collections::hash_map::Entry::Vacant(place) => place.insert(Library::new(&stream)?),
    };
    if library.multiply(&Call::new(product, target, then)?)? {
        return Ok(());
    }
    drop(libraries);
    plain::multiply(product, target, then)
}

struct Library {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    stream: Arc<CudaStream>,
    /// What the library advised, if it has an algorithm.
    algorithms: HashMap<Shape, Option<sys::cublasLtMatmulAlgo_t>>,
}

// SAFETY: a handle may be used by any thread.
unsafe impl Send for Library {}

/// What the choice of an algorithm depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Shape {
    sizes: Sizes,
    transposed: [bool; 2],
    factors: sys::cudaDataType,
    result: sys::cudaDataType,
    has_bias: bool,
    adds: bool,
    /// How far rows of A, B and the result lie apart, in numbers.
    strides: [usize; 3],
    /// Of their first numbers, in bytes.
    alignments: [usize; 3],
}

/// A product as the library sees it. Its matrices are stored by columns: each of ours is the transposed one of the same name to
/// it, so that it multiplies B by A.
struct Call {
    shape: Shape,
    a: *const c_void,
    b: *const c_void,
    bias: *const c_void,
    target: *mut c_void,
}

impl Call {
    fn new(product: &Product, target: &Tensor, then: Then<'_>) -> Result<Self> {
        let (a, b, to) = (row_address(&product.a)?, row_address(&product.b)?, address_mut(target)?);
        let bias = match then {
            Then::Write(Some(bias)) => row_address(bias)?,
            _ => std::ptr::null(),
        };
        // The bias is read as the result is written.
        let alignments = [a.addr(), b.addr(), to.addr() | bias.addr()]
            .map(|at| 1 << at.trailing_zeros().min(ALIGNED.trailing_zeros()));
        let shape = Shape {
            sizes: product.sizes,
            transposed: product.transposed,
            factors: type_of(product.a.dtype()),
            result: type_of(target.dtype()),
            has_bias: !bias.is_null(),
            adds: matches!(then, Then::Add),
            strides: [&product.a, &product.b, target].map(|matrix| matrix.stride()[0].max(matrix.dims()[1])),
            alignments,
        };
        Ok(Self { shape, a, b, bias, target: to })
    }
}

fn type_of(dtype: DType) -> sys::cudaDataType {
    match dtype {
        DType::BF16 => sys::cudaDataType_t::CUDA_R_16BF,
        _ => sys::cudaDataType_t::CUDA_R_32F,
    }
}

impl Library {
    fn new(stream: &Arc<CudaStream>) -> Result<Self> {
        let handle = result::create_handle().map_err(failed)?;
        // SAFETY: what products leave there nobody reads.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE_BYTES) }.w()?;
        Ok(Self { handle, workspace, stream: stream.clone(), algorithms: HashMap::new() })
    }

    /// Returns whether it could.
    fn multiply(&mut self, call: &Call) -> Result<bool> {
        let described = Described::new(call)?;
        let algorithm = match self.algorithms.get(&call.shape) {
            Some(algorithm) => *algorithm,
            None => {
                let advised = described.advise(self.handle, &call.shape)?;
                if self.algorithms.len() >= MOST_SHAPES {
                    self.algorithms.clear();
                }
                self.algorithms.insert(call.shape, advised);
                advised
            }
        };
        let Some(algorithm) = algorithm else { return Ok(false) };
        let (workspace, _in_order) = self.workspace.device_ptr(&self.stream);
        let (one, kept) = (1.0f32, if call.shape.adds { 1.0f32 } else { 0.0 });
        let Described { operation, matrices: [b, a, target] } = &described;
        // SAFETY: the matrices have the sizes that their layouts say, and lie on this stream's device.
        let multiplied = unsafe {
            result::matmul(
                self.handle,
                operation.0,
                (&raw const one).cast(),
                (&raw const kept).cast(),
                call.b,
                b.0,
                call.a,
                a.0,
                call.target,
                target.0,
                call.target,
                target.0,
                &raw const algorithm,
                std::ptr::with_exposed_provenance_mut(workspace as usize),
                WORKSPACE_BYTES,
                self.stream.cu_stream().cast(),
            )
        };
        match multiplied {
            Ok(()) => Ok(true),
            Err(error) => bail!("product: cuBLASLt: {:?} for {:?}", error.0, call.shape),
        }
    }
}

fn failed(error: result::CublasError) -> Error {
    Error::Msg(format!("product: cuBLASLt: {:?}", error.0))
}

/// The library's descriptions of an operation and its matrices: the first factor, the second, and the result.
struct Described {
    operation: Operation,
    matrices: [Layout; 3],
}

struct Operation(sys::cublasLtMatmulDesc_t);

impl Drop for Operation {
    fn drop(&mut self) {
        // SAFETY: made by `Operation::new` and dropped once. An error here has no consequence.
        let _ = unsafe { result::destroy_matmul_desc(self.0) };
    }
}

struct Layout(sys::cublasLtMatrixLayout_t);

impl Drop for Layout {
    fn drop(&mut self) {
        // SAFETY: as of an operation.
        let _ = unsafe { result::destroy_matrix_layout(self.0) };
    }
}

struct Preference(sys::cublasLtMatmulPreference_t);

impl Drop for Preference {
    fn drop(&mut self) {
        // SAFETY: as of an operation.
        let _ = unsafe { result::destroy_matmul_pref(self.0) };
    }
}

impl Operation {
    fn set<T>(&self, attribute: sys::cublasLtMatmulDescAttributes_t, value: T) -> Result<()> {
        let bytes = size_of::<T>();
        // SAFETY: the value has the type of the attribute, and is copied.
        unsafe { result::set_matmul_desc_attribute(self.0, attribute, (&raw const value).cast(), bytes) }
            .map_err(failed)
    }
}

impl Preference {
    fn set<T>(&self, attribute: sys::cublasLtMatmulPreferenceAttributes_t, value: T) -> Result<()> {
        let bytes = size_of::<T>();
        // SAFETY: as of an operation.
        unsafe { result::set_matmul_pref_attribute(self.0, attribute, (&raw const value).cast(), bytes) }
            .map_err(failed)
    }
}

impl Layout {
    /// Of a matrix of ours, whose rows lie `stride` numbers apart.
    fn new(dtype: sys::cudaDataType, (rows, columns): (usize, usize), stride: usize) -> Result<Self> {
        let layout = result::create_matrix_layout(dtype, columns as u64, rows as u64, stride as i64);
        Ok(Self(layout.map_err(failed)?))
    }
}

impl Described {
    fn new(call: &Call) -> Result<Self> {
        use sys::cublasLtMatmulDescAttributes_t as Attribute;
        let Shape { sizes: Sizes { m, n, k }, transposed: [a_transposed, b_transposed], factors, result: kind, .. } =
            call.shape;
        let sums = sys::cublasComputeType_t::CUBLAS_COMPUTE_32F;
        let operation = result::create_matmul_desc(sums, sys::cudaDataType_t::CUDA_R_32F).map_err(failed)?;
        let operation = Operation(operation);
        operation.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, i32::from(b_transposed))?;
        operation.set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, i32::from(a_transposed))?;
        if call.shape.has_bias {
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, sys::cublasLtEpilogue_t::CUBLASLT_EPILOGUE_BIAS)?;
            operation.set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, call.bias)?;
        }
        let a = if a_transposed { (k, m) } else { (m, k) };
        let b = if b_transposed { (n, k) } else { (k, n) };
        let [a_stride, b_stride, stride] = call.shape.strides;
        let (a, b) = (Layout::new(factors, a, a_stride)?, Layout::new(factors, b, b_stride)?);
        let matrices = [b, a, Layout::new(kind, (m, n), stride)?];
        Ok(Self { operation, matrices })
    }

    /// The algorithm that the library expects to be the fastest, if it has any.
    fn advise(&self, handle: sys::cublasLtHandle_t, shape: &Shape) -> Result<Option<sys::cublasLtMatmulAlgo_t>> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Attribute;
        let preference = Preference(result::create_matmul_pref().map_err(failed)?);
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, WORKSPACE_BYTES)?;
        // Parts of sums are never rounded to the type of the result.
        let in_f32 = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE as u32;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, in_f32)?;
        let [a, b, target] = shape.alignments.map(|bytes| bytes as u32);
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, b)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, a)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, target)?;
        preference.set(Attribute::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, target)?;
        let [b, a, target] = &self.matrices;
        // SAFETY: all descriptions exist until the call returns.
        let advised = unsafe {
            result::get_matmul_algo_heuristic(handle, self.operation.0, b.0, a.0, target.0, target.0, preference.0)
        };
        match advised {
            Ok(advised) => Ok(Some(advised.algo)),
            Err(error) if error.0 == sys::cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }
}
