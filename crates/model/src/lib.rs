//! The LED network and its parameters: a model directory in, hidden states and logits out.
//!
//! The network is *Longformer: The Long-Document Transformer* (arXiv 2004.05150) in its encoder-decoder form, compatible
//! with the `LEDForConditionalGeneration` checkpoints of the hub. Batches are packed (see [`Documents`]): the documents lie
//! end to end in one `[T, d]` tensor and nothing is padded.
//!
//! The crate knows nothing about text, losses, optimizers or search, and the network has no mutable state: decoding caches
//! ([`DecoderCache`]) and dropout keys ([`Dropouts`]) belong to the caller.
//!
//! - [`Config`]: `config.json`, unknown fields kept
//! - [`Weights`]: named tensors, loaded from any of the hub's formats, initialised from a seed, or saved
//! - [`WeightFiles`]: the same still in their files, read one at a time; [`TensorSource`]: either
//! - [`Parameters`]: tensors in training, updated in place
//! - [`Led`], [`Encoder`], [`Decoder`]: the network; its layers have a forward and a backward pass ([`Keep`], [`GradientSums`])
//! - [`convert`](fn@convert): BART and allenai files to LED
#![deny(unsafe_code)]

mod attention;
mod cache;
mod config;
mod convert;
mod decoder;
mod decoder_layer;
mod documents;
mod encoder;
mod error;
mod feed_forward;
mod global_path;
mod gradients;
mod initialise;
mod layers;
mod led;
mod load;
mod longformer_attention;
mod parameters;
mod pickled;
mod pooling;
mod projections;
mod save;
mod schema;
mod step_input;
mod weights;

pub use cache::{CrossMemory, DecoderCache};
pub use config::{AttentionWindow, Config, TokenIds, one_token_id};
pub use convert::{ConvertOptions, Converted, convert};
pub use decoder::Decoder;
pub use decoder_layer::{DecoderInputs, DecoderLayer, DecoderLayerKept};
pub use documents::Documents;
pub use encoder::{Encoder, EncoderLayer, EncoderLayerKept};
pub use error::{Error, Result};
pub use gradients::{GradientSums, Keep};
pub use initialise::PositionEmbeddings;
pub use layers::Dropouts;
pub use led::Led;
pub use load::WeightFiles;
pub use parameters::Parameters;
pub use save::{GENERATION_CONFIG, SavedDtype, held_model};
pub use schema::{DECODER_POSITIONS, ENCODER_POSITIONS, ParameterKind, ParameterShape, SHARED, parameter_shapes};
pub use weights::{TensorSource, Weights};
