//! The large matrix product: the `gemm` crate behind a safe function. It uses all of rayon's threads (small products
//! one), so it is not for the inside of a parallel loop.

use gemm::Parallelism;

use super::view::View;

/// `target = left right`, or `target += left right` when `accumulate`; target row-major [m, n].
pub(crate) fn matmul(target: &mut [f32], left: View<'_>, right: View<'_>, accumulate: bool) {
    assert_eq!(left.columns, right.rows, "inner dimensions of a matrix product");
    assert_eq!(target.len(), left.rows * right.columns, "size of a matrix product's target");
    // SAFETY: the view's constructors checked that every (i, j) of both operands lies in its slice, the assertion above that
    // the target holds m x n values; the target is borrowed mutably, so it overlaps neither operand.
    unsafe {
        gemm::gemm(
            left.rows,
            right.columns,
            left.columns,
            target.as_mut_ptr(),
            1,
            right.columns as isize,
            accumulate,
            left.values.as_ptr(),
            left.column_stride as isize,
            left.row_stride as isize,
            right.values.as_ptr(),
            right.column_stride as isize,
            right.row_stride as isize,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::Rayon(0),
        );
    }
}
