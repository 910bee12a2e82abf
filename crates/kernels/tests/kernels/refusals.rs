//! Input that does not fit is an error that names the operation and the shapes.

use crate::numbers::tensor;
use candle_core::{DType, Device, Result, Tensor};
use epitome_kernels::{
    AdamW, Attention, Dropout, DropoutKey, Precision, Segments, Visibility, accumulate_rows, adamw_step, add_assign,
    add_layer_norm, attention, cross_entropy, dropout, embed, gather_rows, gelu, global_attention, layer_norm, linear,
    pull_back, scale_assign, write_rows,
};

fn zeros(shape: &[usize]) -> Tensor {
    tensor(&vec![0.0; shape.iter().product()], shape)
}

#[track_caller]
fn refused<T>(result: Result<T>, parts: &[&str]) {
    let message = result.err().expect("an error").to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} does not mention {part:?}");
    }
}

fn full(queries: usize, keys: usize) -> Attention {
    Attention {
        queries: Segments::single(queries),
        keys: Segments::single(keys),
        visibility: Visibility::Full,
        scale: 1.0,
        dropout: None,
        precision: Precision::F32,
    }
}

#[test]
fn attention_shapes() {
    let x = zeros(&[4, 2, 3]);
    refused(attention(&zeros(&[4, 6]), &x, &x, full(4, 4)), &["attention", "[4, 6]"]);
    refused(attention(&x, &x, &zeros(&[4, 2, 1]), full(4, 4)), &["attention", "[4, 2, 1]"]);
    refused(attention(&x, &x, &x, full(4, 5)), &["attention", "5"]);
    let mut spec = full(4, 4);
    spec.keys = Segments::from_lengths(&[2, 2]);
    refused(attention(&x, &x, &x, spec), &["attention", "documents"]);
    for global in [vec![4], vec![1, 1], vec![2, 1]] {
        let mut spec = full(4, 4);
        spec.visibility = Visibility::Band { radius: 1, global: vec![global] };
        refused(attention(&x, &x, &x, spec), &["attention", "global"]);
    }
    let mut spec = full(4, 4);
    spec.visibility = Visibility::Band { radius: 1, global: vec![] };
    refused(attention(&x, &x, &x, spec), &["attention", "global"]);
    let mut spec = full(4, 4);
    spec.dropout = Some(Dropout { probability: 1.0, key: DropoutKey::new(0) });
    refused(attention(&x, &x, &x, spec), &["attention", "probability"]);
}

#[test]
fn global_attention_shapes() {
    let (x, a, c) = (zeros(&[4, 6]), zeros(&[1, 2, 6]), zeros(&[1, 2]));
    let (one, four) = (Segments::single(1), Segments::single(4));
    refused(global_attention(&x, &a, &zeros(&[2]), one.clone(), four.clone(), None), &["global_attention", "[2]"]);
    refused(global_attention(&x, &zeros(&[1, 2, 5]), &c, one.clone(), four.clone(), None), &["[1, 2, 5]"]);
    refused(global_attention(&x, &a, &c, one, Segments::single(3), None), &["global_attention", "[4, 6]"]);
}

#[test]
fn layers() {
    let x = zeros(&[4, 6]);
    refused(linear(&x, &zeros(&[6, 5]), None), &["linear", "[4, 6]", "[6, 5]"]);
    refused(linear(&x, &zeros(&[5, 6]), Some(&zeros(&[6]))), &["linear", "bias"]);
    refused(layer_norm(&x, &zeros(&[5]), &zeros(&[6]), 1e-5), &["layer_norm", "[5]"]);
    refused(add_layer_norm(&x, &zeros(&[4, 5]), &zeros(&[6]), &zeros(&[6]), 1e-5), &["residual"]);
    refused(dropout(&x, Some(Dropout { probability: -0.1, key: DropoutKey::new(0) })), &["dropout"]);
    refused(pull_back(&x, &zeros(&[6, 4])), &["pull_back", "[6, 4]"]);
}

#[test]
fn rows() {
    let x = zeros(&[4, 6]);
    refused(gather_rows(&x, &[4]), &["gather_rows", "4"]);
    refused(write_rows(&x, &[4], &zeros(&[1, 6])), &["write_rows", "4"]);
    refused(write_rows(&x, &[1], &zeros(&[2, 6])), &["write_rows", "[2, 6]"]);
    refused(embed(&[(&x, &[3, 4])]), &["embed", "id 4"]);
    refused(embed(&[]), &["embed"]);
    refused(accumulate_rows(&x, &[9], &zeros(&[1, 6]), None), &["accumulate_rows", "id 9"]);
    refused(add_assign(&x, &zeros(&[6, 4])), &["add_assign", "[6, 4]"]);
    refused(scale_assign(&x.t().unwrap(), 2.0), &["scale_assign", "contiguous"]);
}

#[test]
fn training() {
    let (hidden, table) = (zeros(&[2, 3]), zeros(&[5, 3]));
    refused(cross_entropy(&hidden, &table, None, &[0, 5], 0.0), &["cross_entropy", "target 5", "position 1"]);
    refused(cross_entropy(&hidden, &table, None, &[0, -1], 0.0), &["cross_entropy", "target -1"]);
    refused(cross_entropy(&hidden, &table, None, &[0], 0.0), &["cross_entropy", "1 targets"]);
    refused(cross_entropy(&hidden, &zeros(&[5, 4]), None, &[0, 0], 0.0), &["cross_entropy", "[5, 4]"]);
    let hyper = AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, step: 0 };
    refused(adamw_step(&table, &zeros(&[2, 5, 3]), &table, 1.0, &hyper), &["adamw_step", "from 1"]);
    refused(adamw_step(&table, &zeros(&[5, 3]), &table, 1.0, &hyper), &["adamw_step", "moments"]);
}

#[test]
fn other_types() {
    let x = Tensor::zeros((2, 2), DType::F64, &Device::Cpu).unwrap();
    refused(gelu(&x), &["gelu", "f32", "F64"]);
}
