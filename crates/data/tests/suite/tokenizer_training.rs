//! Learning a vocabulary: LED's ids, nothing left to chance, and files that load again with the same ids.

use crate::support::{Random, sample};
use epitome_data::{Error, RecordReader, Result, Tokenizer, TrainerOptions, read_document};

fn sample_texts() -> Vec<String> {
    ["elife-06664.txt", "signal-red.txt", "ami-is1003a.txt"].map(|name| read_document(sample(name)).unwrap()).into()
}

fn train(texts: &[String], options: &TrainerOptions) -> Tokenizer {
    Tokenizer::train(texts.iter().map(Ok), options).unwrap()
}

fn files(directory: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn most_frequent_pair_first_and_the_smaller_ids_on_a_tie() {
    // Three times "ab", twice "xy" and "cd": a tie that the byte with the smaller id decides.
    let texts = ["ab".to_owned(), "ab".to_owned(), "xy\ncd\nab\nxy\ncd".to_owned()];
    let tokenizer = train(&texts, &TrainerOptions::new(261 + 3));
    let learnt: Vec<String> = (260..264).map(|id| tokenizer.id_to_token(id).unwrap()).collect();
    assert_eq!(learnt, ["ab", "cd", "xy", "<mask>"]);
}

#[test]
fn merges_build_on_merges() {
    let tokenizer = train(&["banana banana banana".to_owned()], &TrainerOptions::new(261 + 50));
    // " banana" twice, "banana" once below the minimum: everything both have in common is learnt, then nothing more.
    let with_space = tokenizer.encode(" banana").unwrap();
    assert_eq!(with_space.len(), 1, "{with_space:?}");
    assert!(tokenizer.vocab_size() < 261 + 50);
    assert_eq!(tokenizer.token_to_id("<mask>"), Some(tokenizer.vocab_size() as u32 - 1));
}

#[test]
fn special_tokens_and_size() {
    let texts = sample_texts();
    let tokenizer = train(&texts, &TrainerOptions::new(1_000));
    let special = tokenizer.special_tokens();
    assert_eq!(tokenizer.vocab_size(), 1_000);
    assert_eq!((special.bos, special.pad, special.eos, special.unk), (0, 1, 2, Some(3)));
    assert_eq!((special.mask, special.document_separator), (Some(999), None));
    let options = TrainerOptions { document_separator: true, ..TrainerOptions::new(1_000) };
    let special = train(&texts, &options).special_tokens();
    assert_eq!((special.mask, special.document_separator), (Some(998), Some(999)));
}

#[test]
fn every_byte_is_known_even_without_text() {
    let tokenizer = Tokenizer::train(std::iter::empty::<Result<String>>(), &TrainerOptions::new(500)).unwrap();
    assert_eq!(tokenizer.vocab_size(), 261);
    let mut random = Random(3);
    for _ in 0..200 {
        let text = random.text(20);
        let ids = tokenizer.encode(&text).unwrap();
        assert_eq!(ids.len(), text.len(), "{text:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn same_texts_same_files_whatever_the_threads() {
    let texts = sample_texts();
    let mut written = Vec::new();
    for threads in [1, 2, 5] {
        let directory = tempfile::tempdir().unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| train(&texts, &TrainerOptions::new(2_000))).save(directory.path()).unwrap();
        written.push(files(directory.path()));
    }
    assert_eq!(written[0], written[1]);
    assert_eq!(written[0], written[2]);
}

#[test]
fn saved_files_load_with_the_same_ids_in_both_forms() {
    for document_separator in [false, true] {
        let options = TrainerOptions { document_separator, ..TrainerOptions::new(1_200) };
        let trained = train(&sample_texts(), &options);
        let directory = tempfile::tempdir().unwrap();
        trained.save(directory.path()).unwrap();
        let whole = Tokenizer::load(directory.path()).unwrap();
        std::fs::remove_file(directory.path().join("tokenizer.json")).unwrap();
        let from_vocab = Tokenizer::load(directory.path()).unwrap();
        let mut random = Random(4);
        for _ in 0..300 {
            let text = format!("{} <mask>{}</s> <doc-sep>", random.text(20), random.text(20));
            let ids = trained.encode(&text).unwrap();
            assert_eq!(ids, whole.encode(&text).unwrap(), "{text:?}");
            assert_eq!(ids, from_vocab.encode(&text).unwrap(), "{text:?}");
            assert_eq!(trained.decode(&ids).unwrap(), from_vocab.decode(&ids).unwrap());
        }
        for tokenizer in [whole, from_vocab] {
            assert_eq!(tokenizer.special_tokens(), trained.special_tokens());
            assert_eq!(tokenizer.vocab_size(), 1_200);
        }
    }
}

#[test]
fn saving_again_writes_the_same_files_and_removes_what_is_outdated() {
    let texts = sample_texts();
    let options = TrainerOptions { document_separator: true, ..TrainerOptions::new(600) };
    let directory = tempfile::tempdir().unwrap();
    train(&texts, &options).save(directory.path()).unwrap();
    assert!(directory.path().join("added_tokens.json").exists());
    train(&texts, &TrainerOptions::new(600)).save(directory.path()).unwrap();
    assert!(!directory.path().join("added_tokens.json").exists());
    let first = files(directory.path());
    Tokenizer::load(directory.path()).unwrap().save(directory.path()).unwrap();
    assert_eq!(first, files(directory.path()));
}

#[test]
fn too_small_a_vocabulary_is_refused() {
    let error = Tokenizer::train([Ok("text")], &TrainerOptions::new(260)).unwrap_err();
    assert!(matches!(error, Error::VocabularyTooSmall { wanted: 260, minimum: 261 }), "{error}");
    let options = TrainerOptions { document_separator: true, ..TrainerOptions::new(261) };
    assert!(Tokenizer::train([Ok("text")], &options).is_err());
}

#[test]
fn errors_of_the_stream_come_through() {
    let texts = RecordReader::from_reader(&b"{\"document\": \"a\"}\nnot json\n"[..], "x.jsonl").unwrap();
    let texts = texts.flat_map(|record| match record {
        Ok(record) => record.into_texts().into_iter().map(Ok).collect::<Vec<_>>(),
        Err(error) => vec![Err(error)],
    });
    let error = Tokenizer::train(texts, &TrainerOptions::new(300)).unwrap_err();
    assert!(error.to_string().starts_with("x.jsonl:2: "), "{error}");
}

#[test]
fn unwritable_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let message = crate::support::small_tokenizer().save(&file).unwrap_err().to_string();
    assert!(message.contains("file"), "{message}");
}

#[test]
fn a_file_that_cannot_be_replaced_stays_and_nothing_is_left_beside_it() {
    let directory = tempfile::tempdir().unwrap();
    let tokenizer = crate::support::small_tokenizer();
    tokenizer.save(directory.path()).unwrap();
    let before = files(directory.path());
    assert!(before.iter().all(|(name, _)| !name.ends_with(".partial")));
    // A directory where the partial file would go: the text cannot be written.
    let obstacle = directory.path().join("tokenizer.json.partial");
    std::fs::create_dir(&obstacle).unwrap();
    let message = tokenizer.save(directory.path()).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
    std::fs::remove_dir(&obstacle).unwrap();
    assert_eq!(files(directory.path()), before);
    // A directory in place of the file: the text is written, but the rename fails.
    let target = directory.path().join("tokenizer.json");
    std::fs::remove_file(&target).unwrap();
    std::fs::create_dir(&target).unwrap();
    let message = tokenizer.save(directory.path()).unwrap_err().to_string();
    assert!(message.contains("tokenizer.json"), "{message}");
    assert!(!obstacle.exists());
}
