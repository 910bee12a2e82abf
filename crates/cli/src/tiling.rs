//! Says, once for each table, that positions are tiled.

use std::fmt::Display;
use std::mem;

use epitome_model::Config;
use indicatif::ProgressBar;

use crate::failure::warn;

/// What has been said already.
#[derive(Debug, Default)]
pub(crate) struct TilingNotice {
    document: bool,
    summary: bool,
}

impl TilingNotice {
    /// Says it of a document of so many tokens, if the encoder's table is shorter.
    pub(crate) fn document(&mut self, bar: &ProgressBar, id: impl Display, tokens: usize, config: &Config) {
        let rows = config.max_encoder_position_embeddings;
        if tokens > rows && !mem::replace(&mut self.document, true) {
            say(
                bar,
                format_args!("{id}: {tokens} tokens are more than the {rows} rows of the encoder's position table"),
            );
        }
    }

    /// Says it of a summary, written or given, of so many tokens, if the decoder's table is shorter.
    pub(crate) fn summary(&mut self, bar: &ProgressBar, id: impl Display, tokens: usize, config: &Config) {
        let rows = config.max_decoder_position_embeddings;
        if tokens > rows && !mem::replace(&mut self.summary, true) {
            say(
                bar,
                format_args!(
                    "{id}: a summary of {tokens} tokens is longer than the {rows} rows of the decoder's position table"
                ),
            );
        }
    }
}

fn say(bar: &ProgressBar, what: impl Display) {
    bar.suspend(|| warn(format_args!("{what}, so positions are tiled; nothing is cut (this is said once)")));
}
