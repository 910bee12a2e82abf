//! Products of matrices: by cuBLASLt on a GPU, by candle's where the CPU stands for one.

#[cfg(feature = "cuda")]
mod library;
mod plain;

#[cfg(feature = "cuda")]
use library::multiply;
#[cfg(not(feature = "cuda"))]
use plain::multiply;

use super::element::FLOATS;
use super::place::{matrix, room};
use candle_core::{DType, Result, Tensor, bail};

/// op(A) op(B), with sums in f32: A `[m, k]` or, transposed, `[k, m]`; B `[k, n]` or, transposed, `[n, k]`; both f32 or both bf16.
/// Rows of either may lie apart.
pub(super) struct Product {
    a: Tensor,
    b: Tensor,
    /// Of A and of B.
    transposed: [bool; 2],
    sizes: Sizes,
}

/// Rows and columns of the result, and the depth of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sizes {
    m: usize,
    n: usize,
    k: usize,
}

/// What becomes of a product.
#[derive(Clone, Copy)]
enum Then<'a> {
    /// It takes the place of what is there, with a bias `[n]` of the target's type, if there is one.
    Write(Option<&'a Tensor>),
    /// It is added to what is there.
    Add,
}

impl Product {
    /// Of A and B, of which either may be transposed.
    ///
    /// # Errors
    /// When shapes or types do not fit.
    pub(super) fn new(a: &Tensor, b: &Tensor, transposed: [bool; 2]) -> Result<Self> {
        let ((rows, columns), (height, width)) = (a.dims2()?, b.dims2()?);
        let (m, k) = if transposed[0] { (columns, rows) } else { (rows, columns) };
        let (depth, n) = if transposed[1] { (width, height) } else { (height, width) };
        if depth != k {
            bail!("product: {:?} and {:?} do not fit (transposed: {transposed:?})", a.dims(), b.dims());
        }
        let (a, b) = (matrix("product", a, &FLOATS)?, matrix("product", b, &[a.dtype()])?);
        Ok(Self { a, b, transposed, sizes: Sizes { m, n, k } })
    }

    /// The product plus, if there is one, a bias `[n]` in the type of the result, which is f32 or that of A and B.
    ///
    /// # Errors
    /// When types do not fit or the product fails.
    pub(super) fn evaluate(&self, bias: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
        let Sizes { m, n, k } = self.sizes;
        self.check_bias(bias, dtype)?;
        self.check_type(dtype)?;
        if k == 0 {
            let zeros = Tensor::zeros((m, n), dtype, self.a.device())?;
            return bias.map_or(Ok(zeros.clone()), |bias| zeros.broadcast_add(bias));
        }
        let target = room((m, n), dtype, self.a.device())?;
        if m * n > 0 {
            multiply(self, &target, Then::Write(bias))?;
        }
        Ok(target)
    }

    /// The product in rows that begin at multiples of 16 bytes, `[m, n or a little more]`; what is behind the n numbers of a row has no
    /// meaning.
    ///
    /// # Errors
    /// As [`Product::evaluate`].
    pub(super) fn evaluate_aligned(&self, bias: Option<&Tensor>, dtype: DType) -> Result<Tensor> {
        let Sizes { m, n, k } = self.sizes;
        self.check_bias(bias, dtype)?;
        self.check_type(dtype)?;
        let target = room((m, aligned(n)), dtype, self.a.device())?;
        if k == 0 {
            bail!("product: sums of nothing");
        }
        if m * n > 0 {
            multiply(self, &target, Then::Write(bias))?;
        }
        Ok(target)
    }

    /// Adds the product to `sum` `[m, n]` in place, which is f32 or of the type of A and B.
    ///
    /// # Errors
    /// When shapes or types do not fit or the product fails.
    pub(super) fn add_to(&self, sum: &Tensor) -> Result<()> {
        let Sizes { m, n, k } = self.sizes;
        self.check_type(sum.dtype())?;
        if sum.dims() != [m, n] {
            bail!("product: [{m}, {n}] cannot be added to {:?}", sum.dims());
        }
        if m * n * k > 0 { multiply(self, sum, Then::Add) } else { Ok(()) }
    }

    fn check_bias(&self, bias: Option<&Tensor>, dtype: DType) -> Result<()> {
        let n = self.sizes.n;
        if let Some(bias) = bias.filter(|bias| bias.dims() != [n] || bias.dtype() != dtype) {
            bail!("product: a bias {:?} in {:?} for rows of {n} numbers in {dtype:?}", bias.dims(), bias.dtype());
        }
        Ok(())
    }

    fn check_type(&self, dtype: DType) -> Result<()> {
        if ![DType::F32, self.a.dtype()].contains(&dtype) {
            bail!("product: no result in {dtype:?} of factors in {:?}", self.a.dtype());
        }
        Ok(())
    }
}

/// What sizes are multiples of where products are fastest: 16 bytes of numbers of any type.
pub(super) const ALIGNED: usize = crate::TABLE_ROWS;

/// Numbers of a row of n, so that the next begins at a multiple of 16 bytes, whatever their type.
pub(super) fn aligned(n: usize) -> usize {
    n.next_multiple_of(ALIGNED)
}
