//! y[g, h] = x[g, h] W[h] for every head h, W[h] [in, out], or stored transposed, [out, in]; `dx = dy W^T`, `dW = x^T dy`.

use super::matmul::matmul;
use super::view::View;

/// The sizes of a call.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub(crate) rows: usize,
    pub(crate) heads: usize,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) transposed: bool,
}

impl Product {
    /// One head of a tensor [rows, H, width].
    fn head<'v>(&self, values: &'v [f32], head: usize, width: usize) -> View<'v> {
        View::rows(&values[(head * width).min(values.len())..], self.rows, width, self.heads * width)
    }

    /// One head's weights, [in, out].
    fn weight<'v>(&self, weight: &'v [f32], head: usize) -> View<'v> {
        let values = &weight[head * self.inputs * self.outputs..][..self.inputs * self.outputs];
        if self.transposed {
            View::dense(values, self.outputs, self.inputs).transposed()
        } else {
            View::dense(values, self.inputs, self.outputs)
        }
    }

    /// Puts the heads' products [rows, width] side by side: [rows, H, width].
    fn interleave(&self, width: usize, product: impl Fn(usize) -> Vec<f32>) -> Vec<f32> {
        let mut result = vec![0.0; self.rows * self.heads * width];
        for head in 0..self.heads {
            for (row, values) in product(head).chunks_exact(width.max(1)).enumerate() {
                result[(row * self.heads + head) * width..][..width].copy_from_slice(values);
            }
        }
        result
    }
}

/// y [rows, H, out].
pub(crate) fn forward(x: &[f32], weight: &[f32], product: Product) -> Vec<f32> {
    product.interleave(product.outputs, |head| {
        matmul(product.head(x, head, product.inputs), product.weight(weight, head), None)
    })
}

/// dx [rows, H, in].
pub(crate) fn input_gradient(dy: &[f32], weight: &[f32], product: Product) -> Vec<f32> {
    product.interleave(product.inputs, |head| {
        matmul(product.head(dy, head, product.outputs), product.weight(weight, head).transposed(), None)
    })
}

/// dW [H, in, out], or [H, out, in] when stored transposed.
pub(crate) fn weight_gradient(x: &[f32], dy: &[f32], product: Product) -> Vec<f32> {
    let gradient = |head| {
        let (x, dy) = (product.head(x, head, product.inputs), product.head(dy, head, product.outputs));
        if product.transposed { matmul(dy.transposed(), x, None) } else { matmul(x.transposed(), dy, None) }
    };
    (0..product.heads).flat_map(gradient).collect()
}
