//! How much memory a document will take, before anything is loaded.

use epitome_kernels::Precision;
use epitome_model::{Config, ParameterKind, parameter_shapes};

const F32: usize = 4;

/// What a process takes beside weights and documents.
const PROCESS: usize = 20 << 20;

/// The most bytes that the keys and values of a document may take, in all layers: those of 290,000 tokens for LED-base in
/// f32. Of longer documents only the encoder's output is kept.
const MOST_KEPT_BYTES: usize = 10 << 30;

/// Bytes that a model and one document take, at the moments when most is held. Measured peaks lie within a tenth with a few threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// The weights in the order of products, and the shared table a second time for look-ups.
    pub weights: usize,
    /// Hidden states, queries, keys, values and their context.
    pub encode: usize,
    /// The encoded document, its keys and values for every layer of the decoder, and those of the beams' own tokens.
    pub generate: usize,
}

impl Memory {
    /// For a document of `tokens` tokens, and `beams` hypotheses of `target_tokens` tokens each.
    pub fn predict(config: &Config, precision: Precision, tokens: usize, beams: usize, target_tokens: usize) -> Self {
        let d = config.d_model;
        let document = product([tokens, d, F32]);
        // Below f32 the rows that enter a product are there in short form too.
        let short = if precision == Precision::F32 { 0 } else { product([tokens, d, precision.bytes()]) };
        let own = product([2, config.decoder_layers, d, target_tokens, beams, F32]);
        let logits = product([2, beams, config.vocab_size, F32]);
        Self {
            weights: weights(config, precision),
            encode: sum([product([5, document]), short]),
            generate: sum([document, kept(config, precision, tokens), own, logits]),
        }
    }

    /// The most that is held at once.
    pub fn peak(&self) -> usize {
        sum([PROCESS, self.weights, self.weights / 25, self.encode.max(self.generate)])
    }
}

/// A product of counts, or the greatest number where it is none: a document that large fits nowhere.
fn product<const N: usize>(factors: [usize; N]) -> usize {
    factors.into_iter().fold(1, usize::saturating_mul)
}

fn sum<const N: usize>(parts: [usize; N]) -> usize {
    parts.into_iter().fold(0, usize::saturating_add)
}

fn weights(config: &Config, precision: Precision) -> usize {
    let shared = config.vocab_size * config.d_model;
    let packed: usize = parameter_shapes(config)
        .iter()
        .map(|parameter| {
            let count: usize = parameter.shape.iter().product();
            let is_looked_up = matches!(parameter.kind, ParameterKind::Embedding | ParameterKind::Positions)
                || parameter.shape.len() < 2;
            count * if is_looked_up { F32 } else { precision.bytes() }
        })
        .sum();
    packed + shared * precision.bytes()
}

/// Keys and values, or what takes their place for a document for which they would be too many.
fn kept(config: &Config, precision: Precision, tokens: usize) -> usize {
    keys_and_values_bytes(config, precision, tokens)
        .unwrap_or(2 * config.decoder_layers * config.d_model * config.d_model * F32)
}

/// Bytes of the keys and values of a document of `tokens` tokens, in all layers, if they are few enough to be kept.
pub(crate) fn keys_and_values_bytes(config: &Config, precision: Precision, tokens: usize) -> Option<usize> {
    let bytes = product([2, config.decoder_layers, tokens, config.d_model, precision.bytes()]);
    (bytes <= MOST_KEPT_BYTES).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_can_be_counted_is_the_most() {
        let memory = Memory::predict(&Config::default(), Precision::Bf16, usize::MAX, usize::MAX, usize::MAX);
        assert_eq!([memory.encode, memory.generate, memory.peak()], [usize::MAX; 3]);
    }

    /// 12 layers of keys and values of width 1024 are 98,304 bytes a token in f32.
    #[test]
    fn keys_and_values_are_kept_up_to_the_limit() {
        let most = MOST_KEPT_BYTES / (2 * 12 * 1024 * 4);
        let kept = |precision, tokens| keys_and_values_bytes(&Config::default(), precision, tokens);
        assert_eq!(kept(Precision::F32, most), Some(most * 98_304));
        assert_eq!(kept(Precision::F32, most + 1), None);
        assert_eq!(kept(Precision::Int8, most + 1), Some((most + 1) * 24_576));
        assert_eq!(kept(Precision::Int8, usize::MAX), None);
    }
}
