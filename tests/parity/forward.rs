//! Log-probabilities and encoder states of random small models.

use candle_core::{Device, Tensor};
use epitome_kernels::token_log_probabilities;
use epitome_model::Led;
use epitome_train::Batch;
use serde::Deserialize;

use crate::fixture::{Pair, assert_close, cases, documents, flat, on_every_device, tensors};

#[derive(Deserialize)]
struct Forward {
    documents: Vec<Document>,
}

#[derive(Clone, Deserialize)]
struct Document {
    #[serde(flatten)]
    pair: Pair,
    encoder_positions: Vec<usize>,
}

const TOLERANCE: f32 = 1e-4;

/// Log-probabilities `[T, V]` of the documents run as one batch, and their encoder states at the stored positions.
fn run(led: &Led, documents_: &[Document]) -> (Vec<f32>, Vec<f32>) {
    let pairs: Vec<Pair> = documents_.iter().map(|document| document.pair.clone()).collect();
    let sources = documents(&pairs);
    let encoded = led.encode(&sources).unwrap();
    let examples: Vec<_> = pairs.iter().map(Pair::example).collect();
    let batch = Batch::new(&examples, led.config()).unwrap();
    let hidden = led.decoder().forward(&batch.decoder_ids, &batch.targets, &encoded, sources.segments()).unwrap();
    let rows = encoded.to_vec2::<f32>().unwrap();
    let states = documents_
        .iter()
        .zip(sources.segments().ranges())
        .flat_map(|(document, range)| document.encoder_positions.iter().map(move |position| range.start + position))
        .flat_map(|row| rows[row].clone())
        .collect();
    (all_log_probabilities(led, &hidden), states)
}

/// Log-probabilities of every token of the vocabulary, through the function that scores single ones.
fn all_log_probabilities(led: &Led, hidden: &Tensor) -> Vec<f32> {
    let (rows, vocabulary) = (hidden.dim(0).unwrap(), led.config().vocab_size);
    let bias = Some(led.final_logits_bias());
    let columns: Vec<Vec<f32>> = (0..vocabulary as i64)
        .map(|token| token_log_probabilities(hidden, led.head(), bias, &vec![token; rows]).unwrap())
        .collect();
    (0..rows).flat_map(|row| columns.iter().map(move |column| column[row])).collect()
}

#[test]
fn batches_have_the_reference_s_log_probabilities() {
    let expected = tensors("forward");
    let cases = cases::<Forward>("forward");
    assert!(cases.len() >= 50);
    on_every_device(|device| {
        for case in &cases {
            let (log_probabilities, states) = run(&case.packed(device), &case.rest.documents);
            let name = &case.name;
            assert_close(&states, &flat(&expected[&format!("{name}.encoder")]), TOLERANCE, &format!("{name} encoder"));
            assert_close(&log_probabilities, &flat(&expected[&format!("{name}.log_probs")]), TOLERANCE, name);
        }
    });
}

#[test]
fn packed_weights_give_the_same_bits() {
    for case in cases::<Forward>("forward") {
        let plain = run(&case.led(), &case.rest.documents);
        assert!(run(&case.packed(&Device::Cpu), &case.rest.documents) == plain, "{}", case.name);
    }
}

/// Not only up to rounding: batch-mates change nothing at all.
#[test]
fn documents_alone_are_what_they_are_in_a_batch() {
    let cases = cases::<Forward>("forward");
    let several: Vec<_> = cases.iter().filter(|case| case.rest.documents.len() > 1).collect();
    assert!(several.len() >= 50);
    for case in several {
        let led = case.led();
        let (together, _) = run(&led, &case.rest.documents);
        let alone: Vec<f32> =
            case.rest.documents.iter().flat_map(|document| run(&led, std::slice::from_ref(document)).0).collect();
        let differing = alone.iter().zip(&together).filter(|(alone, together)| alone.to_bits() != together.to_bits());
        assert_eq!(alone.len(), together.len());
        assert_eq!(differing.count(), 0, "{}: log-probabilities differ alone and in a batch", case.name);
    }
}
