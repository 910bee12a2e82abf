//! Summaries made of passages ([`Extracts`](epitome_data::Extracts)), on their way from documents to text.

use std::collections::HashSet;

use epitome_data::Tokenizer;

use crate::processors::permitted_extracts;
use crate::{Document, GenerationConfig, Hypothesis, Result};

/// How byte-level vocabularies spell a line end.
const LINE_END: &str = "Ċ";

/// Puts the passages of each of a document's summaries in the document's order. Of summaries that have become equal the best
/// one stays.
///
/// # Errors
/// As [`Tokenizer::decode`].
pub(crate) fn put_in_order(
    hypotheses: &mut Vec<Hypothesis>,
    document: &Document,
    generation: &GenerationConfig,
    tokenizer: Option<&Tokenizer>,
) -> Result<()> {
    let extracts = permitted_extracts(generation, document);
    for hypothesis in &mut *hypotheses {
        let parts = extracts.in_document_order(&hypothesis.tokens);
        hypothesis.tokens = match tokenizer {
            Some(tokenizer) => join(&parts, tokenizer)?,
            None => parts.concat(),
        };
    }
    let mut seen = HashSet::new();
    hypotheses.retain(|hypothesis| seen.insert(hypothesis.tokens.clone()));
    Ok(())
}

/// Parts of documents as one text: with a line end between two where there is no white space.
fn join(parts: &[&[u32]], tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let line_end = tokenizer.token_to_id(LINE_END);
    let mut joined: Vec<u32> = Vec::new();
    let mut ends_in_space = true;
    for part in parts {
        let text = tokenizer.decode(part)?;
        let begins_with_space = text.is_empty() || text.starts_with(char::is_whitespace);
        joined.extend(line_end.filter(|_| !ends_in_space && !begins_with_space));
        joined.extend_from_slice(part);
        ends_in_space = text.is_empty() || text.ends_with(char::is_whitespace);
    }
    Ok(joined)
}
