//! Extracts as an objective, and the prompts that ask for a style and a length.

use std::collections::BTreeMap;
use std::path::Path;

use epitome_data::{
    Example, Extraction, Extracts, Mixture, ObjectiveOptions, Objectives, Prompts, Record, Source, Tokenizer,
};

use crate::objectives::{BOS, EOS, TEXT, example, ids, only_extracts};
use crate::support::small_tokenizer;

/// Each is a passage, being long enough.
const LONG_SENTENCES: [&str; 3] = [
    "The cat sat on the mat with the dog and with the red one.",
    "A dog ran with the cat and then it sat with the red one!",
    "No one knows why the cat and the dog sat on 3.5 mats.",
];

/// These sentences and an end.
pub(crate) const LONG_TEXT: &str = "The cat sat on the mat with the dog and with the red one. A dog ran with the cat and then it sat \
    with the red one! No one knows why the cat and the dog sat on 3.5 mats. The end";

/// The example whose document is `LONG_TEXT`, its summary `summary`.
fn long_example(tokenizer: &Tokenizer, summary: &str) -> Example {
    let labels = tokenizer.encode_sequence(summary).unwrap().into_iter().map(i64::from).collect();
    Example { input_ids: tokenizer.encode_sequence(LONG_TEXT).unwrap(), labels, ..example(tokenizer) }
}

fn extracting(tokenizer: &Tokenizer, extract: Extraction) -> Objectives {
    let options = ObjectiveOptions { mixture: only_extracts(), extract, ..Default::default() };
    Objectives::new(options, Some(tokenizer), 5).unwrap()
}

/// The extract of `LONG_TEXT` that is drawn for `summary`.
fn extract(summary: &str, max_tokens: usize, best_first: bool) -> String {
    let tokenizer = small_tokenizer();
    let objectives = extracting(&tokenizer, Extraction { max_tokens, best_first, choice_weight: 0.0 });
    let example = long_example(&tokenizer, summary);
    let drawn = objectives.draw(example.clone(), 0, 0);
    assert_eq!(drawn.input_ids, example.input_ids, "nothing is hidden");
    assert!(objectives.longest_target() <= max_tokens + 2);
    assert!(drawn.choices.is_empty() && drawn.weights.is_empty());
    tokenizer.decode(&ids(&drawn.labels)).unwrap()
}

#[test]
fn extracts_are_the_passages_that_match_the_summary_in_the_order_that_was_asked_for() {
    let [ran, knows] = [
        " A dog ran with the cat and then it sat with the red one!",
        " No one knows why the cat and the dog sat on 3.5 mats.",
    ];
    let summary = " No one knows why the cat and the dog sat on mats. A dog ran with the cat and then it sat!";
    assert_eq!(extract(summary, 100, false), [ran, knows].concat());
    assert_eq!(extract(summary, 100, true), [knows, ran].concat(), "the longer match raises the score more");
    let room = small_tokenizer().encode(ran).unwrap().len();
    assert_eq!(extract(" Then a dog ran!", room, false), ran);
    assert_eq!(extract("zzz", 100, false), "");
}

#[test]
fn an_extract_is_chosen_among_what_an_extractive_search_permits() {
    let [first, second, _] = LONG_SENTENCES;
    for document in [LONG_TEXT, &[first, second, first].join(" ")] {
        choices_are_permitted(document, " No one knows why. A dog ran with the cat and then it sat!");
    }
}

#[test]
fn what_differs_in_white_space_only_is_one_passage() {
    let tokenizer = small_tokenizer();
    let [first, second, _] = LONG_SENTENCES;
    let document = [first, second, first].join(" ");
    let record = crate::support::record(&serde_json::json!({"document": document}).to_string());
    let source = Source::with_passages(&record, Some(&tokenizer), None).unwrap();
    let passages: Vec<_> = source.passages.iter().flatten().map(|passage| passage.tokens.clone()).collect();
    assert_eq!(passages.len(), 3);
    assert_ne!(source.input_ids[passages[0].clone()], source.input_ids[passages[2].clone()]);
    assert_eq!(source.different_passages(), passages[..2]);
}

/// The choices of the extract that is drawn for `summary` are what a search that has read `document` permits.
#[track_caller]
fn choices_are_permitted(document: &str, summary: &str) {
    let tokenizer = small_tokenizer();
    let objectives = extracting(&tokenizer, Extraction { choice_weight: 8.0, ..Extraction::default() });
    let input_ids = tokenizer.encode_sequence(document).unwrap();
    let drawn = objectives.draw(Example { input_ids, ..long_example(&tokenizer, summary) }, 0, 0);
    let labels = ids(&drawn.labels);
    assert_eq!(drawn.weights, vec![8.0; labels.len()]);

    let record = crate::support::record(&serde_json::json!({"document": document}).to_string());
    let source = Source::with_passages(&record, Some(&tokenizer), None).unwrap();
    let passages = source.different_passages();
    assert!(passages.len() > 1, "{passages:?}");
    let extracts = Extracts::new(&source.input_ids, &passages, BOS, &[EOS], usize::MAX);
    assert_eq!(drawn.choices.len(), labels.len());
    for (position, choices) in drawn.choices.iter().enumerate() {
        assert_eq!(*choices, extracts.permitted(&[&[EOS], &labels[..position]].concat()), "position {position}");
        assert!(choices.contains(&labels[position]), "position {position}");
    }
    let open = drawn.choices.iter().filter(|choices| choices.len() > 1).count();
    assert!((2..labels.len() / 2).contains(&open), "within a passage there is no choice: {:?}", drawn.choices);
}

#[test]
fn summaries_and_extracts_are_asked_for_by_style_and_length() {
    let tokenizer = small_tokenizer();
    let prompts = Prompts {
        probability: 0.5,
        words: true,
        files: BTreeMap::from([
            ("records".to_owned(), "digest".to_owned()),
            ("other".to_owned(), "abstract".to_owned()),
        ]),
        extract: "extract".to_owned(),
    };
    let mixture = Mixture { summarize: 1.0, extract: 1.0, denoise: 1.0, gap_sentences: 0.0 };
    let options = ObjectiveOptions { mixture, prompts, ..ObjectiveOptions::default() };
    let objectives = Objectives::new(options, Some(&tokenizer), 5).unwrap();
    let example = example(&tokenizer);
    let mut seen = BTreeMap::new();
    for epoch in 0..400 {
        let drawn = objectives.draw(example.clone(), 0, epoch);
        let leading: Vec<usize> = (0..drawn.leading_tokens).collect();
        assert_eq!(drawn.global_positions, leading, "a prompt attends globally");
        assert!(drawn.input_ids.len() <= objectives.most_source_tokens(example.input_ids.len(), example.labels.len()));
        let prompt = tokenizer.decode(&drawn.input_ids[..drawn.leading_tokens]).unwrap();
        *seen.entry(prompt).or_insert(0) += 1;
    }
    let prompts: Vec<&str> = seen.keys().map(String::as_str).collect();
    let expected = ["", "10 words", "digest", "digest, 10 words", "extract", "extract, 10 words", "extract, 20 words"];
    assert!(prompts.iter().all(|prompt| expected.contains(prompt)), "{seen:?}");
    assert!(expected[..5].iter().all(|prompt| seen.get(*prompt).is_some_and(|&count| count > 20)), "{seen:?}");
}

#[test]
fn extracts_are_asked_for_by_style_also_where_nothing_else_is() {
    let tokenizer = small_tokenizer();
    let prompts = Prompts { extract: "extract".to_owned(), ..Prompts::default() };
    let mixture = Mixture { summarize: 1.0, extract: 1.0, ..Mixture::default() };
    let options = ObjectiveOptions { mixture, prompts, ..ObjectiveOptions::default() };
    let objectives = Objectives::new(options, Some(&tokenizer), 5).unwrap();
    let example = example(&tokenizer);
    let drawn: Vec<Example> = (0..40).map(|epoch| objectives.draw(example.clone(), 0, epoch)).collect();
    for drawn in &drawn {
        let prompt = tokenizer.decode(&drawn.input_ids[..drawn.leading_tokens]).unwrap();
        assert_eq!(prompt, if drawn.labels == example.labels { "" } else { "extract" });
    }
    assert!(drawn.iter().any(|drawn| drawn.labels == example.labels));
    assert!(drawn.iter().any(|drawn| drawn.labels != example.labels));
}

#[test]
fn a_prompt_stands_before_the_query_as_decoding_puts_it_there() {
    let tokenizer = small_tokenizer();
    let files = BTreeMap::from([("records".to_owned(), "answer".to_owned())]);
    let prompts = Prompts { probability: 1.0, files, ..Prompts::default() };
    let options = ObjectiveOptions { mixture: Mixture::summaries(), prompts, ..ObjectiveOptions::default() };
    let objectives = Objectives::new(options, Some(&tokenizer), 5).unwrap();
    for json in [
        serde_json::json!({"document": TEXT}),
        serde_json::json!({"query": "Who sat?", "document": TEXT}),
        serde_json::json!({"query": "Who sat?", "documents": ["One.", "Two."]}),
    ] {
        let mut record: Record = crate::support::record(&json.to_string());
        let Source { input_ids, leading_tokens, global_positions, .. } = tokenizer.source(&record, None).unwrap();
        let plain = Example { input_ids, leading_tokens, global_positions, ..example(&tokenizer) };
        let drawn = objectives.draw(plain, 0, 0);
        assert!(Prompts::lead(&mut record, "answer"));
        let asked = tokenizer.source(&record, None).unwrap();
        assert_eq!((drawn.input_ids, drawn.leading_tokens), (asked.input_ids, asked.leading_tokens));
        assert_eq!(drawn.global_positions, asked.global_positions);
    }
}

#[test]
fn prompts_that_cannot_be_meant_are_refused() {
    let paths = ["data/sumpubmed/train.jsonl", "data/elife/train.jsonl"].map(Path::new);
    let of = |key: &str| BTreeMap::from([(key.to_owned(), "digest".to_owned())]);
    let named = Prompts { probability: 0.5, files: of("elife"), ..Prompts::default() };
    named.validate().unwrap();
    assert_eq!(named.unused_file(paths.into_iter()), None);
    let unknown = Prompts { files: of("elive"), ..named.clone() };
    assert_eq!(unknown.unused_file(paths.into_iter()), Some("elive"));
    let too_often = Prompts { probability: 1.5, ..named }.validate().unwrap_err();
    assert!(too_often.contains("1.5"), "{too_often}");
}
