//! What layers keep for the backward pass within a budget.

use epitome_model::{Config, Keep};

/// Layers of a stack that the backward pass reaches, and bytes of what each can keep beside its input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stack {
    pub(crate) layers: usize,
    outputs: usize,
    everything: usize,
}

impl Stack {
    /// The encoder, for hidden states of so many bytes with so many global tokens.
    pub(crate) fn encoder(config: &Config, layers: usize, hidden: usize, global_tokens: usize) -> Self {
        let width = hidden / config.d_model.max(1) * config.encoder_ffn_dim;
        // Folded queries and what was pooled, in f32.
        let global = 2 * global_tokens * config.encoder_attention_heads * (config.d_model + 1) * size_of::<f32>();
        // Queries, keys, values; context, output of attention and its sublayer, that of the feed-forward layer.
        Self { layers, outputs: 3 * hidden + global, everything: 7 * hidden + width + global }
    }

    /// The decoder, for hidden states of so many bytes beside the encoder's.
    pub(crate) fn decoder(config: &Config, layers: usize, hidden: usize, encoded: usize) -> Self {
        let width = hidden / config.d_model.max(1) * config.decoder_ffn_dim;
        // Of both attentions queries, contexts, outputs and those of their sublayers, and keys and values; the output of the
        // feed-forward layer.
        Self { layers, outputs: 5 * hidden, everything: 11 * hidden + width + 2 * encoded }
    }
}

/// How many of a stack's layers that are reached keep everything, and how many after them their outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) everything: usize,
    pub(crate) outputs: usize,
}

impl Kept {
    /// What of the layers that are reached the one with this index keeps.
    pub(crate) fn of(self, index: usize) -> Keep {
        if index < self.everything {
            Keep::Everything
        } else if index < self.everything + self.outputs {
            Keep::Outputs
        } else {
            Keep::Input
        }
    }
}

/// What the layers of encoder and decoder keep within `budget` bytes. Outputs save most for a byte; so only what is left when all
/// layers keep theirs goes to keeping everything.
pub(crate) fn plan(budget: usize, stacks: [Stack; 2]) -> [Kept; 2] {
    let mut left = budget;
    let mut take = |layers: usize, bytes: usize| {
        let count = (left / bytes.max(1)).min(layers);
        left -= count * bytes;
        count
    };
    let mut kept = stacks.map(|stack| Kept { everything: 0, outputs: take(stack.layers, stack.outputs) });
    if kept.iter().zip(&stacks).all(|(kept, stack)| kept.outputs == stack.layers) {
        for (kept, stack) in kept.iter_mut().zip(&stacks) {
            kept.everything = take(stack.layers, stack.everything - stack.outputs);
            kept.outputs -= kept.everything;
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_come_first_and_the_budget_is_kept() {
        let stacks =
            [Stack { layers: 3, outputs: 10, everything: 25 }, Stack { layers: 2, outputs: 4, everything: 50 }];
        let counts = |budget| plan(budget, stacks).map(|kept| (kept.everything, kept.outputs));
        assert_eq!(counts(0), [(0, 0), (0, 0)]);
        assert_eq!(counts(29), [(0, 2), (0, 2)]);
        assert_eq!(counts(38), [(0, 3), (0, 2)]);
        assert_eq!(counts(52), [(0, 3), (0, 2)]);
        assert_eq!(counts(53), [(1, 2), (0, 2)]);
        assert_eq!(counts(83 + 46), [(3, 0), (1, 1)]);
        assert_eq!(counts(usize::MAX), [(3, 0), (2, 0)]);
        let kept = Kept { everything: 1, outputs: 1 };
        assert_eq!([0, 1, 2].map(|index| kept.of(index)), [Keep::Everything, Keep::Outputs, Keep::Input]);
    }
}
