//! Joining, scores, baselines and options of an evaluation.

use epitome_eval::{
    BaselineKind, Error, Options, Prediction, Predictions, Reference, Report, SentenceSplit, SeveralReferences,
    evaluate, evaluate_streams,
};

fn prediction(id: &str, summary: &str) -> Prediction {
    Prediction { id: id.into(), summary: summary.into(), ..Prediction::default() }
}

fn reference(id: &str, references: &[&str], document: Option<&str>) -> Reference {
    let references = references.iter().map(|text| text.to_string()).collect();
    Reference { id: id.into(), references, documents: document.map(str::to_owned).into_iter().collect() }
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
    let recalls: Vec<f64> = report.per_record.iter().map(|record| record.systems[0].scores[0].1.recall).collect();
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
    let [lead, tail, _, _, oracle] = &report.baselines[..] else { panic!("the standard baselines") };
    assert_eq!((oracle.name.as_str(), oracle.upper_bound, lead.upper_bound), ("oracle", true, false));
    assert_eq!((lead.name.as_str(), lead.words, tail.name.as_str(), tail.words), ("lead", 4, "tail", 4));
    let recall = |baseline: &epitome_eval::Baseline| baseline.scores.get("rouge1").expect("always there").recall.mean;
    // Lead: two sentences, all of the first reference and nothing of the second.
    assert_eq!(recall(lead), 0.5);
    // Tail: "theta iota. Kappa lambda."; of the second record's references the one with the better F1 counts.
    assert_eq!(recall(tail), 3.0 / 5.0 / 2.0);
    assert_eq!(report.systems[0].profile.measures.is_empty.expect("always there").estimate.mean, 0.5);
    assert_eq!(report.documents.expect("documents are there").statistics.mean, 11.0);
    let oracle = report.comparisons.between("rouge1", "oracle", "predictions").expect("all are compared");
    assert_eq!((oracle.wins, oracle.losses), (0, 2), "predictions come first");
}

#[test]
fn no_baselines_unless_every_document_is_known() {
    let (predictions, mut references) = three();
    references[0].documents = vec!["One document of three.".into()];
    let report = evaluate(&predictions, &references, &Options::default()).expect("all ids match");
    assert!(report.baselines.is_empty());
    assert_eq!(report.documents, None);
    assert!(report.systems[0].by_document_length.is_empty());
}

#[test]
fn of_several_references_the_best_or_the_mean_counts() {
    let (predictions, references) = three();
    let with = |several_references| {
        let options = Options { several_references, ..Options::default() };
        let report = evaluate(&predictions, &references, &options).expect("all ids match");
        report.per_record[2].systems[0].scores[0].1.f1
    };
    // "the dog ran" against "dogs run" and "a dog ran home".
    assert!((with(SeveralReferences::Max) - 4.0 / 7.0).abs() < 1e-12);
    assert!((with(SeveralReferences::Mean) - 2.0 / 7.0).abs() < 1e-12);
}

fn system<'a>(name: &str, predictions: &'a [Prediction]) -> Predictions<'a> {
    Predictions { name: name.into(), stream: Box::new(predictions.iter().cloned().map(Ok)) }
}

#[test]
fn several_systems_are_read_side_by_side_in_any_order() {
    let (predictions, references) = three();
    let mut reversed = predictions.clone();
    reversed.reverse();
    reversed[0].summary = "rain fell".into();
    let run = |one: &[Prediction], other: &[Prediction], name: &str| {
        let references = references.clone();
        let open = || Ok(Box::new(references.clone().into_iter().map(Ok)) as Box<dyn Iterator<Item = _> + Send>);
        evaluate_streams(vec![system("one", one), system(name, other)], &open, &Options::default())
    };
    let report = run(&predictions, &reversed, "two").expect("all ids match");
    let names: Vec<&str> = report.systems.iter().map(|system| system.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert_eq!(report.scores, report.systems[0].scores);
    let pair = report.comparisons.between("rouge1", "one", "two").expect("both are compared");
    assert_eq!((pair.wins, pair.losses, pair.ties), (0, 1, 2));
    let error = run(&predictions, &reversed[..2], "two").expect_err("one is missing");
    assert!(error.to_string().starts_with("two: no prediction has the id \"c\""), "{error}");
    let error = run(&predictions, &reversed, "one").expect_err("one name");
    assert!(error.to_string().contains("one"), "{error}");
}

#[test]
fn what_a_stream_fails_with_is_the_error() {
    let (predictions, references) = three();
    let stream = Box::new([Ok(predictions[1].clone()), Err("line 2: no JSON".into())].into_iter());
    let systems = vec![Predictions { name: "one".into(), stream }];
    let options = Options { baselines: vec![BaselineKind::Lead], ..Options::default() };
    let found = evaluate_streams(systems, &|| Ok(Box::new(references.clone().into_iter().map(Ok))), &options);
    assert_eq!(found.expect_err("a line is broken").to_string(), "line 2: no JSON");
    let found = evaluate_streams(Vec::new(), &|| Err("no file".into()), &Options::default());
    assert_eq!(found.expect_err("nothing to open").to_string(), "no file");
}
