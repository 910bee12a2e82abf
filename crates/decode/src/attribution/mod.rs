//! What the sentences of a summary rest on: the passages of the documents that the decoder looked at while it wrote them,
//! beside the words that both share.

mod overlap;

use std::ops::Range;

use epitome_data::{Passage, Source, Tokenizer};
use epitome_sentences::sentence_ranges;
use serde::{Deserialize, Serialize};

use crate::{Hypothesis, LedSession, Result};
use overlap::Words;

/// Passages that are listed of a sentence.
const LISTED: usize = 5;

/// A sentence of a summary with what it rests on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The sentence.
    pub sentence: String,
    /// Where it begins in the summary, in Unicode scalar values.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// The five passages of the greatest weight, greatest first.
    pub passages: Vec<CitedPassage>,
    /// The passage of the greatest overlap, if it is none of those and shares a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best_overlap: Option<CitedPassage>,
}

/// A passage beside a sentence of the summary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CitedPassage {
    /// Which of several documents of the record, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<usize>,
    /// Where it begins in the document, in Unicode scalar values.
    pub start: usize,
    /// Where it ends.
    pub end: usize,
    /// Its share of the cross-attention to all passages: the mean over heads, layers and the steps that wrote the sentence's
    /// tokens, tokens outside passages (special tokens, the query) left out. All passages together have 1.
    pub weight: f32,
    /// The share of the sentence's words that occur in it, rare words counting more: 0 to 1.
    pub overlap: f32,
    /// Its text.
    pub text: String,
}

/// The attribution of every hypothesis of every document of the session; nothing of a document without passages.
///
/// # Errors
/// When an operation fails.
pub(crate) fn attribute(
    session: &LedSession<'_>,
    tokenizer: &Tokenizer,
    start_token: u32,
    sources: &[&Source],
    hypotheses: &[Vec<Hypothesis>],
) -> Result<Vec<Vec<Option<Vec<Attribution>>>>> {
    if sources.iter().all(|source| source.passages.is_none()) {
        return Ok(hypotheses.iter().map(|all| vec![None; all.len()]).collect());
    }
    let spans: Vec<Vec<Range<usize>>> = sources
        .iter()
        .map(|source| source.passages.iter().flatten().map(|passage| passage.tokens.clone()).collect())
        .collect();
    // The step that reads a token writes the next one.
    let read = |one: &Hypothesis| [&[start_token], &one.tokens[..one.tokens.len().saturating_sub(1)]].concat();
    let inputs: Vec<Vec<Vec<u32>>> = hypotheses.iter().map(|all| all.iter().map(read).collect()).collect();
    let mut masses = session.attention_mass(&inputs, &spans)?.into_iter();
    let mut attributions = Vec::with_capacity(sources.len());
    for (source, hypotheses) in sources.iter().zip(hypotheses) {
        let passages = source.passages.as_deref();
        let words = passages.map(Words::new);
        let mut of_document = Vec::with_capacity(hypotheses.len());
        for hypothesis in hypotheses {
            let masses: Vec<Vec<f32>> = masses.by_ref().take(hypothesis.tokens.len().max(1)).collect();
            of_document.push(match (passages, &words) {
                (Some(passages), Some(words)) => {
                    let (text, ends) = tokenizer.decode_with_ends(&hypothesis.tokens)?;
                    Some(of_sentences(&text, &ends, &masses, passages, words))
                }
                _ => None,
            });
        }
        attributions.push(of_document);
    }
    Ok(attributions)
}

/// Of the sentences of a summary, whose tokens end at the bytes `ends` of `text` and looked at the passages as `masses` says.
fn of_sentences(
    text: &str,
    ends: &[Option<usize>],
    masses: &[Vec<f32>],
    passages: &[Passage],
    words: &Words,
) -> Vec<Attribution> {
    let summary = text.trim();
    let before = text.len() - text.trim_start().len();
    let sentences = sentence_ranges(summary);
    let mut weights = vec![vec![0.0f64; passages.len()]; sentences.len()];
    for (end, masses) in ends.iter().zip(masses) {
        let Some(end) = end.map(|end| end.saturating_sub(before)) else { continue };
        // White space belongs to the sentence behind it, or to the last one.
        let sentence = sentences.partition_point(|sentence| sentence.end < end).min(sentences.len().saturating_sub(1));
        let sums = weights.get_mut(sentence).into_iter().flatten();
        sums.zip(masses).for_each(|(sum, mass)| *sum += f64::from(*mass));
    }
    let characters = |bytes: &str| bytes.chars().count();
    let attribution = |(bytes, weights): (Range<usize>, Vec<f64>)| {
        let start = characters(&summary[..bytes.start]);
        let sentence = &summary[bytes];
        let (passages, best_overlap) = cite(passages, &weights, &words.overlaps(sentence));
        let end = start + characters(sentence);
        Attribution { sentence: sentence.to_owned(), start, end, passages, best_overlap }
    };
    sentences.into_iter().zip(weights).map(attribution).collect()
}

/// The passages of the greatest weight, and the one of the greatest overlap if it is another.
fn cite(passages: &[Passage], weights: &[f64], overlaps: &[f32]) -> (Vec<CitedPassage>, Option<CitedPassage>) {
    let total: f64 = weights.iter().sum();
    if total == 0.0 {
        return (Vec::new(), None);
    }
    let cited = |&index: &usize| {
        let Passage { document, characters, text, .. } = &passages[index];
        CitedPassage {
            document: *document,
            start: characters.start,
            end: characters.end,
            weight: (weights[index] / total) as f32,
            overlap: overlaps[index],
            text: text.clone(),
        }
    };
    let mut order: Vec<usize> = (0..passages.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    order.truncate(LISTED);
    let best = (0..passages.len()).rev().max_by(|&a, &b| overlaps[a].total_cmp(&overlaps[b]));
    let best = best.filter(|best| overlaps[*best] > 0.0 && !order.contains(best));
    (order.iter().map(cited).collect(), best.as_ref().map(cited))
}
