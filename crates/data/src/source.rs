//! [`Source`] and [`Target`]: a record as the encoder and the loss see it.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::passages::{Passage, different};
use crate::record::{Content, Record};
use crate::tokenizer::Tokenizer;

/// What the encoder reads of a record.
///
/// | record | tokens | attend globally |
/// |---|---|---|
/// | one document | `<s> document </s>` | `<s>` |
/// | several | `<s> first </s> second </s>` | `<s>` and every `</s>` between two documents |
/// | any number, and the vocabulary has `<doc-sep>` | `<s> first <doc-sep> second <doc-sep> </s>` | `<s>` and every `<doc-sep>` |
/// | with a query | `<s> query </s> ...` as above | also the query's tokens and the `</s>` behind them |
/// | nothing but empty documents | `<s> </s>`, or `<s> query </s> </s>` | as above |
/// | token ids | as given | as given |
///
/// The layout with `<doc-sep>` is PRIMERA's (arXiv 2110.08499), which has one behind the last document too. Empty
/// documents among others are passed over. A `<doc-sep>` that stands inside a text, where documents were joined beforehand,
/// is the same token and attends globally too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Token ids, special tokens included.
    pub input_ids: Vec<u32>,
    /// Tokens before the documents: `<s>`, and a query with its `</s>`; 0 where a record gives ids, not text.
    pub leading_tokens: usize,
    /// Positions that attend globally, ascending and without repetition.
    pub global_positions: Vec<usize>,
    /// Tokens left out because of the limit; 0 without one.
    pub truncated_tokens: usize,
    /// The passages of the documents, in order, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passages: Option<Vec<Passage>>,
}

/// Gives the tokens of a document, of which it is told the index, the text and the position of its first token.
type EncodeDocument<'a> = dyn FnMut(usize, &str, usize) -> Result<Vec<u32>> + 'a;

impl Source {
    /// Makes the source of a record, of at most `max_document_tokens` tokens, special ones and query included.
    ///
    /// Where the limit cuts, the last token (`</s>`) stays and those before it go; the source says how many. No limit, no cut.
    ///
    /// # Errors
    /// Text without a tokenizer, or a limit below 2.
    pub fn new(record: &Record, tokenizer: Option<&Tokenizer>, max_document_tokens: Option<usize>) -> Result<Self> {
        let source = match &record.content {
            Content::Tokens { input_ids, global_positions, .. } => {
                let (input_ids, global_positions) = (input_ids.clone(), global_positions.clone());
                Self { input_ids, leading_tokens: 0, global_positions, truncated_tokens: 0, passages: None }
            }
            Content::Text { documents, query } => {
                let tokenizer = tokenizer.ok_or_else(|| Error::TokenizerNeeded(record.location.clone()))?;
                let encode = &mut |_: usize, text: &str, _: usize| tokenizer.encode(text);
                Self::from_text(documents, query.as_deref().unwrap_or_default(), tokenizer, encode)?
            }
        };
        source.cut(max_document_tokens)
    }

    /// The same with the passages of the documents, as far as they are read.
    ///
    /// # Errors
    /// As [`Source::new`], and a record of token ids.
    pub fn with_passages(
        record: &Record,
        tokenizer: Option<&Tokenizer>,
        max_document_tokens: Option<usize>,
    ) -> Result<Self> {
        let Content::Text { documents, query } = &record.content else {
            return Err(Error::NoPassages { location: record.location.clone(), id: record.id.clone() });
        };
        let tokenizer = tokenizer.ok_or_else(|| Error::TokenizerNeeded(record.location.clone()))?;
        // A cut leaves the last token, which is no document's.
        let end = max_document_tokens.map_or(usize::MAX, |most| most.saturating_sub(1));
        let mut passages = Vec::new();
        let encode = &mut |index: usize, text: &str, start: usize| {
            let (ids, offsets) = tokenizer.encode_with_offsets(text)?;
            let read = offsets.len().min(end.saturating_sub(start));
            let special = tokenizer.special_tokens();
            let is_separator =
                |token: usize| ids[token] == special.eos || Some(ids[token]) == special.document_separator;
            let document = (documents.len() > 1).then_some(index);
            passages.extend(Passage::of_document(document, text, &offsets[..read], start, is_separator));
            Ok(ids)
        };
        let source = Self::from_text(documents, query.as_deref().unwrap_or_default(), tokenizer, encode)?;
        Self { passages: Some(passages), ..source }.cut(max_document_tokens)
    }

    /// Whether the limit took everything of the documents: the tokens before them take all that there may be.
    pub fn is_lost(&self) -> bool {
        self.truncated_tokens > 0 && self.input_ids.len() <= self.leading_tokens + 1
    }

    /// The positions of the passages that an extract may be made of: of those with the same text the first.
    pub fn different_passages(&self) -> Vec<Range<usize>> {
        let passages = self.passages.iter().flatten();
        different(passages.map(|passage| (passage.text.as_str(), passage.tokens.clone())))
    }

    fn cut(mut self, limit: Option<usize>) -> Result<Self> {
        self.truncated_tokens = truncate(&mut self.input_ids, limit)?;
        if self.truncated_tokens > 0 {
            self.follow_the_cut();
        }
        Ok(self)
    }

    /// Drops the global positions of tokens that were cut, and what leads that was; the last token has moved and takes its own
    /// position along.
    fn follow_the_cut(&mut self) {
        let last = self.input_ids.len() - 1;
        let last_before = last + self.truncated_tokens;
        let moved = self.global_positions.last() == Some(&last_before);
        self.global_positions.retain(|&position| position < last);
        self.global_positions.extend(moved.then_some(last));
        self.leading_tokens = self.leading_tokens.min(last);
    }

    fn from_text(
        documents: &[String],
        query: &str,
        tokenizer: &Tokenizer,
        encode: &mut EncodeDocument<'_>,
    ) -> Result<Self> {
        let special = tokenizer.special_tokens();
        let mut input_ids = vec![special.bos];
        if !query.is_empty() {
            input_ids.extend(tokenizer.encode(query)?);
            input_ids.push(special.eos);
        }
        let leading_tokens = input_ids.len();
        let mut global_positions: Vec<usize> = (0..leading_tokens).collect();
        let mut documents = documents.iter().enumerate().filter(|(_, document)| !document.is_empty()).peekable();
        while let Some((index, document)) = documents.next() {
            let start = input_ids.len();
            input_ids.extend(encode(index, document, start)?);
            // A text may be several documents that were joined beforehand.
            let inside =
                (start..input_ids.len()).filter(|&position| Some(input_ids[position]) == special.document_separator);
            global_positions.extend(inside);
            let between = documents.peek().map(|_| special.eos);
            if let Some(separator) = special.document_separator.or(between) {
                global_positions.push(input_ids.len());
                input_ids.push(separator);
            }
        }
        input_ids.push(special.eos);
        Ok(Self { input_ids, leading_tokens, global_positions, truncated_tokens: 0, passages: None })
    }
}

/// What a record teaches: `<s> summary </s>`, or the labels of a tokenized record as given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Target {
    /// Token ids to predict; -100 marks positions that the loss ignores.
    pub labels: Vec<i64>,
    /// Tokens left out because of the limit; 0 without one.
    pub truncated_tokens: usize,
}

impl Target {
    /// Makes the target of a record, of at most `max_target_tokens` tokens; where that cuts, the last token stays.
    ///
    /// # Errors
    /// A record without a summary (or without labels, when tokenized), text without a tokenizer, or a limit below 2.
    pub fn new(record: &Record, tokenizer: Option<&Tokenizer>, max_target_tokens: Option<usize>) -> Result<Self> {
        let missing = |field| Error::NoTarget { location: record.location.clone(), id: record.id.clone(), field };
        let mut labels = match (&record.content, &record.summary) {
            (Content::Tokens { labels, .. }, _) => labels.clone().ok_or_else(|| missing("labels"))?,
            (Content::Text { .. }, None) => return Err(missing("summary")),
            (Content::Text { .. }, Some(summary)) => {
                let tokenizer = tokenizer.ok_or_else(|| Error::TokenizerNeeded(record.location.clone()))?;
                tokenizer.encode_sequence(summary)?.into_iter().map(i64::from).collect()
            }
        };
        let truncated_tokens = truncate(&mut labels, max_target_tokens)?;
        Ok(Self { labels, truncated_tokens })
    }
}

/// Shortens a sequence to the limit by removing what lies before its last element; returns how many elements went.
fn truncate<T>(sequence: &mut Vec<T>, limit: Option<usize>) -> Result<usize> {
    let Some(limit) = limit else { return Ok(0) };
    if limit < 2 {
        return Err(Error::LimitTooSmall(limit));
    }
    let excess = sequence.len().saturating_sub(limit);
    if excess > 0 {
        let end = sequence.len() - 1;
        sequence.drain(end - excess..end);
    }
    Ok(excess)
}
