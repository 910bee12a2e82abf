//! Turning BART models and allenai's Longformer encoder-decoders into LED model directories.

mod source;

use std::fs;
use std::path::Path;

use self::source::Source;
use crate::save::WEIGHTS;
use crate::{Config, Error, GENERATION_CONFIG, Result, SavedDtype, Weights, held_model};

/// What may be chosen in a conversion.
#[derive(Clone, Copy, Debug, Default)]
pub struct ConvertOptions {
    /// Rows of the encoder's position table: the source's are tiled or cut. By default 16,384 for BART, and as many as
    /// there are for allenai's models.
    pub max_encoder_positions: Option<usize>,
    /// Two-sided window of every encoder layer. By default 1,024 for BART, and the model's own for allenai's.
    pub attention_window: Option<usize>,
    /// The numbers of the weights written, f32 by default. With it, a LED model is taken too and only its numbers change.
    pub dtype: Option<SavedDtype>,
    /// Names of files that go along unchanged where the source has them, as `generation_config.json` does: those of its tokenizer.
    pub companions: &'static [&'static str],
}

/// What a conversion has made.
#[derive(Clone, Debug)]
pub struct Converted {
    /// The architecture written.
    pub config: Config,
    /// `BART`, `allenai Longformer encoder-decoder` or `LED`.
    pub family: &'static str,
    /// Position rows of the source's encoder, without the leading two.
    pub source_positions: usize,
    /// Tensors of the source that LED has no place for.
    pub ignored: Vec<String>,
    /// The files that went along.
    pub copied: Vec<&'static str>,
}

/// Reads the BART or allenai model in `from` and writes a LED model directory to `output`, as in section 7 of the paper: the
/// two leading position rows, which LED does not have, are dropped and the rest tiled, and where the source has no `*_global`
/// projections they start as copies of the local ones.
///
/// # Errors
/// When `from` is not such a model, one of its tensors is missing or has a wrong shape, or `output` cannot be written.
pub fn convert(from: &Path, output: &Path, options: ConvertOptions) -> Result<Converted> {
    if epitome_files::same_file(from, output) {
        return Err(Error::Input(format!("{}: the output must be another directory", output.display())));
    }
    if let Some(held) = held_model(output) {
        return Err(Error::Input(format!("{}: the output already holds a model: choose another", held.display())));
    }
    let (config, weights, mut converted) =
        if options.dtype.is_some() && is_led(from) { read_led(from, options)? } else { read_foreign(from, options)? };
    check_generation_config(&from.join(GENERATION_CONFIG))?;
    fs::create_dir_all(output).map_err(Error::io(output))?;
    weights.save(output, options.dtype.unwrap_or(SavedDtype::F32))?;
    let copied = copy_companions(from, output, options.companions);
    // Last, so that a directory with a configuration is complete.
    let complete = copied.and_then(|copied| config.save(output).map(|()| copied));
    if complete.is_err() {
        // The first error is the one to report. Weights alone would be taken for a model, which is never replaced.
        let _ = fs::remove_file(output.join(WEIGHTS));
    }
    converted.copied = complete?;
    Ok(converted)
}

/// What is to be written, and the report of it.
type Read = (Config, Weights, Converted);

fn read_foreign(from: &Path, options: ConvertOptions) -> Result<Read> {
    let source = Source::open(from)?;
    let config = source.led_config(options)?;
    let (weights, ignored) = source.led_weights(&config)?;
    let (family, source_positions) = (source.family(), source.encoder_positions);
    let converted = Converted { family, source_positions, ignored, copied: Vec::new(), config: config.clone() };
    Ok((config, weights, converted))
}

fn is_led(directory: &Path) -> bool {
    let text = fs::read_to_string(directory.join("config.json")).unwrap_or_default();
    let fields: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
    fields.get("model_type").is_some_and(|family| family == "led")
}

fn read_led(from: &Path, options: ConvertOptions) -> Result<Read> {
    if options.max_encoder_positions.is_some() || options.attention_window.is_some() {
        let message = "is a LED model already: of it, only the numbers of the weights can be converted";
        return Err(Error::config(&from.join("config.json"), message));
    }
    let config = Config::load(from)?;
    let weights = Weights::load(from, &config)?;
    let converted = Converted {
        family: "LED",
        source_positions: config.max_encoder_position_embeddings,
        ignored: weights.ignored().to_vec(),
        copied: Vec::new(),
        config: config.clone(),
    };
    Ok((config, weights, converted))
}

/// Refuses a damaged file before it is copied; there may be none.
fn check_generation_config(path: &Path) -> Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    let parsed: serde_json::Result<serde_json::Map<String, serde_json::Value>> = serde_json::from_str(&text);
    parsed.map(drop).map_err(|error| Error::config(path, error.to_string()))
}

fn copy_companions(from: &Path, output: &Path, names: &[&'static str]) -> Result<Vec<&'static str>> {
    let mut copied = Vec::new();
    for name in names.iter().copied().chain([GENERATION_CONFIG]) {
        let source = from.join(name);
        if source.exists() {
            let target = output.join(name);
            epitome_files::replace_file(&target, |temporary| fs::copy(&source, temporary).map(drop))
                .map_err(Error::io(&target))?;
            copied.push(name);
        }
    }
    Ok(copied)
}
