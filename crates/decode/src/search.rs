//! What all searches have in common: steps until every document's search has ended.

use crate::{Document, GenerationConfig, Hypothesis, Progress, Result, Stepper};

/// The search of one document.
pub(crate) trait Search<'a>: Sized {
    /// The search of the batch's document `index`, with one hypothesis that is the decoder start token.
    fn new(index: usize, document: &Document<'a>, config: &'a GenerationConfig) -> Self;

    /// One step of all searches that run; returns which row each row of the next step continues. The memory of `logits` is
    /// reused.
    fn advance<S: Stepper + ?Sized>(
        stepper: &mut S,
        active: &mut [Self],
        logits: &mut Vec<f32>,
        config: &GenerationConfig,
    ) -> Result<Vec<usize>>;

    /// Index of the document in the batch.
    fn index(&self) -> usize;

    /// The rows of the stepper that belong to it; none when it has ended.
    fn rows(&self) -> usize;

    /// What it has found, best first.
    fn into_best(self, config: &GenerationConfig) -> Vec<Hypothesis>;
}

/// Searches all documents, each until it has ended and leaves the batch. One vector of hypotheses a document.
pub(crate) fn search<'a, T: Search<'a>, S: Stepper + ?Sized>(
    stepper: &mut S,
    documents: &[Document<'a>],
    config: &'a GenerationConfig,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Vec<Hypothesis>>> {
    config.check_vocabulary(stepper.vocab_size())?;
    let mut results = vec![Vec::new(); documents.len()];
    let mut active: Vec<T> =
        documents.iter().enumerate().map(|(index, document)| T::new(index, document, config)).collect();
    let mut logits = Vec::new();
    for generated in 1..=config.max_new_tokens() {
        if active.is_empty() {
            break;
        }
        let rows = active.iter().map(T::rows).sum();
        let parents = T::advance(stepper, &mut active, &mut logits, config)?;
        for search in active.extract_if(.., |search| search.rows() == 0) {
            let index = search.index();
            results[index] = search.into_best(config);
        }
        let finished = documents.len() - active.len();
        progress(Progress {
            generated,
            max_new_tokens: config.max_new_tokens(),
            finished,
            documents: documents.len(),
            rows,
        });
        if !active.is_empty() {
            stepper.reorder(&parents)?;
        }
    }
    Ok(results)
}
