//! Matrices inside slices, read in place by both matrix products.

use std::ops::Range;

/// A matrix inside a slice: element (i, j) is `values[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, W = f32> {
    pub(super) values: &'a [W],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(super) row_stride: usize,
    pub(super) column_stride: usize,
}

impl<'a, W: Copy> View<'a, W> {
    /// All of `values` as rows of `columns` values.
    pub(crate) fn dense(values: &'a [W], rows: usize, columns: usize) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} x {columns}");
        Self::rows(values, rows, columns, columns)
    }

    /// Rows of `columns` adjacent values, `row_stride` apart.
    pub(crate) fn rows(values: &'a [W], rows: usize, columns: usize, row_stride: usize) -> Self {
        let view = Self { values, rows, columns, row_stride, column_stride: 1 };
        assert!(
            rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= values.len(),
            "a view of {rows} x {columns} with stride {row_stride} into {} values",
            values.len()
        );
        view
    }

    /// The rows and columns of a range each.
    pub(crate) fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.columns, "a part within its matrix");
        let start = rows.start * self.row_stride + columns.start * self.column_stride;
        Self { values: &self.values[start.min(self.values.len())..], rows: rows.len(), columns: columns.len(), ..self }
    }

    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}
