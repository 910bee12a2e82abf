//! Where cross-attention lies: the same over kept keys and folded projections, and causal.

use std::ops::Range;

use epitome_kernels::Segments;
use epitome_model::Led;
use serde::Deserialize;

use crate::fixture::{Case, Pair, cases, documents, on_every_device};

#[derive(Deserialize)]
struct Forward {
    documents: Vec<Pair>,
}

/// Everything but the global positions, in spans of at most `length` tokens.
fn spans(pair: &Pair, length: usize) -> Vec<Range<usize>> {
    let mut spans = Vec::new();
    let mut start = 0;
    for end in pair.global_positions.iter().copied().chain([pair.input_ids.len()]) {
        spans.extend((start..end).step_by(length).map(|first| first..end.min(first + length)));
        start = end + 1;
    }
    spans
}

#[test]
fn masses_are_the_same_folded_and_depend_on_no_later_token() {
    let mut cases = cases::<Forward>("forward");
    assert!(cases.len() >= 50);
    for case in &mut cases {
        case.rest.documents.iter_mut().for_each(|pair| pair.global_positions.sort_unstable());
    }
    cases.iter().for_each(|case| check(case, &case.led()));
    on_every_device(|device| cases.iter().for_each(|case| check(case, &case.packed(device))));
}

fn check(case: &Case<Forward>, led: &Led) {
    let (name, pairs) = (&case.name, &case.rest.documents);
    let sources = documents(pairs);
    let encoded = led.encode(&sources).unwrap();
    let spans: Vec<_> = pairs.iter().map(|pair| spans(pair, 7)).collect();
    // Two sequences for each document: its labels, and all but the last of them.
    let labels = |pair: &Pair| -> Vec<u32> { pair.labels.iter().map(|&label| label.max(0) as u32).collect() };
    let whole: Vec<Vec<u32>> = pairs.iter().map(labels).collect();
    let sequences: Vec<&[u32]> = whole.iter().flat_map(|ids| [&ids[..], &ids[..ids.len() - 1]]).collect();
    let lengths: Vec<usize> = sequences.iter().map(|ids| ids.len()).collect();
    let rows: Vec<usize> = whole.iter().map(|ids| 2 * ids.len() - 1).collect();
    let (targets, rows) = (Segments::from_lengths(&lengths), Segments::from_lengths(&rows));
    let masses = [true, false].map(|keep| {
        let memory = led.decoder().cross_memory(&encoded, sources.segments(), keep).unwrap();
        led.decoder().attention_mass(&sequences.concat(), &targets, &memory, &rows, &spans).unwrap()
    });
    for (kept, folded) in masses[0].iter().zip(&masses[1]) {
        assert_eq!(kept.len(), folded.len());
        assert!(kept.iter().zip(folded).all(|(kept, folded)| (kept - folded).abs() < 1e-5), "{name}");
        let sum: f32 = kept.iter().sum();
        // Where every position is global there are no spans.
        assert!((kept.is_empty() || sum > 0.0) && sum < 1.0 + 1e-5, "{name}: {sum}");
    }
    for document in 0..pairs.len() {
        let [whole, shorter] = [2 * document, 2 * document + 1].map(|sequence| targets.range(sequence));
        let (longer, shorter) = (&masses[0][whole][..shorter.len()], &masses[0][shorter]);
        let pairs = longer.iter().flatten().zip(shorter.iter().flatten());
        let difference = pairs.map(|(one, other)| (one - other).abs()).fold(0.0, f32::max);
        // A GPU's products add up in an order that follows the number of rows.
        let most = if encoded.device().is_cpu() { 0.0 } else { 1e-6 };
        assert!(difference <= most, "{name}: a later token matters by {difference:e}");
    }
}
