//! What a run needs before its first step: a model, a tokenizer, examples.

use std::path::{Path, PathBuf};

use candle_core::Device;
use epitome_data::Tokenizer;
use epitome_distributed::ProcessGroup;
use epitome_model::{Config, GENERATION_CONFIG, Parameters, Weights};

use crate::average::Average;
use crate::best::BestSoFar;
use crate::checkpoint::{self, Companion, Companions, STATE, TrainState};
use crate::config::ModelConfig;
use crate::dataset::{self, Dataset};
use crate::{Error, Event, Optimizer, Result, RunConfig, Trainable, guard};

/// A run ready to start.
pub(crate) struct Setup {
    pub(crate) model: Config,
    pub(crate) device: Device,
    pub(crate) trainable: Trainable,
    pub(crate) optimizer: Optimizer,
    pub(crate) average: Option<Average>,
    pub(crate) state: TrainState,
    pub(crate) companions: Companions,
    pub(crate) training: Dataset,
    pub(crate) validation: Option<Dataset>,
    /// About the configuration and the checkpoints.
    notices: Vec<String>,
}

impl Setup {
    /// Loads or initialises everything, from the newest intact checkpoint in `output` if there is one.
    pub(crate) fn resume(config: &RunConfig, output: &Path, group: &ProcessGroup) -> Result<Self> {
        let (checkpoint, notices) = checkpoint::newest_intact(output)?;
        let mut setup = Self::new(config, checkpoint.as_deref(), group)?;
        setup.notices.extend(notices);
        if config.run.load_best_model_at_end {
            setup.notices.extend(forget_lost_best(&mut setup.state, output));
        }
        Ok(setup)
    }

    /// Loads or initialises everything.
    pub(crate) fn new(config: &RunConfig, checkpoint: Option<&Path>, group: &ProcessGroup) -> Result<Self> {
        let (device, activations) = config.place(group)?;
        let (model, weights) = begin_with(config, checkpoint)?;
        let parameters = Parameters::new(weights.to_device(&device)?);
        let mut optimizer = Optimizer::new(&config.optim, &parameters)?;
        let mut state = match checkpoint {
            Some(checkpoint) => checkpoint::load(checkpoint, &parameters, &mut optimizer)?,
            None => TrainState::default(),
        };
        let trainable = Trainable::computing_in(&model, parameters, activations)?;
        let trainable = trainable.train_only(|name| optimizer.is_trained(name));
        let average = Average::new(&config.optim, (&model, &trainable), |name| optimizer.is_trained(name), checkpoint)?;
        let tokenizer = config.model.load_tokenizer()?;
        // One process of a machine makes the tokens, which the others then find in the cache.
        let load = || dataset::load(config, tokenizer.as_ref(), &model);
        let (training, validation) = group.first_on_each_machine(load)?;
        let identity = training.identity();
        if let (Some(checkpoint), Some(before)) = (checkpoint, &state.training_data) {
            guard::check_data(before, &identity, &checkpoint.join(STATE))?;
        }
        state.training_data = Some(identity);
        Ok(Self {
            trainable,
            optimizer,
            average,
            state,
            companions: Companions { config: model.clone(), files: config.model.companions()? },
            training,
            validation,
            notices: model.ignored_in_training(),
            model,
            device,
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
    pub(crate) fn evaluated(&self) -> Result<&Trainable> {
        self.average.as_ref().map_or(Ok(&self.trainable), Average::trainable)
    }

    /// Tells what the user should know before the first step.
    pub(crate) fn announce(&self, on_event: &mut dyn FnMut(Event)) {
        self.notices.iter().for_each(|notice| on_event(Event::Notice(notice)));
        for dataset in [&self.training].into_iter().chain(&self.validation) {
            on_event(Event::Dataset(dataset.origin()));
            dataset.notices().for_each(|notice| on_event(Event::Notice(notice)));
        }
    }
}

/// The model of the checkpoint, else the one that the configuration names or asks for.
fn begin_with(config: &RunConfig, checkpoint: Option<&Path>) -> Result<(Config, Weights)> {
    if let Some(checkpoint) = checkpoint {
        let model = Config::load(checkpoint)?;
        let weights = Weights::load(checkpoint, &model)?;
        return Ok((model, weights));
    }
    let model = config.model.resolve()?;
    let weights = match &config.model.path {
        Some(path) => Weights::load(path, &model)?,
        None => Weights::initialise(&model, config.model.position_embeddings.unwrap_or_default(), config.run.seed)?,
    };
    Ok((model, weights))
}

/// Lets the best validation so far no longer count if there is no intact checkpoint of it to be the final model, and says so.
fn forget_lost_best(state: &mut TrainState, output: &Path) -> Option<String> {
    let lost = state.best_so_far.best.filter(|best| !checkpoint::is_intact(output, best.step))?;
    state.best_so_far = BestSoFar::default();
    Some(format!(
        "the best validation so far, after step {}, left no intact checkpoint: only later ones count",
        lost.step
    ))
}

/// What messages call the table `model`.
const TABLE: &str = "the [model] table";

impl ModelConfig {
    /// `config.json` of `path`, or LED's defaults, overridden by the fields given here.
    ///
    /// # Errors
    /// When the file cannot be read or a field has the wrong type.
    pub fn resolve(&self) -> Result<Config> {
        let base = match &self.path {
            Some(path) => Config::load(path)?,
            None => Config::default(),
        };
        let mut merged = serde_json::to_value(base).expect("a config is a JSON object");
        for (name, value) in &self.fields {
            merged[name] = serde_json::to_value(value).expect("a TOML value is a JSON value");
        }
        let config = Config::from_json(&merged.to_string(), Path::new(TABLE))?;
        if config.init_std < 0.0 {
            return Err(Error::config(TABLE, format!("init_std is {}; it must be at least 0", config.init_std)));
        }
        Ok(config)
    }

    /// The tokenizer that is named, or that of the model if it has one.
    ///
    /// # Errors
    /// When its files are missing or wrong, or it has entries that the model lacks.
    pub fn load_tokenizer(&self) -> Result<Option<Tokenizer>> {
        let Some(directory) = self.tokenizer_directory() else { return Ok(None) };
        let tokenizer = Tokenizer::load(directory)?;
        let (entries, needed) = (tokenizer.vocab_size(), tokenizer.ordinary_vocab_size());
        let vocab_size = self.resolve()?.vocab_size;
        if needed > vocab_size {
            let message = format!(
                "the tokenizer in {} has {entries} entries, so that vocab_size must be at least {needed} (special tokens that \
                 come last may be missing), but it is {vocab_size}: name another in model.tokenizer, or give a fresh model \
                 vocab_size = {entries}",
                directory.display()
            );
            return Err(Error::config(
                self.path.as_ref().map_or(TABLE.into(), |path| path.display().to_string()),
                message,
            ));
        }
        Ok(Some(tokenizer))
    }

    fn tokenizer_directory(&self) -> Option<&PathBuf> {
        self.tokenizer.as_ref().or_else(|| self.path.as_ref().filter(|path| Tokenizer::exists(path)))
    }

    /// The generation settings of the model that is fine-tuned, where it has any: the trained one gets them too.
    pub fn generation_config(&self) -> Option<PathBuf> {
        self.path.as_ref().map(|path| path.join(GENERATION_CONFIG)).filter(|path| path.exists())
    }

    /// The files of the tokenizer, all from its one directory, and the generation settings.
    fn companions(&self) -> Result<Vec<Companion>> {
        let of_tokenizer = |directory: &PathBuf| Tokenizer::FILES.map(|file| directory.join(file));
        let tokenizer = self.tokenizer_directory().into_iter().flat_map(of_tokenizer);
        tokenizer.filter(|path| path.exists()).chain(self.generation_config()).map(Companion::read).collect()
    }
}
