//! What `--max-document-tokens` leaves out is said.

use epitome_data::Source;
use epitome_eval::counted;
use indicatif::ProgressBar;

use crate::failure::warn;

/// What a limit on the tokens of documents took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Truncated {
    documents: usize,
    tokens: usize,
}

impl Truncated {
    /// Counts what is missing of a document, and says so where that is all of it.
    pub(crate) fn add(&mut self, bar: &ProgressBar, id: &str, source: &Source) {
        if source.is_lost() {
            let limit = source.input_ids.len();
            bar.suspend(|| {
                warn(format_args!(
                    "{id}: nothing of the document is read: the query, the prompt and special tokens before it take all \
                     {limit} tokens; raise --max-document-tokens"
                ));
            });
        }
        self.documents += usize::from(source.truncated_tokens > 0);
        self.tokens += source.truncated_tokens;
    }

    /// Says what was left out, if anything was.
    pub(crate) fn announce(self, limit: Option<usize>) {
        if self.documents > 0 {
            let (tokens, documents) = (counted(self.tokens, "token"), counted(self.documents, "document"));
            warn(format_args!("--max-document-tokens {} left out {tokens} of {documents}", limit.unwrap_or_default()));
        }
    }
}
