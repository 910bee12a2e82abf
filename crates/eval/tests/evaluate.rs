//! Joining, scores, baselines and options of an evaluation.

use epitome_eval::{Error, Options, Prediction, Reference, Report, SentenceSplit, baselines, evaluate};

fn prediction(id: &str, summary: &str) -> Prediction {
    Prediction { id: id.into(), summary: summary.into() }
}

fn reference(id: &str, references: &[&str], document: Option<&str>) -> Reference {
    let references = references.iter().map(|text| text.to_string()).collect();
    Reference { id: id.into(), references, document: document.map(str::to_owned) }
}

fn three() -> (Vec<Prediction>, Vec<Reference>) {
    let predictions =
        [prediction("c", "the dog ran"), prediction("a", "a cat sat on a mat"), prediction("b", "nothing in common")];
    let references = [
        reference("a", &["the cat sat on the mat"], None),
        reference("b", &["rain fell"], None),
        reference("c", &["dogs run", "a dog ran home"], None),
    ];
    (predictions.to_vec(), references.to_vec())
}

#[track_caller]
fn check_error(predictions: &[Prediction], references: &[Reference], expected: &str) -> Error {
    let error = evaluate(predictions, references, &Options::default()).expect_err(expected);
    assert!(error.to_string().contains(expected), "{error}");
    error
}

fn f1(report: &Report, metric: &str) -> f64 {
    report.scores.get(metric).expect("the metric was asked for").f1.mean
}

#[test]
fn joined_by_id_in_the_order_of_the_references() {
    let (predictions, references) = three();
    let report = evaluate(&predictions, &references, &Options::default()).expect("all ids match");
    let ids: Vec<&str> = report.per_record.iter().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c"]);
    let recalls: Vec<f64> = report.per_record.iter().map(|record| record.scores[0].1.recall).collect();
    assert_eq!(recalls, [4.0 / 6.0, 0.0, 2.0 / 4.0]);
    assert!((f1(&report, "rouge1") - (4.0 / 6.0 + 4.0 / 7.0) / 3.0).abs() < 1e-12);
    let mut reordered = predictions.clone();
    reordered.reverse();
    assert_eq!(evaluate(&reordered, &references, &Options::default()).expect("all ids match"), report);
}

#[test]
fn missing_and_doubled_ids_are_named() {
    let (predictions, references) = three();
    check_error(&predictions[1..], &references, "\"c\"");
    check_error(&predictions[..1], &references, "\"a\" (nor 1 more)");
    check_error(&predictions, &references[..2], "no reference record has the id \"c\";");
    let mut doubled = predictions.clone();
    doubled.push(prediction("a", "again"));
    check_error(&doubled, &references, "two predictions have the id \"a\"");
    let mut doubled = references.clone();
    doubled.push(references[1].clone());
    check_error(&predictions, &doubled, "two reference records have the id \"b\"");
}

#[test]
fn nothing_to_compare_with() {
    let error = check_error(&[], &[], "no records");
    assert!(matches!(error, Error::NoRecords));
    check_error(&[prediction("a", "x")], &[reference("a", &[], None)], "\"a\" has no reference text");
    let zero = Options { extra_ngrams: vec![0], ..Options::default() };
    let (predictions, references) = three();
    assert!(matches!(evaluate(&predictions, &references, &zero), Err(Error::ZeroNgram)));
}

#[test]
fn options_change_the_scores() {
    let predictions = [prediction("a", "Dogs ran. Cats sat.")];
    let references = [reference("a", &["The cat sat. The dog ran."], None)];
    let with = |options: Options| evaluate(&predictions, &references, &options).expect("one record");
    let plain = with(Options::default());
    let stemmed = with(Options { stemmer: true, ..Options::default() });
    assert_eq!((f1(&plain, "rouge1"), f1(&stemmed, "rouge1")), (2.0 * 2.0 / 10.0, 2.0 * 4.0 / 10.0));
    let split = with(Options { sentence_split: SentenceSplit::Period, ..Options::default() });
    assert_eq!(f1(&split, "rougeL"), f1(&plain, "rougeL"));
    assert_eq!((f1(&plain, "rougeLsum"), f1(&split, "rougeLsum")), (2.0 * 1.0 / 10.0, 2.0 * 2.0 / 10.0));
    let more = with(Options { extra_ngrams: vec![4, 2, 3], ..Options::default() });
    let metrics: Vec<String> = more.scores.0.iter().map(|(metric, _)| metric.to_string()).collect();
    assert_eq!(metrics, ["rouge1", "rouge2", "rouge3", "rouge4", "rougeL", "rougeLsum"]);
}

#[test]
fn intervals_follow_seed_and_resamples() {
    let (predictions, references) = three();
    let with = |bootstrap, seed| {
        let options = Options { bootstrap, seed, ..Options::default() };
        evaluate(&predictions, &references, &options).expect("all ids match").scores
    };
    let of = |scores: &epitome_eval::Scores| scores.get("rouge1").expect("always there").f1;
    assert_eq!(with(50, 1), with(50, 1));
    assert_ne!(with(50, 1), with(50, 2));
    let unsampled = of(&with(0, 1));
    assert_eq!((unsampled.low, unsampled.mid, unsampled.high), (unsampled.mean, unsampled.mean, unsampled.mean));
    let sampled = of(&with(1000, 1));
    assert!(sampled.low < sampled.mean && sampled.mean < sampled.high);
    assert_eq!((sampled.low, sampled.high), (0.0, 4.0 / 6.0));
}

#[test]
fn baselines_are_as_long_as_the_mean_reference() {
    let document = "Alpha beta gamma. Delta epsilon. Zeta eta theta iota. Kappa lambda.";
    let predictions = [prediction("a", ""), prediction("b", "Alpha")];
    let references = [
        reference("a", &["Alpha beta gamma delta epsilon"], Some(document)),
        reference("b", &["kappa lambda mu", "iota kappa lambda mu nu"], Some(document)),
    ];
    let report = evaluate(&predictions, &references, &Options::default()).expect("two records");
    // (5 + 3) / 2 words.
    let [lead, tail] = &report.baselines[..] else { panic!("lead and tail") };
    assert_eq!((lead.name.as_str(), lead.words, tail.name.as_str(), tail.words), ("lead", 4, "tail", 4));
    let recall = |baseline: &epitome_eval::Baseline| baseline.scores.get("rouge1").expect("always there").recall.mean;
    // Lead: two sentences, all of the first reference and nothing of the second.
    assert_eq!(recall(lead), 0.5);
    // Tail: "theta iota. Kappa lambda."; of the second record's references the one with the better F1 counts.
    assert_eq!(recall(tail), 3.0 / 5.0 / 2.0);
    assert_eq!(report.lengths.empty_predictions, 1);
    assert_eq!(report.lengths.documents.expect("documents are there").mean, 11.0);
}

#[test]
fn no_baselines_unless_every_document_is_known() {
    let (predictions, mut references) = three();
    references[0].document = Some("One document of three.".into());
    let report = evaluate(&predictions, &references, &Options::default()).expect("all ids match");
    assert!(report.baselines.is_empty());
    assert_eq!(report.lengths.documents, None);
}

#[test]
fn baselines_alone_are_those_of_the_report() {
    let predictions = [prediction("a", "x")];
    let references = [reference("a", &["one two three four"], Some("Zero one two. Three four. Five."))];
    let options = Options { bootstrap: 20, seed: 3, ..Options::default() };
    let report = evaluate(&predictions, &references, &options).expect("one record");
    assert_eq!(baselines(&references, &options).expect("one record"), report.baselines);
    assert!(matches!(baselines(&[], &options), Err(Error::NoRecords)));
    assert!(baselines(&[reference("a", &[], None)], &options).is_err());
}
