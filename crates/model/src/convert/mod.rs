//! Turning BART models and allenai's Longformer encoder-decoders into LED model directories.

mod source;

use std::fs;
use std::path::Path;

use self::source::Source;
use crate::{COMPANION_FILES, Config, Error, Result, SavedDtype, held_model, replace_file};

/// What may be chosen in a conversion.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConvertOptions {
    /// Rows of the encoder's position table: the source's are tiled or cut. By default 16,384 for BART, and as many as
    /// there are for allenai's models.
    pub max_encoder_positions: Option<usize>,
    /// Two-sided window of every encoder layer. By default 1,024 for BART, and the model's own for allenai's.
    pub attention_window: Option<usize>,
}

/// What a conversion has made.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The architecture written.
    pub config: Config,
    /// `BART` or `allenai Longformer encoder-decoder`.
    pub family: &'static str,
    /// Position rows of the source's encoder, without the leading two.
    pub source_positions: usize,
    /// Tensors of the source that LED has no place for.
    pub ignored: Vec<String>,
    /// Tokenizer and generation files copied.
    pub copied: Vec<&'static str>,
}

/// Reads the BART or allenai model in `from` and writes a LED model directory to `output` (semantics B3, B4): the two
/// leading position rows are dropped and the rest tiled, and where the source has no `*_global` projections they start as
/// copies of the local ones.
///
/// # Errors
/// When `from` is not such a model, one of its tensors is missing or has a wrong shape, or `output` cannot be written.
pub fn convert(from: &Path, output: &Path, options: ConvertOptions) -> Result<Converted> {
    let source = Source::open(from)?;
    let config = source.led_config(options)?;
    fs::create_dir_all(output).map_err(Error::io(output))?;
    if same_directory(from, output) {
        return Err(Error::Input(format!("{}: the output must be another directory", output.display())));
    }
    if let Some(held) = held_model(output) {
        return Err(Error::Input(format!("{}: the output already holds a model: choose another", held.display())));
    }
    let (weights, ignored) = source.led_weights(&config)?;
    weights.save(output, SavedDtype::F32)?;
    let copied = copy_companions(from, output)?;
    // Last, so that a directory with a configuration is complete.
    config.save(output)?;
    Ok(Converted { family: source.family(), source_positions: source.encoder_positions, ignored, copied, config })
}

fn same_directory(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

fn copy_companions(from: &Path, output: &Path) -> Result<Vec<&'static str>> {
    let mut copied = Vec::new();
    for name in COMPANION_FILES {
        let source = from.join(name);
        if source.exists() {
            let target = output.join(name);
            replace_file(&target, |temporary| fs::copy(&source, temporary).map(drop).map_err(Error::io(&target)))?;
            copied.push(name);
        }
    }
    Ok(copied)
}
