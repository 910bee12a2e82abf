//! [`Precision`].

/// What the products of inference are made of. Layer norms, softmax, the residual stream and all sums are f32 throughout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Numbers as they are: results are exact.
    #[default]
    F32,
    /// Weights, the rows they are multiplied with, and the operands of attention rounded to bfloat16.
    Bf16,
    /// Weights as bytes with a scale for each output, the rows they are multiplied with as bytes with a scale of their own;
    /// the operands of attention rounded to bfloat16.
    Int8,
}
