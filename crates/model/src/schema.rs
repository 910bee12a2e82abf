//! Which tensors a LED model has: one list that loading, initialising, saving and the network agree on.

use crate::Config;

/// How a fresh parameter is filled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParameterKind {
    /// A weight matrix: normal with standard deviation `init_std`.
    Weight,
    /// The shared embedding: as [`ParameterKind::Weight`], with the padding row zero.
    Embedding,
    /// A position table: as [`ParameterKind::Weight`], or sinusoids ([`crate::PositionEmbeddings`]).
    Positions,
    /// A bias: zero.
    Bias,
    /// The scale of a layer norm: one.
    NormWeight,
    /// The shift of a layer norm: zero.
    NormBias,
    /// `final_logits_bias`: zero, and not trained.
    Buffer,
}

/// A tensor's name on the hub, its shape and its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParameterShape {
    /// As in `LEDForConditionalGeneration`'s state dict.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
    /// What it is.
    pub kind: ParameterKind,
}

/// Name of the embedding that encoder, decoder and output head share, `[V, d]`.
pub const SHARED: &str = "led.shared.weight";
/// Name of the encoder's position table, `[P, d]`.
pub const ENCODER_POSITIONS: &str = "led.encoder.embed_positions.weight";
/// Name of the decoder's position table, `[P, d]`.
pub const DECODER_POSITIONS: &str = "led.decoder.embed_positions.weight";
/// Name of the bias added to the logits, `[1, V]`.
pub(crate) const FINAL_LOGITS_BIAS: &str = "final_logits_bias";

/// Every tensor of the model that `config` describes.
pub fn parameter_shapes(config: &Config) -> Vec<ParameterShape> {
    let mut list = Listing(Vec::new());
    let d = config.d_model;
    list.add(SHARED, &[config.vocab_size, d], ParameterKind::Embedding);
    list.add(FINAL_LOGITS_BIAS, &[1, config.vocab_size], ParameterKind::Buffer);
    for (side, table, positions) in [
        ("led.encoder", ENCODER_POSITIONS, config.max_encoder_position_embeddings),
        ("led.decoder", DECODER_POSITIONS, config.max_decoder_position_embeddings),
    ] {
        list.add(table, &[positions, d], ParameterKind::Positions);
        list.norm(&format!("{side}.layernorm_embedding"), d);
    }
    for layer in 0..config.encoder_layers {
        let prefix = format!("led.encoder.layers.{layer}");
        for projection in ["query", "key", "value", "query_global", "key_global", "value_global"] {
            list.linear(&format!("{prefix}.self_attn.longformer_self_attn.{projection}"), d, d);
        }
        list.linear(&format!("{prefix}.self_attn.output"), d, d);
        list.norm(&format!("{prefix}.self_attn_layer_norm"), d);
        list.feed_forward(&prefix, d, config.encoder_ffn_dim);
    }
    for layer in 0..config.decoder_layers {
        let prefix = format!("led.decoder.layers.{layer}");
        for attention in ["self_attn", "encoder_attn"] {
            for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                list.linear(&format!("{prefix}.{attention}.{projection}"), d, d);
            }
            list.norm(&format!("{prefix}.{attention}_layer_norm"), d);
        }
        list.feed_forward(&prefix, d, config.decoder_ffn_dim);
    }
    list.0
}

/// Whether a parameter is a position table.
pub(crate) fn is_position_table(name: &str) -> bool {
    [ENCODER_POSITIONS, DECODER_POSITIONS].contains(&name)
}

struct Listing(Vec<ParameterShape>);

impl Listing {
    fn add(&mut self, name: &str, shape: &[usize], kind: ParameterKind) {
        self.0.push(ParameterShape { name: name.into(), shape: shape.into(), kind });
    }

    fn linear(&mut self, prefix: &str, output: usize, input: usize) {
        self.add(&format!("{prefix}.weight"), &[output, input], ParameterKind::Weight);
        self.add(&format!("{prefix}.bias"), &[output], ParameterKind::Bias);
    }

    fn norm(&mut self, prefix: &str, d: usize) {
        self.add(&format!("{prefix}.weight"), &[d], ParameterKind::NormWeight);
        self.add(&format!("{prefix}.bias"), &[d], ParameterKind::NormBias);
    }

    fn feed_forward(&mut self, prefix: &str, d: usize, width: usize) {
        self.linear(&format!("{prefix}.fc1"), width, d);
        self.linear(&format!("{prefix}.fc2"), d, width);
        self.norm(&format!("{prefix}.final_layer_norm"), d);
    }
}
