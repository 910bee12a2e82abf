//! The projection of each head, [W_h | b_h], and its transpose: y = s [W_h | b_h]^T x, x = s [W_h | b_h] y, and the gradient of
//! [W_h | b_h], s x y^T.

use super::matmul::{matmul, matmul_add};
use super::view::View;

/// The sizes of a call: x [rows, H, size], y [rows, H, width + 1], W [H, size, width], b [H, size].
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) rows: usize,
    pub(crate) heads: usize,
    pub(crate) size: usize,
    pub(crate) width: usize,
}

impl Sizes {
    /// One head of x, [rows, size].
    fn x<'v>(&self, values: &'v [f32], head: usize) -> View<'v> {
        View::rows(&values[(head * self.size).min(values.len())..], self.rows, self.size, self.heads * self.size)
    }

    /// One head of y but for its last column, [rows, width].
    fn y<'v>(&self, values: &'v [f32], head: usize) -> View<'v> {
        let row = self.width + 1;
        View::rows(&values[(head * row).min(values.len())..], self.rows, self.width, self.heads * row)
    }

    /// One head's weights, [size, width].
    fn weight<'v>(&self, values: &'v [f32], head: usize) -> View<'v> {
        View::dense(&values[head * self.size * self.width..][..self.size * self.width], self.size, self.width)
    }

    /// Every row of every head: row, head, and where it begins in x and in y.
    fn places(self) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let place = move |at: usize| (at / self.heads, at % self.heads, at * self.size, at * (self.width + 1));
        (0..self.rows * self.heads).map(place)
    }
}

/// y, given x.
pub(crate) fn fold(x: &[f32], weight: &[f32], bias: &[f32], scale: f32, sizes: Sizes) -> Vec<f32> {
    let Sizes { heads, size, width, .. } = sizes;
    let x: Vec<f32> = x.iter().map(|x| scale * x).collect();
    let products: Vec<Vec<f32>> =
        (0..heads).map(|head| matmul(sizes.x(&x, head), sizes.weight(weight, head), None)).collect();
    let mut y = vec![0.0; sizes.rows * heads * (width + 1)];
    for (row, head, x_at, y_at) in sizes.places() {
        y[y_at..][..width].copy_from_slice(&products[head][row * width..][..width]);
        y[y_at + width] = x[x_at..][..size].iter().zip(&bias[head * size..]).map(|(x, bias)| x * bias).sum();
    }
    y
}

/// x, given y.
pub(crate) fn project(y: &[f32], weight: &[f32], bias: &[f32], scale: f32, sizes: Sizes) -> Vec<f32> {
    let Sizes { heads, size, width, .. } = sizes;
    let products: Vec<Vec<f32>> =
        (0..heads).map(|head| matmul(sizes.y(y, head), sizes.weight(weight, head).transposed(), None)).collect();
    let mut x = vec![0.0; sizes.rows * heads * size];
    for (row, head, x_at, y_at) in sizes.places() {
        let last = y[y_at + width];
        let terms = products[head][row * size..][..size].iter().zip(&bias[head * size..]);
        for (x, (product, bias)) in x[x_at..][..size].iter_mut().zip(terms) {
            *x = scale * (product + last * bias);
        }
    }
    x
}

/// Adds the gradient of the weights, given x and y.
pub(crate) fn add_weight_gradient(sum: &mut [f32], x: &[f32], y: &[f32], scale: f32, sizes: Sizes) {
    let x: Vec<f32> = x.iter().map(|x| scale * x).collect();
    let head_values = sizes.size * sizes.width;
    for (head, sum) in sum.chunks_exact_mut(head_values.max(1)).enumerate() {
        matmul_add(sum, sizes.x(&x, head).transposed(), sizes.y(y, head));
    }
}

/// Adds the gradient of the biases, given x and y.
pub(crate) fn add_bias_gradient(sum: &mut [f32], x: &[f32], y: &[f32], scale: f32, sizes: Sizes) {
    for (_, head, x_at, y_at) in sizes.places() {
        let factor = scale * y[y_at + sizes.width];
        for (sum, x) in sum[head * sizes.size..].iter_mut().zip(&x[x_at..][..sizes.size]) {
            *sum += factor * x;
        }
    }
}
