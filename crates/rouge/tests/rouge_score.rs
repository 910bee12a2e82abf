//! Equality with Python's `rouge_score` 0.1.2 on the pairs that `fixtures/make.py` wrote.

use rouge::{Options, Rouge, Score, score, score_batch, score_multi};

const TOLERANCE: f64 = 1e-9;

struct Case {
    name: &'static str,
    prediction: String,
    references: Vec<String>,
    /// Without and with the stemmer.
    expected: [Vec<f64>; 2],
}

fn cases() -> Vec<Case> {
    let rows = include_str!("fixtures/pairs.tsv").lines();
    rows.filter(|row| !row.starts_with('#')).map(parse).collect()
}

fn parse(row: &'static str) -> Case {
    let fields: Vec<&str> = row.split('\t').collect();
    let numbers = fields[3..].iter().map(|number| number.parse().expect("a number"));
    let numbers: Vec<f64> = numbers.collect();
    assert_eq!(numbers.len(), 24, "{row}");
    Case {
        name: fields[0],
        prediction: text(fields[1]),
        references: fields[2].split('|').map(text).collect(),
        expected: [numbers[..12].to_vec(), numbers[12..].to_vec()],
    }
}

fn text(field: &str) -> String {
    match field.strip_prefix('@') {
        Some(recipe) => generated(recipe),
        None => unescaped(field),
    }
}

fn unescaped(field: &str) -> String {
    let mut out = String::new();
    let mut letters = field.chars();
    while let Some(letter) = letters.next() {
        let escape = if letter == '\\' { letters.next() } else { None };
        out.push(match escape {
            None => letter,
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('p') => '|',
            Some(other) => other,
        });
    }
    out
}

/// The same arithmetic as `generated` in `fixtures/make.py`.
fn generated(recipe: &str) -> String {
    let numbers: Vec<u64> = recipe.split(',').map(|n| n.parse().expect("a number")).collect();
    let [mut state, words, vocabulary, line] = numbers[..] else {
        panic!("four numbers in {recipe}");
    };
    let mut out = String::new();
    for index in 1..=words {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let fraction = (state >> 40) as f64 / (1u64 << 24) as f64;
        let word = (fraction * fraction * vocabulary as f64) as u64;
        let breaks = line > 0 && index % line == 0;
        out += &format!("w{word}{}", if breaks { '\n' } else { ' ' });
    }
    out
}

fn numbers(found: &Rouge) -> Vec<f64> {
    let scores = [found.rouge1, found.rouge2, found.rouge_l, found.rouge_lsum];
    let values = |score: &Score| [score.precision, score.recall, score.f1];
    scores.iter().flat_map(values).collect()
}

fn difference(found: &Rouge, expected: &[f64]) -> f64 {
    let differences = numbers(found).into_iter().zip(expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, f64::max)
}

#[track_caller]
fn check_all(stemmer: bool) {
    let cases = cases();
    assert!(cases.len() >= 80, "only {} cases", cases.len());
    for case in cases {
        let found = score_multi(&case.references, &case.prediction, &Options { stemmer });
        let expected = &case.expected[usize::from(stemmer)];
        let difference = difference(&found, expected);
        assert!(difference < TOLERANCE, "{}: {found:?}, not {expected:?}", case.name);
    }
}

#[test]
fn equal_to_rouge_score_without_stemmer() {
    check_all(false);
}

#[test]
fn equal_to_rouge_score_with_stemmer() {
    check_all(true);
}

#[test]
fn fixture_is_demanding() {
    let cases = cases();
    let differing = cases.iter().filter(|case| case.expected[0] != case.expected[1]);
    assert!(differing.count() > 30, "the stemmer changes too few cases");
    let lines_matter = cases.iter().filter(|case| case.expected[0][6..9] != case.expected[0][9..]);
    assert!(lines_matter.count() > 30, "ROUGE-L and Lsum differ in too few cases");
}

#[test]
fn batches_keep_the_order() {
    let cases = cases();
    let single = cases.iter().filter(|case| case.references.len() == 1);
    let pairs: Vec<_> = single.map(|case| (&case.references[0], &case.prediction)).collect();
    let options = Options { stemmer: true };
    let one_by_one: Vec<Rouge> = pairs.iter().map(|(r, p)| score(r, p, &options)).collect();
    assert_eq!(score_batch(&pairs, &options), one_by_one);
}

#[test]
fn whole_documents_fit_in_memory() {
    // Cell by cell the table would take 40 GB, even as bits 1.2 GB.
    let reference = generated("11,100000,50000,0");
    let prediction = generated("12,100000,50000,0");
    let found = score(&reference, &prediction, &Options::default());
    assert!(found.rouge_l.f1 > 0.0);
    // With one line on each side the union is the one subsequence, limited by counts that it cannot exceed.
    assert_eq!(found.rouge_lsum, found.rouge_l);
    let halves = prediction.split(' ').step_by(2).collect::<Vec<_>>().join(" ");
    assert_eq!(score(&prediction, &halves, &Options::default()).rouge_l.precision, 1.0);
}
