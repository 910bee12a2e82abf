//! From a model and documents to summaries: beam search over anything that can be stepped.
//!
//! The search sees only [`Stepper`]: token ids in, logits out. It knows nothing of attention, tensors or text, and nothing
//! of training or metrics. Options, their names and their effects are those of `transformers`, and so are the results; beyond them
//! there are summaries made of the document's own passages, and a prompt.
//!
//! # Modules
//!
//! - `options`: [`GenerationOptions`], one layer of options as a person or a file wrote them;
//!   `config`: [`GenerationConfig`], the layers merged and checked; `layers`: which of them decides; `unread`: where
//!   `transformers` would read another
//! - `best`: the best permitted tokens of a step, where the model finds them
//! - `stepper`: [`Stepper`], [`Document`], [`Hypothesis`], [`Progress`]: what a search takes and gives
//! - [`processors`]: the rules about the next token, one struct each
//! - `log_softmax`, `candidates`: the arithmetic over the vocabulary; `finished`: the result slots of a document
//! - `beam` and `greedy`: the two searches; [`generate`] chooses; `search`: the loop that they share; `step`: one step of it
//! - `session`: [`LedSession`], a LED model as a [`Stepper`]
//! - `summarizer`: [`Summarizer`], a model directory and records in, summaries and scores out; `summary`: [`Summary`];
//!   `score`: log-probabilities of summaries that exist
//! - `memory`: [`Memory`], what a document will take, and for which one keys and values are kept
//! - `extracts`: which passages may be summaries, and how they become text
//! - `attribution`: [`Attribution`], which passages of its documents a summary's sentences rest on

#![forbid(unsafe_code)]

mod attribution;
mod beam;
mod best;
mod candidates;
mod config;
mod error;
mod extracts;
mod finished;
mod greedy;
mod layers;
mod log_softmax;
mod memory;
mod options;
pub mod processors;
mod score;
mod search;
mod session;
mod step;
mod stepper;
mod summarizer;
mod summary;
mod unread;

pub use attribution::{Attribution, CitedPassage};
pub use beam::beam_search;
pub use config::GenerationConfig;
pub use epitome_model::TokenIds;
pub use error::{Error, Result};
pub use greedy::greedy_search;
pub use memory::Memory;
pub use options::{EarlyStopping, GenerationOptions};
pub use session::LedSession;
pub use stepper::{BestTokens, Document, Hypothesis, Progress, Stepper};
pub use summarizer::Summarizer;
pub use summary::{Sequence, Summary};

/// The best `config.num_return_sequences` summaries of each document, best first: [`greedy_search`] for one beam,
/// [`beam_search`] for more. `progress` is called after each step.
///
/// # Errors
/// When the stepper fails or returns logits that are not finite, or an option names a token outside the vocabulary.
pub fn generate<S: Stepper + ?Sized>(
    stepper: &mut S,
    documents: &[Document],
    config: &GenerationConfig,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<Vec<Hypothesis>>> {
    if config.num_beams == 1 {
        greedy_search(stepper, documents, config, progress)
    } else {
        beam_search(stepper, documents, config, progress)
    }
}
