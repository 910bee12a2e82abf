//! What a run needs before its first step: a model, a tokenizer, examples.

use std::fs;
use std::path::{Path, PathBuf};

use epitome_data::Tokenizer;
use epitome_model::{COMPANION_FILES, Config, Parameters, Weights};

use crate::average::Average;
use crate::checkpoint::{self, Companions, TrainState};
use crate::config::ModelConfig;
use crate::dataset::{self, Dataset};
use crate::{Error, Optimizer, Result, RunConfig, Trainable};

/// A run ready to start.
pub(crate) struct Setup {
    pub(crate) model: Config,
    pub(crate) trainable: Trainable,
    pub(crate) optimizer: Optimizer,
    pub(crate) average: Option<Average>,
    pub(crate) state: TrainState,
    pub(crate) companions: Companions,
    pub(crate) training: Dataset,
    pub(crate) validation: Dataset,
    damaged: Vec<String>,
}

impl Setup {
    /// Loads or initialises everything, from the newest intact checkpoint in `output` if there is one.
    pub(crate) fn resume(config: &RunConfig, output: &Path) -> Result<Self> {
        fs::create_dir_all(output).map_err(Error::io(output))?;
        let (checkpoint, damaged) = checkpoint::newest_intact(output)?;
        Ok(Self { damaged, ..Self::new(config, checkpoint.as_deref())? })
    }

    /// Loads or initialises everything.
    pub(crate) fn new(config: &RunConfig, checkpoint: Option<&Path>) -> Result<Self> {
        let model = match checkpoint {
            Some(checkpoint) => Config::load(checkpoint)?,
            None => model_config(config)?,
        };
        let weights = match (checkpoint, &config.model.path) {
            (Some(checkpoint), _) => Weights::load(checkpoint, &model)?,
            (None, Some(path)) => Weights::load(path, &model)?,
            (None, None) => {
                Weights::initialise(&model, config.model.position_embeddings.unwrap_or_default(), config.run.seed)?
            }
        };
        let parameters = Parameters::new(weights);
        let mut optimizer = Optimizer::new(&config.optim, &parameters)?;
        let state = match checkpoint {
            Some(checkpoint) => checkpoint::load(checkpoint, &parameters, &mut optimizer)?,
            None => TrainState::default(),
        };
        let trainable = Trainable::new(&model, parameters)?.train_only(|name| optimizer.is_trained(name));
        let average = Average::new(&config.optim, (&model, &trainable), |name| optimizer.is_trained(name), checkpoint)?;
        let tokenizer = load_tokenizer(&config.model)?;
        let (training, validation) = dataset::load(config, tokenizer.as_ref(), &model)?;
        Ok(Self {
            trainable,
            optimizer,
            average,
            state,
            companions: Companions { config: model.clone(), files: companion_files(config) },
            training,
            validation,
            model,
            damaged: Vec::new(),
        })
    }

    /// How many numbers are trained.
    pub(crate) fn trained_parameters(&self) -> usize {
        let parameters = self.trainable.parameters().iter();
        parameters
            .filter(|(name, _)| self.optimizer.is_trained(name))
            .map(|(_, parameter)| parameter.elem_count())
            .sum()
    }

    /// What is validated and becomes the final model: the average of the weights, if there is one.
    pub(crate) fn evaluated(&self) -> &Trainable {
        self.average.as_ref().map_or(&self.trainable, Average::trainable)
    }

    /// What the user should know before the first step.
    pub(crate) fn notices(&self) -> impl Iterator<Item = &str> {
        let damaged = self.damaged.iter().map(String::as_str);
        damaged.chain(self.training.notices()).chain(self.validation.notices())
    }
}

/// `config.json` of `model.path`, or LED's defaults, overridden by the fields of the `model` table.
fn model_config(config: &RunConfig) -> Result<Config> {
    let base = match &config.model.path {
        Some(path) => Config::load(path)?,
        None => Config::default(),
    };
    let mut merged = serde_json::to_value(base).expect("a config is a JSON object");
    for (name, value) in &config.model.fields {
        merged[name] = serde_json::to_value(value).expect("a TOML value is a JSON value");
    }
    Ok(Config::from_json(&merged.to_string(), Path::new("the [model] table"))?)
}

/// The tokenizer that is named, or that of the model if it has one.
fn load_tokenizer(model: &ModelConfig) -> Result<Option<Tokenizer>> {
    let beside = model.path.as_ref().filter(|path| Tokenizer::exists(path));
    Ok(model.tokenizer.as_ref().or(beside).map(Tokenizer::load).transpose()?)
}

/// Tokenizer files, and the generation settings of the model that is fine-tuned.
fn companion_files(config: &RunConfig) -> Vec<PathBuf> {
    let directories = [config.model.tokenizer.as_ref(), config.model.path.as_ref()];
    COMPANION_FILES
        .iter()
        .filter_map(|file| {
            directories.iter().flatten().map(|directory| directory.join(file)).find(|path| path.exists())
        })
        .collect()
}
