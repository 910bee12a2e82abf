//! `epitome convert`.

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, ValueEnum};
use epitome_data::Tokenizer;
use epitome_model::{ConvertOptions, SavedDtype};

use crate::failure::{usage, warn};
use crate::output::print;
use crate::values::positive_u32;

/// Options of `epitome convert`.
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// Directory of a BART model or an allenai Longformer encoder-decoder
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// LED model directory to write
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Rows of the encoder's position table [default: 16384 for BART, as many as there are for allenai's]
    #[arg(long, value_name = "N", value_parser = positive_u32())]
    max_encoder_positions: Option<usize>,
    /// Two-sided attention window of every encoder layer [default: 1024 for BART, the model's own for allenai's]
    #[arg(long, value_name = "W", value_parser = positive_u32())]
    attention_window: Option<usize>,
    /// Numbers of the weights written; with it, --from may be a LED model too [default: f32]
    #[arg(long, value_enum)]
    dtype: Option<Dtype>,
}

/// Numbers as the user names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Dtype {
    /// 32-bit floats.
    F32,
    /// 16-bit brain floats: half the size.
    Bf16,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if let Some(window) = arguments.attention_window.filter(|window| !window.is_multiple_of(2)) {
        return usage(format!("--attention-window {window}: a two-sided window must be even"));
    }
    let options = ConvertOptions {
        max_encoder_positions: arguments.max_encoder_positions,
        attention_window: arguments.attention_window,
        dtype: arguments.dtype.map(|dtype| match dtype {
            Dtype::F32 => SavedDtype::F32,
            Dtype::Bf16 => SavedDtype::Bf16,
        }),
        companions: &Tokenizer::FILES,
    };
    let converted = epitome_model::convert(&arguments.from, &arguments.output, options)?;
    let positions = converted.config.max_encoder_position_embeddings;
    if positions < converted.source_positions {
        warn(format_args!("only the first {positions} of {} encoder positions are kept", converted.source_positions));
    }
    if !converted.ignored.is_empty() {
        warn(format_args!("LED has no place for {}", converted.ignored.join(", ")));
    }
    print(&format!(
        "{} -> LED in {}: {} encoder positions from {}, {}",
        converted.family,
        arguments.output.display(),
        positions,
        converted.source_positions,
        match converted.copied.as_slice() {
            [] => "no tokenizer files to copy".to_owned(),
            files => format!("copied {}", files.join(", ")),
        }
    ))
}
