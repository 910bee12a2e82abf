//! A BART model or an allenai Longformer encoder-decoder, read as LED.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::{Map, Value};

use super::ConvertOptions;
use crate::load::{Files, is_of_a_layer};
use crate::schema::{DECODER_POSITIONS, ENCODER_POSITIONS, FINAL_LOGITS_BIAS, SHARED, is_position_table};
use crate::{AttentionWindow, Config, Error, ParameterKind, Result, Weights, parameter_shapes};

/// Rows in front of BART's position tables that LED does not have (`offset` of `BartLearnedPositionalEmbedding`).
const POSITION_OFFSET: usize = 2;
/// Encoder positions and two-sided window of the released LED models, for BART models, which have neither.
const LED_ENCODER_POSITIONS: usize = 16_384;
const LED_ATTENTION_WINDOW: usize = 1_024;
/// What a position table may take in f32, far more than any model's: one that is larger would only take memory.
const LARGEST_TABLE_BYTES: usize = 16 << 30;
/// Fields of BART's and allenai's configurations that mean nothing to LED.
const DROPPED_FIELDS: [&str; 15] = [
    "_name_or_path",
    "add_bias_logits",
    "add_final_layer_norm",
    "attention_dilation",
    "attention_mode",
    "autoregressive",
    "extra_pos_embeddings",
    "gradient_checkpointing",
    "max_position_embeddings",
    "normalize_before",
    "normalize_embedding",
    "num_hidden_layers",
    "scale_embedding",
    "static_position_embeddings",
    "transformers_version",
];

/// A model to convert.
pub(super) struct Source {
    directory: PathBuf,
    fields: Map<String, Value>,
    files: Files,
    names: BTreeSet<String>,
    longformer: bool,
    /// Rows of the encoder's position table, without the leading two.
    pub(super) encoder_positions: usize,
}

impl Source {
    pub(super) fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("config.json");
        let fields = read_fields(&path)?;
        refuse_other_layouts(&fields).map_err(|message| Error::config(&path, message))?;
        let files = Files::open(directory)?;
        let names = files.names();
        let longformer = names.iter().any(|name| name.contains(".longformer_self_attn."));
        let mut source =
            Self { directory: directory.to_owned(), fields, files, names, longformer, encoder_positions: 0 };
        let (_, positions) = source.find(ENCODER_POSITIONS, &[])?;
        source.encoder_positions = positions.dim(0)?.saturating_sub(POSITION_OFFSET);
        Ok(source)
    }

    pub(super) fn family(&self) -> &'static str {
        if self.longformer { "allenai Longformer encoder-decoder" } else { "BART" }
    }

    pub(super) fn led_config(&self, options: ConvertOptions) -> Result<Config> {
        let path = self.directory.join("config.json");
        let complain = |message: String| Error::config(&path, message);
        let default_positions = if self.longformer { self.encoder_positions } else { LED_ENCODER_POSITIONS };
        let (_, decoder_positions) = self.find(DECODER_POSITIONS, &[])?;
        let (_, shared) = self.find(SHARED, &[])?;
        let positions = options.max_encoder_positions.unwrap_or(default_positions);
        let most = LARGEST_TABLE_BYTES / size_of::<f32>() / shared.dim(1)?.max(1);
        if positions > most {
            return Err(Error::Input(format!(
                "--max-encoder-positions {positions} is too large: at most {most} rows of this width take 16 GiB"
            )));
        }
        let window = match options.attention_window {
            Some(window) => AttentionWindow::Every(window),
            None => self.attention_window().map_err(complain)?,
        };
        let mut fields = self.fields.clone();
        DROPPED_FIELDS.iter().for_each(|name| drop(fields.shift_remove(*name)));
        fields.insert("model_type".into(), "led".into());
        fields.insert("architectures".into(), serde_json::json!(["LEDForConditionalGeneration"]));
        fields.insert("vocab_size".into(), shared.dim(0)?.into());
        fields.insert("max_encoder_position_embeddings".into(), positions.into());
        fields.insert(
            "max_decoder_position_embeddings".into(),
            decoder_positions.dim(0)?.saturating_sub(POSITION_OFFSET).into(),
        );
        let window = serde_json::to_value(window).expect("a window is a number or a list of numbers");
        fields.insert("attention_window".into(), window);
        Config::from_json(&Value::Object(fields).to_string(), &path)
    }

    /// allenai's configurations give one side of the window; LED's give both.
    fn attention_window(&self) -> std::result::Result<AttentionWindow, String> {
        let malformed = || "attention_window must be a number or a list of numbers".to_owned();
        let both_sides =
            |side: &Value| side.as_u64().map(|side| (side as usize).saturating_mul(2)).ok_or_else(malformed);
        match self.fields.get("attention_window") {
            _ if !self.longformer => Ok(AttentionWindow::Every(LED_ATTENTION_WINDOW)),
            Some(Value::Array(sides)) => {
                Ok(AttentionWindow::PerLayer(sides.iter().map(both_sides).collect::<std::result::Result<_, _>>()?))
            }
            Some(side) => Ok(AttentionWindow::Every(both_sides(side)?)),
            None => Err("attention_window is missing: give --attention-window".into()),
        }
    }

    /// All tensors of the LED model, and the names of the source's tensors that went nowhere.
    pub(super) fn led_weights(&self, config: &Config) -> Result<(Weights, Vec<String>)> {
        let mut used = BTreeSet::new();
        let mut tensors = BTreeMap::new();
        for parameter in parameter_shapes(config) {
            let tensor = if parameter.kind == ParameterKind::Buffer && !self.has(FINAL_LOGITS_BIAS) {
                Tensor::zeros(parameter.shape.as_slice(), DType::F32, &Device::Cpu)?
            } else {
                let (stored, tensor) = self.find(&parameter.name, &parameter.shape)?;
                used.insert(stored);
                if parameter.kind == ParameterKind::Positions { tile(&tensor, parameter.shape[0])? } else { tensor }
            };
            tensors.insert(parameter.name, tensor);
        }
        let is_copy = |name: &str| name.ends_with("embed_tokens.weight") || name == "lm_head.weight";
        let ignored: Vec<String> =
            self.names.iter().filter(|name| !used.contains(*name) && !is_copy(name)).cloned().collect();
        if let Some(name) = ignored.iter().find(|name| is_of_a_layer(name)) {
            return Err(Error::SurplusTensor { path: self.files.describe(&self.directory), name: name.clone() });
        }
        Ok((Weights::new(tensors, &self.directory, Vec::new()), ignored))
    }

    fn has(&self, name: &str) -> bool {
        candidates(name).iter().any(|candidate| self.names.contains(candidate))
    }

    /// The source's tensor for LED's parameter `name` as f32 on the host, with its name there. An empty `expected` accepts
    /// any shape; the rows of position tables are exempt from the check because they change in number.
    fn find(&self, name: &str, expected: &[usize]) -> Result<(String, Tensor)> {
        let origin = self.files.describe(&self.directory);
        let stored = candidates(name)
            .into_iter()
            .find(|candidate| self.names.contains(candidate))
            .ok_or_else(|| Error::MissingTensor { path: origin, name: name.into(), expected: expected.into() })?;
        let (path, tensor) = self.files.tensor(&stored)?;
        let tensor = tensor.to_dtype(DType::F32)?.contiguous()?;
        let tensor = if name == FINAL_LOGITS_BIAS && tensor.rank() == 1 { tensor.unsqueeze(0)? } else { tensor };
        let is_table = is_position_table(name);
        let same_width = matches!((tensor.dims(), expected), ([_, found], [_, width]) if found == width);
        if !(expected.is_empty() || tensor.dims() == expected || is_table && same_width) {
            return Err(Error::TensorShape {
                path: path.to_owned(),
                name: stored,
                expected: expected.into(),
                found: tensor.dims().into(),
                hint: if is_table { "; of a position table only the number of rows may be another" } else { "" },
            });
        }
        Ok((stored, tensor))
    }
}

/// BART's family has members whose weights mean something else: they normalise before their sublayers
/// or scale their embeddings.
fn refuse_other_layouts(fields: &Map<String, Value>) -> std::result::Result<(), String> {
    match fields.get("model_type").and_then(Value::as_str) {
        None | Some("bart" | "longformer") => {}
        Some("led") => return Err("this is a LED model already; nothing to convert".into()),
        Some(family) => {
            return Err(format!(
                "model_type `{family}` cannot be converted by copying weights; only BART and allenai's \
                 Longformer encoder-decoders can"
            ));
        }
    }
    for (name, refused) in [
        ("normalize_before", true),
        ("add_final_layer_norm", true),
        ("scale_embedding", true),
        ("normalize_embedding", false),
        ("static_position_embeddings", true),
    ] {
        if fields.get(name) == Some(&Value::Bool(refused)) {
            return Err(format!("`{name}` is {refused}: this is not a BART that LED can express"));
        }
    }
    Ok(())
}

fn read_fields(path: &Path) -> Result<Map<String, Value>> {
    let text = fs::read_to_string(path).map_err(Error::io(path))?;
    serde_json::from_str(&text).map_err(|error| Error::config(path, error.to_string()))
}

/// Names under which BART or allenai files may hold LED's parameter `name`, best first.
fn candidates(name: &str) -> Vec<String> {
    let Some(inner) = name.strip_prefix("led.") else {
        return vec![name.to_owned()];
    };
    let mut inners = vec![inner.to_owned()];
    if name == SHARED {
        inners.push("encoder.embed_tokens.weight".into());
    }
    // BART's encoder attention is a plain one, from which local and global projections both start.
    for (longformer, plain) in [
        ("longformer_self_attn.query_global.", "q_proj."),
        ("longformer_self_attn.key_global.", "k_proj."),
        ("longformer_self_attn.value_global.", "v_proj."),
        ("longformer_self_attn.query.", "q_proj."),
        ("longformer_self_attn.key.", "k_proj."),
        ("longformer_self_attn.value.", "v_proj."),
    ] {
        if inner.contains(longformer) {
            inners.push(inner.replace(longformer, plain));
        }
    }
    if inner.contains("encoder.layers.") && inner.contains("self_attn.output.") {
        inners.push(inner.replace("self_attn.output.", "self_attn.out_proj."));
    }
    inners.into_iter().flat_map(|inner| [format!("model.{inner}"), inner]).collect()
}

/// Drops the leading rows of a position table and repeats or cuts the rest to `rows` rows.
fn tile(table: &Tensor, rows: usize) -> Result<Tensor> {
    let available = table.dim(0)?.saturating_sub(POSITION_OFFSET);
    if available == 0 {
        return Err(Error::Input(format!(
            "a position table of {} rows holds nothing behind the two leading ones",
            table.dim(0)?
        )));
    }
    let table = table.narrow(0, POSITION_OFFSET, available)?;
    let copies = vec![&table; rows.div_ceil(available)];
    Ok(Tensor::cat(&copies, 0)?.narrow(0, 0, rows)?.contiguous()?)
}

#[cfg(test)]
mod tests {
    use super::{candidates, tile};
    use candle_core::{Device, Tensor};

    #[test]
    fn positions_lose_two_rows_and_repeat() {
        let table = Tensor::from_vec(vec![90f32, 91., 0., 1., 2.], (5, 1), &Device::Cpu).unwrap();
        let rows = |count| tile(&table, count).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(rows(7), [0., 1., 2., 0., 1., 2., 0.]);
        assert_eq!(rows(2), [0., 1.]);
        assert!(tile(&table.narrow(0, 0, 2).unwrap(), 4).is_err());
    }

    #[test]
    fn global_projections_prefer_their_own_and_fall_back_on_the_plain_ones() {
        let prefix = "encoder.layers.3.self_attn";
        let names = candidates(&format!("led.{prefix}.longformer_self_attn.key_global.bias"));
        let expected = [
            format!("model.{prefix}.longformer_self_attn.key_global.bias"),
            format!("{prefix}.longformer_self_attn.key_global.bias"),
            format!("model.{prefix}.k_proj.bias"),
            format!("{prefix}.k_proj.bias"),
        ];
        assert_eq!(names, expected);
        assert_eq!(candidates("final_logits_bias"), ["final_logits_bias"]);
    }

    #[test]
    fn the_decoder_keeps_its_names() {
        let name = "led.decoder.layers.0.self_attn.out_proj.weight";
        assert_eq!(candidates(name)[0], "model.decoder.layers.0.self_attn.out_proj.weight");
        assert_eq!(candidates(name).len(), 2);
    }
}
