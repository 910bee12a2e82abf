//! From records to what encoder and loss see: layouts, global positions, limits.

use crate::support::{fixture, record, sample, small_tokenizer};
use epitome_data::{Error, Limits, Record, RecordReader, Result, Source, Target, Targets, Tokenizer, read_examples};

const BOS: u32 = 0;
const EOS: u32 = 2;
const SEP: u32 = 700;

fn with_separator() -> Tokenizer {
    Tokenizer::load(fixture("document_separator")).unwrap()
}

fn source(tokenizer: &Tokenizer, json: &str) -> (Vec<u32>, Vec<usize>) {
    let source = tokenizer.source(&record(json), None).unwrap();
    assert_eq!(source.truncated_tokens, 0);
    (source.input_ids, source.global_positions)
}

#[test]
fn one_document() {
    let tokenizer = small_tokenizer();
    let words = tokenizer.encode("some words").unwrap();
    let expected = [&[BOS][..], &words, &[EOS]].concat();
    assert_eq!(source(&tokenizer, r#"{"document": "some words"}"#), (expected.clone(), vec![0]));
    assert_eq!(tokenizer.encode_sequence("some words").unwrap(), expected);
    let separated = [&[BOS][..], &words, &[SEP, EOS]].concat();
    assert_eq!(source(&with_separator(), r#"{"document": "some words"}"#), (separated, vec![0, 1 + words.len()]));
}

#[test]
fn several_documents() {
    let tokenizer = small_tokenizer();
    let [a, b, c] = ["first", "second one", "third"].map(|text| tokenizer.encode(text).unwrap());
    let json = r#"{"documents": ["first", "", "second one", "third"]}"#;
    let (first, second) = (1 + a.len(), 2 + a.len() + b.len());
    let third = second + 1 + c.len();
    let ids = [&[BOS][..], &a, &[EOS], &b, &[EOS], &c, &[EOS]].concat();
    assert_eq!(source(&tokenizer, json), (ids, vec![0, first, second]));
    let ids = [&[BOS][..], &a, &[SEP], &b, &[SEP], &c, &[SEP, EOS]].concat();
    assert_eq!(source(&with_separator(), json), (ids, vec![0, first, second, third]));
}

#[test]
fn documents_joined_beforehand() {
    let tokenizer = with_separator();
    let [a, b, c] = ["first ", " second one", "third"].map(|text| tokenizer.encode(text).unwrap());
    let joined = r#"{"documents": ["first <doc-sep> second one", "third"]}"#;
    let ids = [&[BOS][..], &a, &[SEP], &b, &[SEP], &c, &[SEP, EOS]].concat();
    let separators = |ids: &[u32]| (0..ids.len()).filter(|&position| ids[position] == SEP).collect::<Vec<_>>();
    let positions = separators(&ids);
    assert_eq!(positions.len(), 3);
    assert_eq!(source(&tokenizer, joined), (ids, [&[0][..], &positions].concat()));
    // At the ends of a text, doubled, and in a query, whose tokens all attend globally already.
    let json = r#"{"query": "a<doc-sep>b", "document": "<doc-sep>c<doc-sep><doc-sep>d<doc-sep>"}"#;
    let (ids, global) = source(&tokenizer, json);
    let query = ids.iter().position(|&id| id == EOS).unwrap();
    let mut expected: Vec<usize> = (0..=query).chain(separators(&ids)).collect();
    expected.sort_unstable();
    expected.dedup();
    assert_eq!(separators(&ids).len(), 6);
    assert_eq!(global, expected);
    // A cut takes the positions of what it removes.
    for limit in 2..ids.len() {
        let cut = tokenizer.source(&record(json), Some(limit)).unwrap();
        assert_eq!(cut.global_positions, global.iter().copied().filter(|&p| p < limit - 1).collect::<Vec<_>>());
    }
}

#[test]
fn only_a_separator_in_a_text_attends_globally() {
    // Without `<doc-sep>` in the vocabulary, the `</s>` put between two documents does; one written in a text does not.
    let tokenizer = small_tokenizer();
    let (ids, global) = source(&tokenizer, r#"{"documents": ["a</s>b<doc-sep>c", "d"]}"#);
    let ends: Vec<usize> = (0..ids.len()).filter(|&position| ids[position] == EOS).collect();
    assert_eq!(ends.len(), 3);
    assert_eq!(global, [0, ends[1]]);
}

#[test]
fn query_in_front_attends_globally_with_its_separator() {
    let tokenizer = small_tokenizer();
    let [query, document] = ["Why is that?", "A long text."].map(|text| tokenizer.encode(text).unwrap());
    let json = r#"{"query": "Why is that?", "document": "A long text."}"#;
    let ids = [&[BOS][..], &query, &[EOS], &document, &[EOS]].concat();
    let mut global: Vec<usize> = (0..query.len() + 2).collect();
    assert_eq!(source(&tokenizer, json), (ids, global.clone()));
    let ids = [&[BOS][..], &query, &[EOS], &document, &[SEP, EOS]].concat();
    global.push(ids.len() - 2);
    assert_eq!(source(&with_separator(), json), (ids, global));
    let without = source(&tokenizer, r#"{"query": "", "document": "A long text."}"#);
    assert_eq!(without, source(&tokenizer, r#"{"document": "A long text."}"#));
}

#[test]
fn empty_documents() {
    for json in [r#"{"document": ""}"#, r#"{"documents": []}"#, r#"{"documents": ["", ""]}"#] {
        assert_eq!(source(&small_tokenizer(), json), (vec![BOS, EOS], vec![0]));
        assert_eq!(source(&with_separator(), json), (vec![BOS, EOS], vec![0]));
    }
}

#[test]
fn limits_keep_the_last_token_and_count_the_rest() {
    let tokenizer = small_tokenizer();
    let json = r#"{"documents": ["one two three", "four five six"], "query": "what?"}"#;
    let whole = tokenizer.source(&record(json), None).unwrap();
    let tokens = whole.input_ids.len();
    for limit in 2..tokens + 3 {
        let cut = tokenizer.source(&record(json), Some(limit)).unwrap();
        let kept = limit.min(tokens);
        assert_eq!(cut.truncated_tokens, tokens - kept);
        assert_eq!(cut.input_ids[..kept - 1], whole.input_ids[..kept - 1]);
        assert_eq!(cut.input_ids[kept - 1..], [EOS]);
        let mut global = whole.global_positions.clone();
        global.retain(|&position| kept == tokens || position < kept - 1);
        assert_eq!(cut.global_positions, global);
    }
    for limit in [0, 1] {
        let error = tokenizer.source(&record(json), Some(limit)).unwrap_err();
        assert!(matches!(error, Error::LimitTooSmall(given) if given == limit), "{error}");
    }
}

#[test]
fn a_cut_leaves_no_global_position_on_another_token() {
    let tokenizer = small_tokenizer();
    let json = r#"{"documents": ["one two three", "four five six"]}"#;
    let separator = tokenizer.source(&record(json), None).unwrap().global_positions[1];
    // With this limit the final token lands where the separator was.
    let cut = tokenizer.source(&record(json), Some(separator + 1)).unwrap();
    assert_eq!(cut.input_ids.len(), separator + 1);
    assert_eq!(cut.global_positions, [0]);
}

#[test]
fn tokenized_records_need_no_tokenizer() {
    let tokens = record(r#"{"input_ids": [5, 6, 7, 8], "labels": [9, -100, 3], "global_positions": [1, 3]}"#);
    let source = Source::new(&tokens, None, None).unwrap();
    let expected = Source {
        input_ids: vec![5, 6, 7, 8],
        leading_tokens: 0,
        global_positions: vec![1, 3],
        truncated_tokens: 0,
        passages: None,
    };
    assert_eq!(source, expected);
    assert_eq!(Target::new(&tokens, None, None).unwrap().labels, [9, -100, 3]);
    let cut = Source::new(&tokens, None, Some(3)).unwrap();
    assert_eq!(
        cut,
        Source {
            input_ids: vec![5, 6, 8],
            leading_tokens: 0,
            global_positions: vec![1, 2],
            truncated_tokens: 1,
            passages: None
        }
    );
    let cut = Target::new(&tokens, None, Some(2)).unwrap();
    assert_eq!(cut, Target { labels: vec![9, 3], truncated_tokens: 1 });
}

#[test]
fn text_without_tokenizer_and_records_without_target() {
    let text = record(r#"{"id": "x", "document": "a"}"#);
    let message = Source::new(&text, None, None).unwrap_err().to_string();
    assert!(message.starts_with("records.jsonl:7: ") && message.contains("tokenizer.json"), "{message}");
    let message = small_tokenizer().target(&text, None).unwrap_err().to_string();
    assert_eq!(message, "records.jsonl:7: record `x` has no `summary`, which is needed as the target");
    let tokens = record(r#"{"id": "y", "input_ids": [1], "summary": "text does not count here"}"#);
    let message = Target::new(&tokens, None, None).unwrap_err().to_string();
    assert!(message.contains("record `y` has no `labels`"), "{message}");
}

#[test]
fn targets_keep_the_leading_bos() {
    let tokenizer = small_tokenizer();
    let pair = record(r#"{"document": "", "summary": "A short summary."}"#);
    let ids: Vec<i64> = tokenizer.encode_sequence("A short summary.").unwrap().into_iter().map(i64::from).collect();
    assert_eq!(tokenizer.target(&pair, None).unwrap(), Target { labels: ids.clone(), truncated_tokens: 0 });
    let cut = tokenizer.target(&pair, Some(4)).unwrap();
    assert_eq!(cut, Target { labels: vec![ids[0], ids[1], ids[2], 2], truncated_tokens: ids.len() - 4 });
}

#[test]
fn examples_keep_the_order_and_count_what_was_cut() {
    let tokenizer = small_tokenizer();
    let records = |count: usize| {
        (0..count).map(|number| -> Result<Record> {
            let words = "word ".repeat(number % 7);
            Ok(record(&format!(r#"{{"id": {number}, "document": "{words}", "summary": "no {number}"}}"#)))
        })
    };
    let all = read_examples(records(1_000), Some(&tokenizer), Limits::default(), Targets::Required).unwrap();
    assert_eq!((all.examples.len(), all.statistics.truncated_tokens), (1_000, 0));
    for (number, example) in all.examples.iter().enumerate() {
        assert_eq!(example.id, number.to_string());
        let labels: Vec<u32> = example.labels.iter().map(|&label| u32::try_from(label).unwrap()).collect();
        assert_eq!(tokenizer.decode(&labels).unwrap(), format!("no {number}"));
    }
    let limits = Limits { max_source_length: Some(10), max_target_length: Some(2) };
    let cut = read_examples(records(70), Some(&tokenizer), limits, Targets::Required).unwrap();
    let long = |example: &&epitome_data::Example| example.input_ids.len() > 10;
    assert_eq!(cut.statistics.truncated_sources, all.examples[..70].iter().filter(long).count());
    assert_eq!(cut.statistics.truncated_targets, 70);
    let tokens = |examples: &[epitome_data::Example]| -> usize {
        examples.iter().map(|example| example.input_ids.len() + example.labels.len()).sum()
    };
    assert_eq!(tokens(&all.examples[..70]) - tokens(&cut.examples), cut.statistics.truncated_tokens);
}

#[test]
fn examples_count_what_is_empty() {
    let count = |json: &str| {
        let examples =
            read_examples([Ok(record(json))], Some(&small_tokenizer()), Limits::default(), Targets::Required).unwrap();
        assert_eq!(examples.examples.len(), 1, "{json}");
        (examples.statistics.empty_sources, examples.statistics.empty_targets)
    };
    assert_eq!(count(r#"{"document": "a", "summary": "b"}"#), (0, 0));
    assert_eq!(count(r#"{"document": "a", "summary": ""}"#), (0, 1));
    assert_eq!(count(r#"{"document": "a", "summary": " \n\u00a0"}"#), (0, 1));
    assert_eq!(count(r#"{"document": " \t", "summary": "b"}"#), (1, 0));
    assert_eq!(count(r#"{"documents": [], "query": "why?", "summary": "b"}"#), (1, 0));
    assert_eq!(count(r#"{"documents": ["", "a"], "summary": "b"}"#), (0, 0));
    assert_eq!(count(r#"{"documents": ["", " "], "summary": ""}"#), (1, 1));
    // Of a tokenized record only the labels count.
    assert_eq!(count(r#"{"input_ids": [0, 2], "labels": [0, 2], "document": "", "summary": ""}"#), (0, 0));
    let records = [r#"{"document": "", "summary": "b"}"#, r#"{"document": "a", "summary": ""}"#].repeat(300);
    let records = records.into_iter().map(|json| Ok(record(json)));
    let examples = read_examples(records, Some(&small_tokenizer()), Limits::default(), Targets::Required).unwrap();
    assert_eq!((examples.statistics.empty_sources, examples.statistics.empty_targets), (300, 300));
}

#[test]
fn the_first_faulty_record_is_the_one_named() {
    let (whole, faulty) = (r#"{"document": "a", "summary": "b"}"#, r#"{"document": "a"}"#);
    let lines = [whole; 3].into_iter().chain([faulty; 200]);
    for _ in 0..50 {
        let records = lines.clone().enumerate().map(|(index, json)| {
            let location = epitome_data::Location::line("pairs.jsonl", index + 1);
            Ok(Record::from_json(json, location).unwrap())
        });
        let read = read_examples(records, Some(&small_tokenizer()), Limits::default(), Targets::Required);
        let error = read.map(|_| ()).unwrap_err().to_string();
        assert!(error.starts_with("pairs.jsonl:4: "), "{error}");
    }
}

#[test]
fn examples_know_their_place() {
    let lines =
        &b"{\"document\": \"a\", \"summary\": \"b\"}\n\n{\"id\": \"x\", \"input_ids\": [1], \"labels\": [2]}\n"[..];
    let reader = RecordReader::from_reader(lines, "pairs.jsonl").unwrap();
    let examples =
        read_examples(reader, Some(&small_tokenizer()), Limits::default(), Targets::Required).unwrap().examples;
    let places: Vec<String> = examples.iter().map(|example| example.location.to_string()).collect();
    // The line between them is blank and counts.
    assert_eq!(places, ["pairs.jsonl:1", "pairs.jsonl:3"]);
}

#[test]
fn examples_stop_at_the_first_error() {
    let reader = RecordReader::from_reader(&b"{\"document\": \"a\", \"summary\": \"b\"}\nbad\n"[..], "x").unwrap();
    let error = read_examples(reader, Some(&small_tokenizer()), Limits::default(), Targets::Required).unwrap_err();
    assert!(error.to_string().starts_with("x:2: "), "{error}");
}

#[test]
fn sample_records_have_every_form() {
    let tokenizer = small_tokenizer();
    let records: Vec<Record> = RecordReader::open(sample("records.jsonl")).unwrap().collect::<Result<_>>().unwrap();
    let (mut several, mut queries, mut references) = (0, 0, 0);
    for record in &records {
        let source = tokenizer.source(record, None).unwrap();
        assert!(source.input_ids.len() > 100, "{}", record.id);
        several += usize::from(source.global_positions.len() == 12);
        queries += usize::from(source.global_positions.len() > 12);
        references += usize::from(record.references.len() > 1);
        assert!(tokenizer.target(record, None).unwrap().labels.len() > 10);
    }
    assert!(several >= 1 && queries >= 2 && references >= 2, "{several}, {queries}, {references} of {}", records.len());
}
