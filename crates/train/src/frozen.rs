//! Parameters that are not trained, and what need not be computed for them.

use std::collections::BTreeSet;

use candle_core::Tensor;
use epitome_model::{GradientSums, SHARED};

use crate::Gradients;

/// The frozen parameters of a model, and where its backward pass ends because nothing before is trained.
#[derive(Clone, Debug, Default)]
pub(crate) struct Frozen {
    names: BTreeSet<String>,
    /// The first part of the encoder that the backward pass reaches: 0 are the embeddings, then the layers from 1 on; more
    /// than there are when it reaches none.
    pub(crate) encoder_start: usize,
    /// The same of the decoder.
    pub(crate) decoder_start: usize,
}

impl Frozen {
    /// All `parameters` that are not `trained`.
    pub(crate) fn new(parameters: &[&str], is_trained: impl Fn(&str) -> bool) -> Self {
        let first_trained = |stack: &str| {
            let trained = parameters.iter().filter(|name| is_trained(name));
            trained.filter_map(|name| part(stack, name)).min().unwrap_or(usize::MAX)
        };
        let (encoder_start, decoder_start) = (first_trained("led.encoder."), first_trained("led.decoder."));
        // The encoder's gradient comes from every layer of the decoder.
        let decoder_start = if encoder_start == usize::MAX { decoder_start } else { decoder_start.min(1) };
        let names = parameters.iter().filter(|name| !is_trained(name)).map(|name| (*name).to_owned()).collect();
        Self { names, encoder_start, decoder_start }
    }

    /// Whether the parameter has no gradient.
    pub(crate) fn is_frozen(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Whether the backward pass needs the gradient of the encoded documents.
    pub(crate) fn trains_encoder(&self) -> bool {
        self.encoder_start != usize::MAX
    }
}

/// Of a stack's layers, so many are reached by a backward pass that ends at part `start`.
pub(crate) fn reached_layers(start: usize, layers: usize) -> usize {
    layers.saturating_sub(start.saturating_sub(1))
}

/// Which part of a stack needs the parameter: 0 its embeddings, then its layers.
fn part(stack: &str, name: &str) -> Option<usize> {
    if name == SHARED {
        return Some(0);
    }
    let name = name.strip_prefix(stack)?;
    let layer = name.strip_prefix("layers.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    Some(layer.map_or(0, |layer| layer + 1))
}

/// Sums of the gradients of what is trained.
pub(crate) struct TrainedSums<'a> {
    pub(crate) frozen: &'a Frozen,
    pub(crate) gradients: &'a mut Gradients,
}

impl GradientSums for TrainedSums<'_> {
    fn sum(&mut self, name: &str, parameter: &Tensor) -> epitome_model::Result<Option<Tensor>> {
        if self.frozen.is_frozen(name) { Ok(None) } else { self.gradients.sum(name, parameter).map(Some) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn starts(trained: &[&str]) -> (usize, usize) {
        let all = [
            "led.decoder.embed_positions.weight",
            "led.decoder.layers.0.fc1.weight",
            "led.decoder.layers.1.fc1.weight",
            "led.encoder.embed_positions.weight",
            "led.encoder.layers.0.fc1.weight",
            "led.encoder.layers.1.fc1.bias",
            "led.shared.weight",
        ];
        let frozen = Frozen::new(&all, |name| trained.iter().any(|part| name.contains(part)));
        assert_eq!(
            frozen.names.len(),
            all.into_iter().filter(|name| !trained.iter().any(|t| name.contains(t))).count()
        );
        (frozen.encoder_start, frozen.decoder_start)
    }

    #[test]
    fn the_backward_pass_ends_at_the_first_part_that_is_trained() {
        assert_eq!(starts(&["led"]), (0, 0));
        assert_eq!(starts(&["shared"]), (0, 0));
        assert_eq!(starts(&["encoder.layers.1"]), (2, 1));
        assert_eq!(starts(&["encoder.layers", "decoder.layers.1"]), (1, 1));
        assert_eq!(starts(&["decoder"]), (usize::MAX, 0));
        assert_eq!(starts(&["decoder.layers.1"]), (usize::MAX, 2));
    }
}
