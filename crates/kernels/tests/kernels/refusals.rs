//! Input that does not fit is an error that names the operation and the shapes.

use crate::numbers::{tensor, variable};
use candle_core::{DType, Device, Result, Tensor};
use epitome_kernels::{
    Adafactor, AdamW, AdamWParameter, AffineSums, Attention, AttentionMemory, Dropout, DropoutKey, GlobalRows,
    HeadProjection, KeyValueRows, PackedLinear, Precision, ResidualSum, RowIndex, Segments, Visibility,
    accumulate_rows, adafactor_step, adamw_step, add_assign, add_layer_norm, add_layer_norm_backward,
    add_linear_input_gradient, add_rows, attention_backward, attention_forward, cached_attention, cross_entropy,
    dropout, embed, fold_heads, gather_rows, gelu, gelu_backward, global_attention, global_attention_backward,
    head_projection_backward, layer_norm, layer_norm_backward, lerp_assign, linear, linear_backward,
    linear_input_gradient, project_heads, scale_assign, write_rows,
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
    refused(attention_forward(&zeros(&[4, 6]), &x, &x, &full(4, 4)), &["attention", "[4, 6]"]);
    refused(attention_forward(&x, &x, &zeros(&[4, 2, 1]), &full(4, 4)), &["attention", "[4, 2, 1]"]);
    refused(attention_forward(&x, &x, &x, &full(4, 5)), &["attention", "5"]);
    let mut spec = full(4, 4);
    spec.keys = Segments::from_lengths(&[2, 2]);
    refused(attention_forward(&x, &x, &x, &spec), &["attention", "documents"]);
    for global in [vec![4], vec![1, 1], vec![2, 1]] {
        let mut spec = full(4, 4);
        spec.visibility = Visibility::Band { radius: 1, global: vec![global] };
        refused(attention_forward(&x, &x, &x, &spec), &["attention", "global"]);
    }
    let mut spec = full(4, 4);
    spec.visibility = Visibility::Band { radius: 1, global: vec![] };
    refused(attention_forward(&x, &x, &x, &spec), &["attention", "global"]);
    let mut spec = full(4, 4);
    spec.dropout = Some(Dropout { probability: 1.0, key: DropoutKey::new(0) });
    refused(attention_forward(&x, &x, &x, &spec), &["attention", "probability"]);
    let attended = attention_forward(&x, &x, &x, &full(4, 4)).unwrap();
    let backward = |q: &Tensor, dy: &Tensor| attention_backward(q, &x, &x, &full(4, 4), &attended, dy);
    refused(backward(&x, &zeros(&[4, 6])), &["attention_backward", "[4, 6]"]);
    refused(backward(&zeros(&[4, 6]), &x), &["attention", "[4, 6]"]);
}

#[test]
fn global_attention_shapes() {
    let (x, folded) = (zeros(&[4, 6]), zeros(&[1, 2, 7]));
    let (one, four) = (Segments::single(1), Segments::single(4));
    let of = GlobalRows { rows: &one, documents: &four, dropout: None };
    refused(global_attention(&x, &zeros(&[1, 2]), of), &["global_attention", "[1, 2]"]);
    refused(global_attention(&x, &zeros(&[1, 2, 6]), of), &["[1, 2, 6]"]);
    let short = GlobalRows { documents: &Segments::single(3), ..of };
    refused(global_attention(&x, &folded, short), &["global_attention", "[4, 6]"]);
    let pooled = global_attention(&x, &folded, of).unwrap();
    let backward = |dy: &Tensor, dx| global_attention_backward(&x, &folded, of, &pooled, dy, dx);
    refused(backward(&zeros(&[1, 2, 6]), None), &["global_attention_backward", "[1, 2, 6]", "[1, 2, 7]"]);
    refused(backward(&zeros(&[1, 2, 7]), Some(&zeros(&[4, 5]))), &["global_attention_backward", "[4, 5]"]);
}

#[test]
fn heads_shapes() {
    let (weight, bias) = (zeros(&[6, 5]), zeros(&[6]));
    let projection = HeadProjection { weight: &weight, bias: &bias, heads: 2, scale: 1.0 };
    refused(fold_heads(&zeros(&[4, 5]), projection), &["fold_heads", "[4, 5]", "[6, 5]"]);
    refused(
        fold_heads(&zeros(&[4, 6]), HeadProjection { heads: 4, ..projection }),
        &["fold_heads", "[6, 5]", "4 heads"],
    );
    let unlike = HeadProjection { bias: &zeros(&[5]), ..projection };
    refused(fold_heads(&zeros(&[4, 6]), unlike), &["fold_heads", "[5]"]);
    refused(project_heads(&zeros(&[4, 2, 5]), projection, DType::F32), &["project_heads", "[4, 2, 5]"]);
    refused(project_heads(&zeros(&[4, 2, 6]), projection, DType::BF16), &["project_heads", "BF16"]);
    let (x, y) = (zeros(&[4, 6]), zeros(&[4, 2, 6]));
    let sums = AffineSums { weight: Some(zeros(&[5, 5])), bias: None };
    refused(head_projection_backward(&x, &y, 1.0, &sums), &["head_projection_backward", "[5, 5]"]);
    let sums = AffineSums { weight: None, bias: Some(x.get(0).unwrap()) };
    refused(head_projection_backward(&x, &y, 1.0, &sums), &["head_projection_backward", "shares its storage"]);
}

#[test]
fn layers() {
    let x = zeros(&[4, 6]);
    refused(linear(&x, &zeros(&[6, 5]), None), &["linear", "[4, 6]", "[6, 5]"]);
    refused(linear(&x, &zeros(&[5, 6]), Some(&zeros(&[6]))), &["linear", "bias"]);
    refused(layer_norm(&x, &zeros(&[5]), &zeros(&[6]), 1e-5), &["layer_norm", "[5]"]);
    let sum = ResidualSum { x: &x, residual: &zeros(&[4, 5]), dropout: None, first: 0 };
    refused(add_layer_norm(sum, &zeros(&[6]), &zeros(&[6]), 1e-5), &["residual"]);
    refused(dropout(&x, Some(Dropout { probability: -0.1, key: DropoutKey::new(0) })), &["dropout"]);
}

#[test]
fn backwards_of_layers() {
    let (x, weight, bias) = (zeros(&[4, 6]), zeros(&[5, 6]), zeros(&[6]));
    let sums = AffineSums { weight: Some(weight.clone()), bias: Some(zeros(&[5])) };
    refused(linear_backward(&x, &zeros(&[3, 5]), &sums), &["linear_backward", "[3, 5]"]);
    refused(linear_backward(&x, &zeros(&[4, 6]), &sums), &["linear_backward", "[4, 6]"]);
    refused(linear_input_gradient(&x, &weight), &["linear_input_gradient", "[4, 6]", "[5, 6]"]);
    refused(add_linear_input_gradient(&x, &x, &weight), &["add_linear_input_gradient", "[5, 6]"]);
    let square = zeros(&[6, 6]);
    refused(add_linear_input_gradient(&x, &x, &square), &["add_linear_input_gradient", "shares its storage"]);
    let shared = AffineSums { weight: Some(zeros(&[6, 6])), bias: Some(x.get(0).unwrap()) };
    refused(linear_backward(&x, &zeros(&[4, 6]), &shared), &["linear_backward", "shares its storage"]);
    refused(add_linear_input_gradient(&zeros(&[4, 5]), &zeros(&[4, 5]), &weight), &["dx", "[4, 5]"]);
    refused(layer_norm_backward(&x, &bias, &x, 1e-5, &sums), &["layer_norm_backward", "[5]"]);
    let sums = AffineSums { weight: Some(bias.clone()), bias: Some(bias.clone()) };
    refused(layer_norm_backward(&x, &zeros(&[5]), &x, 1e-5, &sums), &["layer_norm_backward", "[5]"]);
    refused(layer_norm_backward(&x, &bias, &weight, 1e-5, &sums), &["layer_norm_backward", "[5, 6]"]);
    let sum = ResidualSum { x: &x, residual: &weight, dropout: None, first: 0 };
    refused(add_layer_norm_backward(sum, &bias, &x, 1e-5, &sums, None), &["residual", "[5, 6]"]);
    let sum = ResidualSum { x: &x, residual: &x, dropout: None, first: 0 };
    refused(add_layer_norm_backward(sum, &bias, &weight, 1e-5, &sums, None), &["add_layer_norm_backward", "[5, 6]"]);
    let dropout = Some(Dropout { probability: 1.0, key: DropoutKey::new(0) });
    refused(add_layer_norm(ResidualSum { dropout, ..sum }, &bias, &bias, 1e-5), &["add_layer_norm", "probability 1"]);
    refused(gelu_backward(&x, &weight), &["gelu_backward", "[5, 6]"]);
}

#[test]
fn tensors_of_a_graph() {
    let graph = |op: &'static str| [op, "graph", "detach"];
    let (x, v, weight) = (zeros(&[4, 6]), variable(&[0.0; 24], &[4, 6]), zeros(&[6]));
    // Not only a variable itself, but also what was computed from one.
    for tracked in [v.as_tensor().clone(), (v.as_tensor() * 2.0).unwrap()] {
        refused(gelu(&tracked), &graph("gelu"));
        refused(gelu_backward(&x, &tracked), &graph("gelu_backward"));
        refused(dropout(&tracked, None), &graph("dropout"));
        refused(dropout(&tracked, Some(Dropout { probability: 0.5, key: DropoutKey::new(0) })), &graph("dropout"));
        refused(layer_norm(&tracked, &weight, &weight, 1e-5), &graph("layer_norm"));
        let sum = ResidualSum { x: &x, residual: &tracked, dropout: None, first: 0 };
        refused(add_layer_norm(sum, &weight, &weight, 1e-5), &graph("add_layer_norm"));
        let sums = AffineSums { weight: Some(weight.clone()), bias: Some(weight.clone()) };
        refused(layer_norm_backward(&x, &weight, &tracked, 1e-5, &sums), &graph("layer_norm_backward"));
        let sums = AffineSums { weight: Some(zeros(&[6, 6])), bias: Some(weight.clone()) };
        refused(linear_backward(&tracked, &x, &sums), &graph("linear_backward"));
        refused(linear_input_gradient(&zeros(&[2, 4]), &tracked), &graph("linear_input_gradient"));
        let added = add_linear_input_gradient(&zeros(&[2, 6]), &zeros(&[2, 4]), &tracked);
        refused(added, &graph("add_linear_input_gradient"));
        refused(embed(&[(&tracked, &[0])], DType::F32), &graph("embed"));
        refused(cross_entropy(&x, &tracked, None, &[0; 4], 0.0), &graph("cross_entropy"));
        let (one, four) = (Segments::single(1), Segments::single(4));
        let of = GlobalRows { rows: &one, documents: &four, dropout: None };
        refused(global_attention(&tracked, &zeros(&[1, 2, 7]), of), &graph("global_attention"));
        refused(linear(&tracked, &zeros(&[6, 6]), None), &graph("linear"));
        refused(gather_rows(&tracked, &RowIndex::new(vec![1])), &graph("gather_rows"));
        let square = HeadProjection { weight: &zeros(&[6, 6]), bias: &weight, heads: 2, scale: 1.0 };
        refused(fold_heads(&tracked, square), &graph("fold_heads"));
        let q = tracked.reshape((4, 2, 3)).unwrap();
        let (plain, spec) = (q.detach(), full(4, 4));
        refused(attention_forward(&plain, &q, &plain, &spec), &graph("attention_forward"));
        let attended = attention_forward(&plain, &plain, &plain, &spec).unwrap();
        refused(attention_backward(&plain, &plain, &plain, &spec, &attended, &q), &graph("attention_backward"));
    }
}

#[test]
fn tensors_of_a_graph_in_inference() {
    let graph = |op: &'static str| [op, "graph", "detach"];
    let (v, q) = (variable(&[0.0; 24], &[4, 6]), variable(&[0.0; 24], &[4, 2, 3]));
    refused(PackedLinear::new(&v, None, Precision::F32), &graph("PackedLinear::new"));
    let packed = PackedLinear::new(&zeros(&[6, 6]), None, Precision::F32).unwrap();
    refused(packed.forward(&v), &graph("PackedLinear::forward"));
    refused(packed.forward_into(&v, &mut Vec::new()), &graph("PackedLinear::forward_into"));
    refused(packed.feed_forward(&packed, &v), &graph("feed_forward"));
    let (plain, four) = (q.detach(), Segments::single(4));
    refused(AttentionMemory::new(&q, &plain, &four, Precision::F32), &graph("AttentionMemory"));
    let memory = AttentionMemory::new(&plain, &plain, &four, Precision::F32).unwrap();
    refused(memory.attend(&q, &four, 1.0), &graph("AttentionMemory::attend"));
    let mut cache = KeyValueRows::default();
    refused(cache.append(&plain, &q), &graph("KeyValueRows::append"));
    refused(cached_attention(&q, &KeyValueRows::default(), &[const { vec![] }; 4], 1.0), &graph("cached_attention"));
}

#[test]
fn rows() {
    let x = zeros(&[4, 6]);
    let at = |row: usize| RowIndex::new(vec![row]);
    refused(gather_rows(&x, &at(4)), &["gather_rows", "4"]);
    refused(write_rows(&x, &at(0), &x.narrow(0, 1, 1).unwrap()), &["write_rows", "shares its storage"]);
    refused(write_rows(&x, &at(4), &zeros(&[1, 6])), &["write_rows", "4"]);
    refused(add_rows(&x, &at(1), &zeros(&[2, 6])), &["add_rows", "[2, 6]"]);
    refused(embed(&[(&x, &[3, 4])], DType::F32), &["embed", "id 4"]);
    refused(embed(&[], DType::F32), &["embed"]);
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
    let hyper = AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let step = |moments: &[usize], gradient, step| {
        let (parameter, moments) = (&table, &zeros(moments));
        let one =
            AdamWParameter { parameter, moments, gradient, copy: None, learning_rate: 0.1, weight_decay: 0.0, step };
        adamw_step(&[one], 1.0, &hyper)
    };
    refused(step(&[2, 5, 3], &table, 0), &["adamw_step", "from 1"]);
    refused(step(&[5, 3], &table, 1), &["adamw_step", "moments"]);
    refused(step(&[2, 5, 3], &hidden, 1), &["adamw_step", "gradient", "[2, 3]"]);
    let hyper = Adafactor {
        learning_rate: 0.1,
        least_scale: None,
        beta1: None,
        decay: 0.0,
        epsilon: 1e-30,
        clip_threshold: 1.0,
        weight_decay: 0.0,
    };
    let step = |moments: &[usize], mean, gradient| adafactor_step(&table, &zeros(moments), mean, gradient, 1.0, &hyper);
    refused(step(&[5], None, &table), &["adafactor_step", "moments", "[8]"]);
    refused(step(&[8], None, &hidden), &["adafactor_step", "gradient", "[2, 3]"]);
    refused(step(&[8], Some(&table.zeros_like().unwrap()), &table), &["adafactor_step", "beta1"]);
    refused(lerp_assign(&table, &hidden, 0.1), &["lerp_assign", "[2, 3]"]);
}

#[test]
fn other_types() {
    let x = Tensor::zeros((2, 2), DType::F64, &Device::Cpu).unwrap();
    refused(gelu(&x), &["gelu", "f32", "F64"]);
}
