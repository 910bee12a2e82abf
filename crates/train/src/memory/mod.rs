//! How much memory an update will take, before anything is loaded.

mod fit;
mod rehearsal;
mod trained;

use epitome_model::{Config, Keep, parameter_shapes};

use crate::backward::KEPT_BYTES;
use crate::keeping::{self, Kept, Stack};
pub(crate) use fit::{Processes, check, check_model};
pub use trained::Trained;

const F32: usize = 4;

/// What a process takes beside everything that is counted.
const PROCESS: usize = 20 << 20;

/// Rows of a feed-forward layer that are between its products at a time.
const FEED_FORWARD_ROWS: usize = 4096;

/// What an update works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Update {
    /// Tokens of all documents of the largest micro-batch.
    pub source_tokens: usize,
    /// Tokens of all its targets.
    pub target_tokens: usize,
    /// Micro-batches of the update.
    pub micro_batches: usize,
    /// Of which so many run side by side.
    pub workers: usize,
    /// Compute layers again instead of keeping their insides.
    pub gradient_checkpointing: bool,
}

impl Update {
    /// One document and its summary, with recomputation.
    pub fn of(source_tokens: usize, target_tokens: usize) -> Self {
        Self { source_tokens, target_tokens, micro_batches: 1, workers: 1, gradient_checkpointing: true }
    }
}

/// Bytes that training takes, at the moments when most is held. Measured peaks lie within a tenth with a few threads where
/// everything is trained; where the encoder is frozen up to 15 % too much is predicted (eval/speed.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The weights.
    pub weights: usize,
    /// What the optimizer keeps, and averaged weights.
    pub optimizer: usize,
    /// Gradients, and what layers keep and compute, when both together take most.
    pub pass: usize,
}

impl Memory {
    /// For the largest update of a run.
    pub fn predict(config: &Config, trained: &Trained, update: Update) -> Self {
        let sizes = Sizes::new(config, trained, update);
        let all =
            parameter_shapes(config).iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum::<usize>();
        let gradients = trained.gradients(update.micro_batches > update.workers);
        let moments = [sizes.decoder_backward(), sizes.last_encoder_backward(), sizes.first_encoder_backward()];
        let together = gradients.into_iter().zip(moments).map(|(gradients, layers)| gradients + layers);
        Self {
            weights: all * F32,
            optimizer: trained.kept,
            pass: update.workers.max(1).saturating_mul(together.max().unwrap_or_default()),
        }
    }

    /// The most that is held at once.
    pub fn peak(&self) -> usize {
        let resident = self.weights + self.optimizer;
        (PROCESS + resident + resident / 40).saturating_add(self.pass)
    }
}

/// What layers hold, in bytes. A unit is a tensor [T, d].
struct Sizes {
    /// Bytes of a row.
    row: usize,
    source: usize,
    target: usize,
    /// Layers that the backward pass reaches.
    encoder_layers: usize,
    decoder_layers: usize,
    /// What these keep.
    encoder_kept: Kept,
    decoder_kept: Kept,
    /// Width of the feed-forward layers in units.
    encoder_width: usize,
    decoder_width: usize,
    /// Whether what a sublayer gives is there before and after dropout.
    dropout: bool,
}

/// Tensors of a size between two others, and what the allocator cannot use again at once.
const SLACK: usize = 3;

impl Sizes {
    fn new(config: &Config, trained: &Trained, update: Update) -> Self {
        let unit = config.d_model * F32;
        let (source, target) = (update.source_tokens * unit, update.target_tokens * unit);
        let most = if update.gradient_checkpointing { KEPT_BYTES / update.workers.max(1) } else { usize::MAX };
        let (encoder_layers, decoder_layers) = (trained.encoder_layers, trained.decoder_layers);
        // Global tokens are taken to be few.
        let stacks =
            [Stack::encoder(config, encoder_layers, source, 0), Stack::decoder(config, decoder_layers, target, source)];
        let [encoder_kept, decoder_kept] = keeping::plan(most, stacks);
        Self {
            row: unit,
            source,
            target,
            encoder_layers,
            decoder_layers,
            encoder_kept,
            decoder_kept,
            encoder_width: config.encoder_ffn_dim.div_ceil(config.d_model),
            decoder_width: config.decoder_ffn_dim.div_ceil(config.d_model),
            dropout: config.dropout > 0.0,
        }
    }

    /// What the first `layers` encoder layers keep, and the sum of the embeddings.
    fn encoder(&self, layers: usize) -> usize {
        let everything = layers.min(self.encoder_kept.everything);
        let outputs = (layers - everything).min(self.encoder_kept.outputs);
        (1 + layers + everything * (7 + self.encoder_width) + 3 * outputs) * self.source
    }

    fn decoder(&self) -> usize {
        let (layers, Kept { everything, outputs }) = (self.decoder_layers, self.decoder_kept);
        let kept = layers + everything * (11 + self.decoder_width) + 5 * outputs;
        let keys_and_values = everything + usize::from(everything < layers);
        (1 + kept) * self.target + 2 * keys_and_values * self.source
    }

    /// At the decoder's last layer: the encoded document and its gradient, those of keys and values.
    fn decoder_backward(&self) -> usize {
        let keep = self.decoder_kept.of(self.decoder_layers.saturating_sub(1));
        let working = self.working(self.target, self.decoder_width, keep);
        self.encoder(self.encoder_layers) + self.decoder() + (4 + SLACK) * self.source + working
    }

    fn last_encoder_backward(&self) -> usize {
        let keep = self.encoder_kept.of(self.encoder_layers.saturating_sub(1));
        self.encoder(self.encoder_layers) + self.working(self.source, self.encoder_width, keep) + SLACK * self.source
    }

    fn first_encoder_backward(&self) -> usize {
        let keep = self.encoder_kept.of(0);
        self.encoder(1) + self.working(self.source, self.encoder_width, keep) + SLACK * self.source
    }

    /// What the backward pass of one layer holds beside what was kept: in its feed-forward part or in its attention.
    fn working(&self, unit: usize, width: usize, keep: Keep) -> usize {
        let (feed_forward, attention) = match keep {
            Keep::Everything => (3, 7),
            Keep::Outputs => (4, 8),
            Keep::Input => (8, 10),
        };
        let part = unit.min(FEED_FORWARD_ROWS * self.row);
        (feed_forward * unit + 4 * width * part).max((attention + usize::from(self.dropout)) * unit)
    }
}

#[cfg(test)]
mod tests {
    use super::{Memory, Trained, Update};
    use epitome_model::Config;

    /// GiB of `epitome bench train --repeat 2` with LED-base: source and target tokens, recomputation, measured peak.
    const MEASURED: [(usize, usize, bool, f64); 9] = [
        (512, 256, true, 2.61),
        (512, 256, false, 2.57),
        (512, 2048, true, 2.63),
        (2048, 256, true, 2.71),
        (2048, 256, false, 2.82),
        (4096, 256, true, 2.87),
        (4096, 256, false, 3.34),
        (16_384, 512, true, 3.40),
        (65_536, 512, true, 5.98),
    ];

    #[test]
    fn led_base_takes_what_was_measured() {
        let base = Config { d_model: 768, encoder_layers: 6, decoder_layers: 6, ..Config::default() };
        let config = Config { encoder_ffn_dim: 3072, decoder_ffn_dim: 3072, ..base };
        for (source, target, gradient_checkpointing, measured) in MEASURED {
            let update = Update { gradient_checkpointing, ..Update::of(source, target) };
            let predicted = Memory::predict(&config, &Trained::all(&config), update).peak() as f64 / f64::from(1 << 30);
            let ratio = predicted / measured;
            assert!((0.9..1.1).contains(&ratio), "{source} + {target}: {predicted:.2} GiB, measured {measured}");
        }
    }

    #[test]
    fn more_of_anything_takes_more() {
        let config = Config::default();
        let trained = Trained::all(&config);
        let peak = |update| Memory::predict(&config, &trained, update).peak();
        let one = Update::of(8192, 256);
        for more in [
            Update { source_tokens: 9000, ..one },
            Update { target_tokens: 40_000, ..one },
            Update { micro_batches: 2, ..one },
            Update { micro_batches: 2, workers: 2, ..one },
            Update { gradient_checkpointing: false, ..one },
        ] {
            assert!(peak(more) > peak(one), "{more:?}");
        }
    }
}
