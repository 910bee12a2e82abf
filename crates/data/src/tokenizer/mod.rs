//! [`Tokenizer`]: byte-level BPE as LED and BART use it.
//!
//! | module | what it does |
//! |---|---|
//! | `load` | a model directory in, a tokenizer out |
//! | `settings` | what the files beside a vocabulary say of its special tokens |
//! | `layout` | the JSON form of a tokenizer and its special tokens |
//! | `train` | texts in, a new tokenizer out |
//! | `clean_up` | decoded text without spaces before punctuation |
//! | `merges` | the learning of merges from word counts |
//! | `save` | a tokenizer in, the files `transformers` expects out |

mod clean_up;
mod layout;
mod load;
mod merges;
mod save;
mod settings;
mod train;

use std::ops::Range;
use std::path::Path;

use crate::error::{Error, Result};
use crate::record::Record;
use crate::source::{Source, Target};

pub(crate) use merges::byte_table;
pub use train::TrainerOptions;

const TOKENIZER: &str = "tokenizer.json";
const CONFIG: &str = "tokenizer_config.json";
const VOCAB: &str = "vocab.json";
const MERGES: &str = "merges.txt";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";
/// The field of `tokenizer_config.json` that asks for [`clean_up::clean_up`].
const CLEAN_UP: &str = "clean_up_tokenization_spaces";

/// The content of the token that separates documents in models trained as PRIMERA is.
pub const DOCUMENT_SEPARATOR: &str = "<doc-sep>";

/// The ids of the tokens with a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `<s>`, before every text; 0 in LED.
    pub bos: u32,
    /// `<pad>`; 1 in LED.
    pub pad: u32,
    /// `</s>`, after every text; 2 in LED.
    pub eos: u32,
    /// `<unk>`; 3 in LED. A byte-level vocabulary never needs it.
    pub unk: Option<u32>,
    /// `<mask>`; the last id in LED.
    pub mask: Option<u32>,
    /// `<doc-sep>`, in models of several documents.
    pub document_separator: Option<u32>,
}

/// A byte-level BPE tokenizer with LED's special tokens; gives the ids that `transformers` gives for the same directory.
///
/// The names of special tokens inside a text are taken for the tokens themselves, as in `transformers`: a document that
/// holds the characters `</s>` gets token 2 there, and they do not come back from [`decode`](Self::decode).
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    special: SpecialTokens,
    vocab_size: usize,
    clean_up: bool,
}

impl Tokenizer {
    /// The names of all files that [`load`](Self::load) may read in a directory and [`save`](Self::save) may write: they belong
    /// together and go along together.
    pub const FILES: [&str; 6] = [TOKENIZER, CONFIG, VOCAB, MERGES, SPECIAL_TOKENS_MAP, ADDED_TOKENS];

    /// Loads the tokenizer of a model directory: `tokenizer.json`, else `vocab.json` with `merges.txt`.
    ///
    /// Truncation and padding settings in the file are dropped: nothing is ever cut silently.
    ///
    /// # Errors
    /// Neither form present, a file that cannot be understood, or a vocabulary without `<s>`, `<pad>` or `</s>`.
    pub fn load(directory: impl AsRef<Path>) -> Result<Self> {
        load::load(directory.as_ref())
    }

    /// Reads a `tokenizer.json` that is already in memory and whose directory has no settings of its own; `origin` stands for
    /// the file in errors.
    ///
    /// # Errors
    /// Bytes that cannot be understood, or a vocabulary without `<s>`, `<pad>` or `</s>`.
    pub fn from_bytes(bytes: &[u8], origin: &Path) -> Result<Self> {
        load::from_bytes(bytes, origin)
    }

    /// Whether a directory holds a tokenizer in one of the forms that [`load`](Self::load) reads.
    pub fn exists(directory: impl AsRef<Path>) -> bool {
        load::exists(directory.as_ref())
    }

    /// Learns a byte-level BPE vocabulary with LED's special tokens from texts, which are read once and not kept.
    ///
    /// The result depends only on the texts and the options. A small corpus may give fewer entries than asked for:
    /// compare [`vocab_size`](Self::vocab_size).
    ///
    /// # Errors
    /// The first error among the texts, or a vocabulary size without room for all bytes and special tokens.
    pub fn train<S: AsRef<str> + Send + Sync>(
        texts: impl IntoIterator<Item = Result<S>>,
        options: &TrainerOptions,
    ) -> Result<Self> {
        train::train(texts, options)
    }

    /// Writes `tokenizer.json`, `vocab.json`, `merges.txt`, `tokenizer_config.json` and `special_tokens_map.json`, so that
    /// `transformers` loads the directory as an `LEDTokenizerFast` (or `LEDTokenizer`) with the same ids.
    ///
    /// # Errors
    /// The directory or a file cannot be written.
    pub fn save(&self, directory: impl AsRef<Path>) -> Result<()> {
        save::save(self, directory.as_ref())
    }

    /// The token ids of a text, without `<s>` and `</s>`.
    ///
    /// # Errors
    /// The tokenizer of the directory is broken; no text fails with a sound one.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The same with the bytes of the text that each token stands for, white space around them perhaps left out. Tokens that
    /// share a character both stand for all of its bytes.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_with_offsets(&self, text: &str) -> Result<(Vec<u32>, Vec<Range<usize>>)> {
        let encoding = self.inner.encode(text, false).map_err(failed)?;
        let offsets = encoding.get_offsets().iter().map(|&(start, end)| start..end).collect();
        Ok((encoding.get_ids().to_vec(), offsets))
    }

    /// The token ids of a text as a whole sequence: `<s> ... </s>`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_sequence(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false).map_err(failed)?;
        let ids = encoding.get_ids();
        let mut sequence = Vec::with_capacity(ids.len() + 2);
        sequence.push(self.special.bos);
        sequence.extend_from_slice(ids);
        sequence.push(self.special.eos);
        Ok(sequence)
    }

    /// The text of token ids, special tokens left out: what `decode(ids, skip_special_tokens=True)` gives in
    /// `transformers`, with spaces before punctuation removed if the directory asks for it (`clean_up_tokenization_spaces`).
    /// Bytes that are not UTF-8 become U+FFFD; unknown ids vanish.
    ///
    /// # Errors
    /// The decoder of the directory's tokenizer is broken.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.text(ids, true)
    }

    /// The text of token ids as [`decode`](Self::decode) gives it, and for each token the byte of the text where it ends;
    /// nothing for special tokens. A token that ends within a character ends with that character.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_with_ends(&self, ids: &[u32]) -> Result<(String, Vec<Option<usize>>)> {
        let text = self.inner.decode(ids, true).map_err(failed)?;
        let mut stream = self.inner.decode_stream(true);
        let mut ends: Vec<Option<usize>> = Vec::with_capacity(ids.len());
        let (mut end, mut complete) = (0, 0);
        for &id in ids {
            ends.push(if self.is_special(id) { None } else { Some(text.len()) });
            if let Some(more) = stream.step(id).map_err(failed)? {
                end += more.len();
                ends[complete..].iter_mut().flatten().for_each(|token_end| *token_end = end);
                complete = ends.len();
            }
        }
        if !self.clean_up {
            return Ok((text, ends));
        }
        let cleaned = clean_up::clean_up(&text);
        clean_up::move_ends(&mut ends, &text, &cleaned);
        Ok((cleaned, ends))
    }

    /// Whether decoding leaves a token out.
    pub(crate) fn is_special(&self, id: u32) -> bool {
        let token = self.inner.id_to_token(id);
        token.is_none_or(|token| self.inner.get_added_vocabulary().is_special_token(&token))
    }

    /// As [`decode`](Self::decode), with the special tokens written out.
    ///
    /// # Errors
    /// As [`decode`](Self::decode).
    pub fn decode_with_special_tokens(&self, ids: &[u32]) -> Result<String> {
        self.text(ids, false)
    }

    fn text(&self, ids: &[u32], skip_special_tokens: bool) -> Result<String> {
        let text = self.inner.decode(ids, skip_special_tokens).map_err(failed)?;
        Ok(if self.clean_up { clean_up::clean_up(&text) } else { text })
    }

    /// The id of a token, as it is spelled in the vocabulary.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token of an id, as it is spelled in the vocabulary.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The size an embedding needs: the largest id plus 1, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The size an embedding needs for texts that name no special token: some published models lack the row of `<mask>`, which stands
    /// last.
    pub fn ordinary_vocab_size(&self) -> usize {
        let added = self.inner.get_added_tokens_decoder();
        let is_special = |id: &usize| added.get(&(*id as u32)).is_some_and(|token| token.special);
        (0..self.vocab_size).rev().find(|id| !is_special(id)).map_or(0, |id| id + 1)
    }

    /// The ids of the tokens with a meaning of their own.
    pub fn special_tokens(&self) -> SpecialTokens {
        self.special
    }

    /// A hash of everything that decides the ids of a text.
    ///
    /// # Errors
    /// The tokenizer has parts that cannot be written out.
    pub(crate) fn fingerprint(&self) -> Result<[u8; 32]> {
        let json = self.inner.to_string(false).map_err(failed)?;
        let mut hasher = blake3::Hasher::new();
        hasher.update(json.as_bytes()).update(format!("{:?}", self.special).as_bytes());
        Ok(*hasher.finalize().as_bytes())
    }

    /// What the encoder reads of a record: see [`Source`].
    ///
    /// # Errors
    /// A limit below 2, or as [`encode`](Self::encode).
    pub fn source(&self, record: &Record, max_document_tokens: Option<usize>) -> Result<Source> {
        Source::new(record, Some(self), max_document_tokens)
    }

    /// What a record teaches: see [`Target`].
    ///
    /// # Errors
    /// A record without summary (or without labels, when tokenized), a limit below 2, or as [`encode`](Self::encode).
    pub fn target(&self, record: &Record, max_target_tokens: Option<usize>) -> Result<Target> {
        Target::new(record, Some(self), max_target_tokens)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocab_size", &self.vocab_size).field("special", &self.special).finish()
    }
}

fn failed(error: tokenizers::Error) -> Error {
    Error::Tokenization(error.to_string())
}
