//! Stores of examples: the same as in memory, found again by what they were made from, made again when damaged.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use epitome_data::{
    Cached, Example, ExampleSource, ExampleStore, FieldNames, Limits, Origin, RecordReader, Result, Targets,
    TokenCache, Tokenizer, read_examples,
};
use tempfile::TempDir;

use crate::support::{Column, Random, fixture, parquet, small_tokenizer};

/// Files of records with a cache of their own.
struct Place {
    directory: TempDir,
    tokenizer: Tokenizer,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), tokenizer: small_tokenizer() }
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache/tokens")
    }

    fn open(&self, source: &ExampleSource<'_>) -> Cached {
        TokenCache::new(Some(&self.cache())).examples(source).unwrap()
    }

    /// The one store of the cache.
    fn store(&self) -> PathBuf {
        let mut entries = fs::read_dir(self.cache()).unwrap().map(|entry| entry.unwrap().path());
        let store = entries.next().unwrap();
        assert_eq!((entries.next(), store.extension().unwrap().to_str()), (None, Some("tokens")));
        store
    }
}

fn source<'a>(paths: &'a [String], tokenizer: &'a Tokenizer, fields: &'a FieldNames) -> ExampleSource<'a> {
    ExampleSource {
        paths,
        fields,
        max_records: None,
        tokenizer: Some(tokenizer),
        limits: Limits::default(),
        targets: Targets::IfPresent,
        skip_bad_records: false,
    }
}

/// Records of every form, with empty ones.
fn lines(count: usize) -> String {
    let mut random = Random(count as u64);
    let mut lines = String::new();
    for number in 0..count {
        let text = serde_json::to_string(&random.text(60)).unwrap();
        lines += &match number % 4 {
            0 => format!("{{\"id\": \"é{number}\", \"document\": {text}, \"summary\": \"no {number}\"}}\n"),
            1 => format!("{{\"documents\": [{text}, \"b\"], \"query\": \"why?\", \"summary\": \"\"}}\n\n"),
            2 => format!(
                "{{\"input_ids\": [0, {number}, 2], \"labels\": [-100, 4000000000], \"global_positions\": [2]}}\n"
            ),
            _ => format!("{{\"document\": {text}}}\n"),
        };
    }
    lines
}

fn all(store: &ExampleStore) -> Vec<Example> {
    store.iter().collect::<Result<_>>().unwrap()
}

#[test]
fn a_store_holds_what_memory_would() {
    let place = Place::new();
    let rows = Column::Texts(vec![Some(b"first"), Some(b"second")]);
    let paths = [
        place.write("a.jsonl", lines(700)),
        place.write("b.parquet", parquet(&[("document", rows)], (2, 1), parquet::basic::Compression::SNAPPY)),
        place.write("c.jsonl", ""),
        place.write("d.jsonl", lines(3)),
    ];
    let fields = FieldNames::default();
    let source = ExampleSource {
        limits: Limits { max_source_length: Some(40), max_target_length: Some(4) },
        ..source(&paths, &place.tokenizer, &fields)
    };
    let records = RecordReader::open_all(&paths).unwrap();
    let expected = read_examples(records, source.tokenizer, source.limits, source.targets).unwrap();
    for is_found in [false, true] {
        let Cached { examples: store, origin, warnings } = place.open(&source);
        let path = place.store();
        assert_eq!(origin, if is_found { Origin::Found(path) } else { Origin::Kept(path) });
        assert_eq!(warnings, [""; 0]);
        assert_eq!(all(&store), expected.examples);
        assert_eq!((store.statistics(), store.len()), (&expected.statistics, 705));
        for (index, example) in expected.examples.iter().enumerate() {
            assert_eq!(store.source_length(index), example.input_ids.len());
            assert_eq!(store.target_length(index), example.labels.len());
        }
    }
}

#[test]
fn anything_else_makes_another_store() {
    let place = Place::new();
    let paths =
        [place.write("a.jsonl", "{\"document\": \"text\", \"text\": \"t\"}\n"), place.write("b.jsonl", lines(2))];
    let (own, plain) = (FieldNames::default(), small_tokenizer());
    let renamed: FieldNames = serde_json::from_str(r#"{"query": "document", "document": "text"}"#).unwrap();
    let separator = Tokenizer::load(fixture("document_separator")).unwrap();
    let base = source(&paths[..1], &plain, &own);
    let swapped = [paths[1].clone(), paths[0].clone()];
    let copied = [place.write("copy.jsonl", fs::read(&paths[0]).unwrap())];
    let others = [
        ExampleSource { fields: &renamed, ..base.clone() },
        ExampleSource { tokenizer: Some(&separator), ..base.clone() },
        ExampleSource { max_records: Some(1), ..base.clone() },
        ExampleSource { targets: Targets::Ignored, ..base.clone() },
        ExampleSource { limits: Limits { max_source_length: Some(9), max_target_length: None }, ..base.clone() },
        ExampleSource { limits: Limits { max_source_length: None, max_target_length: Some(9) }, ..base.clone() },
        ExampleSource { paths: &paths, ..base.clone() },
        ExampleSource { paths: &swapped, ..base.clone() },
        ExampleSource { skip_bad_records: true, ..base.clone() },
    ];
    let is_found = |source: &ExampleSource<'_>| matches!(place.open(source).origin, Origin::Found(_));
    assert!(!is_found(&base) && is_found(&base));
    for (number, other) in others.iter().enumerate() {
        assert!(!is_found(other), "{number}");
        assert!(is_found(other) && is_found(&base), "{number}");
    }
    let same_content = ExampleSource { paths: &copied, ..base.clone() };
    assert!(is_found(&same_content), "names do not matter");
    assert!(
        place.open(&same_content).examples.get(0).unwrap().location.file.ends_with("copy.jsonl"),
        "but are those of now"
    );
    place.write("a.jsonl", "{\"document\": \"test\", \"text\": \"t\"}\n");
    assert!(!is_found(&base), "a letter of the file has changed");
}

#[test]
fn bad_records_are_listed_and_left_out_where_that_is_asked_for() {
    let place = Place::new();
    let paths = [
        place.write("a.jsonl", "{\"document\": \"a\", \"summary\": \"b\"}\nno JSON\n{\"document\": \"c\"}\n"),
        place.write("b.jsonl", "{\"document\": \"d\", \"summary\": \"e\"}\n{\"summary\": \"f\"}\n"),
    ];
    let fields = FieldNames::default();
    let strict = ExampleSource { targets: Targets::Required, ..source(&paths, &place.tokenizer, &fields) };
    let error = TokenCache::new(Some(&place.cache())).examples(&strict).unwrap_err();
    assert!(error.to_string().contains("a.jsonl:2"), "{error}");
    let lenient = ExampleSource { skip_bad_records: true, ..strict.clone() };
    let mut fingerprints = HashSet::new();
    for origin in ["kept", "found"] {
        let store = place.open(&lenient).examples;
        fingerprints.insert(store.fingerprint());
        let skipped = &store.statistics().skipped;
        let places = ["a.jsonl:2", "a.jsonl:3", "b.jsonl:2"];
        assert!(
            skipped.len() == 3 && skipped.iter().zip(places).all(|(one, place)| one.contains(place)),
            "{skipped:?}"
        );
        let numbers: Vec<_> = all(&store).iter().map(|example| example.location.number).collect();
        assert_eq!(numbers, [1, 1], "{origin}");
    }
    let first = place.open(&ExampleSource { max_records: Some(2), ..lenient.clone() }).examples;
    assert_eq!((first.len(), first.statistics().skipped.len()), (1, 1), "the bad ones among the first count");
    let copied = [place.write("copy.jsonl", fs::read(&paths[0]).unwrap()), paths[1].clone()];
    let copy = place.open(&ExampleSource { paths: &copied, ..lenient.clone() }).examples;
    assert!(copy.statistics().skipped[0].contains("copy.jsonl:2"));
    assert_eq!(fingerprints, HashSet::from([copy.fingerprint()]), "where the examples came from makes no difference");
    assert!(fingerprints.insert(first.fingerprint()));
}

#[test]
fn what_is_not_retained_is_as_if_it_were_not_there() {
    let place = Place::new();
    let paths = [place.write("a.jsonl", lines(40))];
    let fields = FieldNames::default();
    let mut store = place.open(&source(&paths, &place.tokenizer, &fields)).examples;
    let mut expected = all(&store);
    let mut fingerprints = HashSet::from([store.fingerprint()]);
    for divisor in [3, 2] {
        let keeps = |example: &Example| !example.input_ids.len().is_multiple_of(divisor);
        store.retain(keeps).unwrap();
        expected.retain(keeps);
        assert!(!expected.is_empty() && expected.len() < 40);
        assert_eq!(all(&store), expected);
        assert_eq!(store.source_length(expected.len() - 1), expected.last().unwrap().input_ids.len());
        assert!(fingerprints.insert(store.fingerprint()));
    }
    store.retain(|_| false).unwrap();
    assert!(store.is_empty() && store.iter().next().is_none());
}

#[test]
fn a_damaged_store_is_made_again() {
    let place = Place::new();
    let paths = [place.write("a.jsonl", lines(40))];
    let fields = FieldNames::default();
    let source = source(&paths, &place.tokenizer, &fields);
    let expected = all(&place.open(&source).examples);
    let path = place.store();
    let bytes = fs::read(&path).unwrap();
    let index = u64::from_le_bytes(bytes[16..24].try_into().unwrap()) as usize;
    let flipped = |at: usize| {
        let mut bytes = bytes.clone();
        bytes[at] ^= 4;
        bytes
    };
    let torn = |length: usize| bytes[..length].to_vec();
    let longer = [&bytes[..], b"\0"].concat();
    let damages = [torn(0), torn(63), torn(index), torn(bytes.len() - 1), longer, flipped(3), flipped(9), flipped(40)];
    for (number, damaged) in damages.into_iter().chain([flipped(index), flipped(bytes.len() - 2)]).enumerate() {
        fs::write(&path, damaged).unwrap();
        let Cached { examples: store, origin, warnings } = place.open(&source);
        assert_eq!(origin, Origin::Kept(path.clone()), "{number}");
        assert!(warnings[0].contains("are damaged") && warnings[0].contains("made again"), "{number}: {warnings:?}");
        assert_eq!(all(&store), expected);
        assert_eq!(fs::read(place.store()).unwrap(), bytes, "{number}");
    }
    fs::write(&path, flipped(index - 1)).unwrap();
    let store = place.open(&source).examples;
    assert_eq!(store.get(38).unwrap(), expected[38]);
    let error = store.get(39).unwrap_err().to_string();
    assert!(error.contains("example 40 differs") && error.contains("delete the file"), "{error}");
}

#[test]
fn what_stops_before_the_end_leaves_nothing() {
    let place = Place::new();
    let paths = [place.write("a.jsonl", lines(300) + "not json\n")];
    let fields = FieldNames::default();
    let error = TokenCache::new(Some(&place.cache())).examples(&source(&paths, &place.tokenizer, &fields));
    assert!(error.err().unwrap().to_string().contains("a.jsonl:376: not valid JSON"));
    assert_eq!(fs::read_dir(place.cache()).unwrap().count(), 0);
}

#[test]
fn a_cache_that_cannot_be_written_is_done_without() {
    let place = Place::new();
    let paths = [place.write("a.jsonl", lines(9))];
    let fields = FieldNames::default();
    // A file where the directory should be: even an administrator cannot write there.
    fs::write(place.directory.path().join("cache"), "").unwrap();
    let Cached { examples: store, origin, warnings } = place.open(&source(&paths, &place.tokenizer, &fields));
    assert!(warnings.len() == 1 && warnings[0].contains("cannot be written to"), "{warnings:?}");
    assert_eq!(origin, Origin::Made);
    assert_eq!(store.len(), 9);
    assert_eq!(all(&store)[0].id, "é0");
}

#[test]
fn runs_that_begin_together_do_not_collide() {
    let place = Place::new();
    let paths = [place.write("a.jsonl", lines(600))];
    let fields = FieldNames::default();
    let source = source(&paths, &place.tokenizer, &fields);
    let expected = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..6).map(|_| scope.spawn(|| all(&place.open(&source).examples))).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect::<Vec<_>>()
    });
    assert!(expected.iter().all(|examples| *examples == expected[0]));
    assert_eq!(place.open(&source).origin, Origin::Found(place.store()));
}

#[test]
fn what_ended_runs_left_is_removed() {
    let place = Place::new();
    let paths = [place.write("a.jsonl", lines(3))];
    fs::create_dir_all(place.cache()).unwrap();
    let [old, new, foreign] =
        ["epitome-old.partial", "epitome-new.partial", "download.partial"].map(|name| place.cache().join(name));
    let age = |path: &Path, hours: u64| {
        let file = fs::File::create(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600)).unwrap();
    };
    age(&old, 48);
    age(&new, 2);
    age(&foreign, 72);
    place.open(&source(&paths, &place.tokenizer, &FieldNames::default()));
    assert!(!old.exists() && new.exists());
    assert!(foreign.exists(), "the directory may hold files of others");
}

#[test]
fn stores_that_no_run_has_used_for_long_make_room() {
    let place = Place::new();
    let paths = [place.write("a.jsonl", lines(3)), place.write("b.jsonl", lines(4)), place.write("c.jsonl", lines(5))];
    let fields = FieldNames::default();
    let open = |index: usize| place.open(&source(&paths[index..=index], &place.tokenizer, &fields)).origin;
    let stores = || fs::read_dir(place.cache()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(100 * 24 * 3600);
    let age_all = || {
        stores().iter().for_each(|path| fs::File::open(path).unwrap().set_modified(long_ago).unwrap());
    };
    open(0);
    open(1);
    let foreign = place.cache().join("of others.tokens");
    fs::write(&foreign, "").unwrap();
    age_all();
    assert!(matches!(open(1), Origin::Found(_)));
    assert_eq!(stores().len(), 3, "only a new store takes room");
    open(2);
    assert!(foreign.exists());
    assert!(matches!(open(1), Origin::Found(_)), "it was used in between");
    assert!(matches!(open(0), Origin::Kept(_)));
}
