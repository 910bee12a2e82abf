//! Texts in, a new tokenizer out: words are counted in parallel while the texts stream by.

use std::collections::HashMap;
use std::path::Path;

use rayon::prelude::*;
use serde_json::{Map, Value, json};
use tokenizers::tokenizer::pattern::Pattern;
use tokenizers::utils::SysRegex;

use super::layout::{AddedToken, tokenizer_json};
use super::merges::{Vocabulary, byte_characters, learn_merges};
use super::settings::Names;
use super::{DOCUMENT_SEPARATOR, Tokenizer};
use crate::error::{Error, Result};

/// How GPT-2 and BART split a text into words, each with the space before it.
const WORD_PATTERN: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// Special tokens at the beginning of the vocabulary; a token's place is its id.
const FIRST_TOKENS: [&str; 4] = ["<s>", "<pad>", "</s>", "<unk>"];
const MASK: &str = "<mask>";
const BYTES: usize = 256;

/// Text collected before it is counted in parallel, in bytes: enough to keep the threads busy, little to hold.
const CHUNK_BYTES: usize = 8 << 20;

/// What [`Tokenizer::train`] should make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrainerOptions {
    /// Entries of the vocabulary, all special tokens and bytes included.
    pub vocab_size: usize,
    /// How often a pair must occur to become a token; 2 by default.
    pub min_frequency: u64,
    /// Whether to add `<doc-sep>`, after `<mask>` as in PRIMERA; without it `<mask>` is the last id.
    pub document_separator: bool,
}

impl TrainerOptions {
    /// A vocabulary of the given size, without `<doc-sep>`.
    pub fn new(vocab_size: usize) -> Self {
        Self { vocab_size, min_frequency: 2, document_separator: false }
    }

    /// The special tokens that come after all others.
    fn last_tokens(&self) -> Vec<&'static str> {
        if self.document_separator { vec![MASK, DOCUMENT_SEPARATOR] } else { vec![MASK] }
    }
}

pub(super) fn train<S: AsRef<str> + Send + Sync>(
    texts: impl IntoIterator<Item = Result<S>>,
    options: &TrainerOptions,
) -> Result<Tokenizer> {
    let last_tokens = options.last_tokens();
    let minimum = FIRST_TOKENS.len() + BYTES + last_tokens.len();
    if options.vocab_size < minimum {
        return Err(Error::VocabularyTooSmall { wanted: options.vocab_size, minimum });
    }
    let words = count_words(texts)?;
    let first = FIRST_TOKENS.map(str::to_owned).into_iter();
    let vocabulary = Vocabulary::new(first.chain(byte_characters().map(String::from)));
    let size = options.vocab_size - last_tokens.len();
    let (vocabulary, merges) = learn_merges(vocabulary, &words, size, options.min_frequency);
    assemble(vocabulary, &merges, &last_tokens)
}

fn assemble(mut vocabulary: Vocabulary, merges: &[(String, String)], last_tokens: &[&str]) -> Result<Tokenizer> {
    let mut added: Vec<AddedToken> =
        (0u32..).zip(FIRST_TOKENS).map(|(id, token)| AddedToken::special(id, token)).collect();
    for token in last_tokens {
        let id = vocabulary.insert((*token).to_owned());
        added.push(AddedToken::special(id, token));
    }
    // `<doc-sep>` lives in the added vocabulary only, as where `transformers` puts a token added later.
    let in_vocab = |token: &&String| token.as_str() != DOCUMENT_SEPARATOR;
    let tokens = vocabulary.tokens().iter().filter(in_vocab).enumerate();
    let vocab: Map<String, Value> = tokens.map(|(id, token)| (token.clone(), json!(id))).collect();
    let json = tokenizer_json(vocab, merges, &added, ("<s>", 0), ("</s>", 2), false);
    let inner =
        tokenizers::Tokenizer::from_bytes(json.to_string()).map_err(|error| Error::Tokenization(error.to_string()))?;
    Tokenizer::assemble(inner, &Names::default(), false, Path::new("the trained tokenizer"))
}

/// How often each word occurs, sorted, so that nothing depends on the order of a hash map.
fn count_words<S: AsRef<str> + Send + Sync>(texts: impl IntoIterator<Item = Result<S>>) -> Result<Vec<(String, u64)>> {
    let pattern = SysRegex::new(WORD_PATTERN).map_err(|error| Error::Tokenization(error.to_string()))?;
    let mut counts: HashMap<String, u64> = HashMap::new();
    let mut chunk = Vec::new();
    let mut bytes = 0;
    for text in texts {
        let text = text?;
        bytes += text.as_ref().len();
        chunk.push(text);
        if bytes >= CHUNK_BYTES {
            count_chunk(&pattern, &chunk, &mut counts)?;
            chunk.clear();
            bytes = 0;
        }
    }
    count_chunk(&pattern, &chunk, &mut counts)?;
    let mut words: Vec<(String, u64)> = counts.into_iter().collect();
    words.sort_unstable();
    Ok(words)
}

fn count_chunk<S: AsRef<str> + Sync>(pattern: &SysRegex, texts: &[S], counts: &mut HashMap<String, u64>) -> Result<()> {
    let size = texts.len().div_ceil(4 * rayon::current_num_threads()).max(1);
    let partial: Vec<Result<HashMap<&str, u64>>> =
        texts.par_chunks(size).map(|texts| count_texts(pattern, texts)).collect();
    for partial in partial {
        for (word, count) in partial? {
            match counts.get_mut(word) {
                Some(total) => *total += count,
                None => {
                    counts.insert(word.to_owned(), count);
                }
            }
        }
    }
    Ok(())
}

fn count_texts<'t, S: AsRef<str>>(pattern: &SysRegex, texts: &'t [S]) -> Result<HashMap<&'t str, u64>> {
    let mut counts = HashMap::new();
    for text in texts {
        let text = text.as_ref();
        let pieces = pattern.find_matches(text).map_err(|error| Error::Tokenization(error.to_string()))?;
        for ((start, end), _) in pieces {
            *counts.entry(&text[start..end]).or_default() += 1;
        }
    }
    Ok(counts)
}
