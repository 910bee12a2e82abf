//! A document's result does not depend on its batch.

use epitome_decode::{Document, GenerationConfig, Hypothesis, generate};

use crate::model::{HashStepper, Source, config};

const VOCAB: usize = 37;

/// Documents of different lengths, some of which end early and some late.
fn sources() -> Vec<(Source, Vec<u32>)> {
    (0..40_u32)
        .map(|index| {
            let eos_bias = [-32, 0, 24, 40][index as usize % 4];
            let source = Source { seed: index * 7_919 + 5, eos_bias, eos_slope: i64::from(index % 3) };
            (source, source.encoder_ids(index as usize % 23, VOCAB))
        })
        .collect()
}

fn run(batch: &[&(Source, Vec<u32>)], config: &GenerationConfig) -> (Vec<Vec<Hypothesis>>, Vec<usize>) {
    let sources: Vec<Source> = batch.iter().map(|(source, _)| *source).collect();
    let documents: Vec<Document> =
        batch.iter().map(|(_, encoder_ids)| Document { encoder_ids, passages: &[] }).collect();
    let mut stepper = HashStepper::new(&sources, VOCAB, &config.eos_token_id);
    let found = generate(&mut stepper, &documents, config, &mut |_| {}).unwrap();
    (found, stepper.steps)
}

const OPTIONS: [&str; 6] = [
    r#"{"num_beams": 1, "max_length": 30, "no_repeat_ngram_size": 2, "encoder_repetition_penalty": 1.2}"#,
    r#"{"num_beams": 1, "max_length": 30, "repetition_penalty": 1.3, "forced_eos_token_id": 2}"#,
    r#"{"num_beams": 4, "max_length": 30, "num_return_sequences": 4, "encoder_no_repeat_ngram_size": 2}"#,
    r#"{"num_beams": 3, "max_length": 20, "early_stopping": true, "forced_bos_token_id": 0, "length_penalty": 2.0}"#,
    r#"{"num_beams": 5, "max_length": 25, "early_stopping": "never", "length_penalty": 0.8, "num_return_sequences": 2}"#,
    r#"{"num_beams": 2, "max_length": 25, "min_length": 6, "no_repeat_ngram_size": 3, "encoder_repetition_penalty": 0.8}"#,
];

#[test]
fn alone_and_in_any_batch_the_same() {
    let sources = sources();
    let mut random = 1_u32;
    for options in OPTIONS {
        let config = config(options);
        let alone: Vec<Vec<Hypothesis>> = sources.iter().map(|source| run(&[source], &config).0.remove(0)).collect();
        let lengths: Vec<usize> = alone.iter().map(|found| found[0].tokens.len()).collect();
        assert!(lengths.iter().min() < lengths.iter().max(), "the test needs documents of different lengths");
        for size in [2, 3, 5, 8, 40] {
            let chosen: Vec<usize> = (0..size)
                .map(|_| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    random as usize / 65_536 % sources.len()
                })
                .collect();
            let batch: Vec<_> = chosen.iter().map(|&index| &sources[index]).collect();
            for (&index, found) in chosen.iter().zip(run(&batch, &config).0) {
                assert_eq!(found, alone[index], "document {index} in a batch of {size}: {options}");
            }
        }
    }
}

#[test]
fn finished_documents_leave_the_batch() {
    let sources = sources();
    for options in OPTIONS {
        let config = config(options);
        let batch: Vec<_> = sources.iter().collect();
        let (_, steps) = run(&batch, &config);
        assert_eq!(steps[0], sources.len(), "one row a document to begin with");
        let alone: usize = batch.iter().map(|source| run(&[source], &config).1.iter().sum::<usize>()).sum();
        assert_eq!(steps.iter().sum::<usize>(), alone, "no row is stepped for a document that has ended: {options}");
    }
}

#[test]
fn progress_counts_tokens_and_documents() {
    let sources = sources();
    let config = config(OPTIONS[3]);
    let batch: Vec<Source> = sources.iter().map(|(source, _)| *source).collect();
    let documents: Vec<Document> =
        sources.iter().map(|(_, encoder_ids)| Document { encoder_ids, passages: &[] }).collect();
    let mut stepper = HashStepper::new(&batch, VOCAB, &[2]);
    let mut seen = Vec::new();
    generate(&mut stepper, &documents, &config, &mut |progress| seen.push(progress)).unwrap();
    assert!(seen.iter().enumerate().all(|(step, progress)| progress.generated == step + 1));
    assert!(seen.iter().all(|progress| progress.max_new_tokens == 19 && progress.documents == 40));
    assert!(seen.is_sorted_by_key(|progress| progress.finished));
    assert_eq!(seen.iter().map(|progress| progress.rows).collect::<Vec<_>>(), stepper.steps);
    assert_eq!(seen.last().unwrap().finished, 40);
}
