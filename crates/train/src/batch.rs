//! A micro-batch as the network takes it.

use epitome_data::Example;
use epitome_kernels::{IGNORE_INDEX, LossTargets, Segments};
use epitome_model::{Config, Documents, Error, Result};

/// Documents with their targets, packed.
#[derive(Clone, Debug)]
pub struct Batch {
    /// The sources.
    pub documents: Documents,
    /// Decoder inputs of all targets, `[T]`: the start token and the labels but the last (`shift_tokens_right` of `transformers`).
    pub decoder_ids: Vec<u32>,
    /// Which decoder rows belong to which document.
    pub targets: Segments,
    /// Labels, `[T]`; -100 is ignored.
    pub labels: Vec<i64>,
    /// The tokens that each label is chosen from, `[T]`; none is the whole vocabulary.
    pub choices: Vec<Vec<u32>>,
    /// How much the loss of each label counts, `[T]`.
    pub weights: Vec<f32>,
}

impl Batch {
    /// Packs examples. Ids and labels are used exactly as given.
    ///
    /// # Errors
    /// When an example has no tokens, no label that counts, or a label or id outside the vocabulary; the message names the
    /// file and line it came from.
    pub fn new<'a>(examples: impl IntoIterator<Item = &'a Example>, config: &Config) -> Result<Self> {
        let mut sources = Vec::new();
        let mut decoder_ids = Vec::new();
        let mut lengths = Vec::new();
        let mut labels = Vec::new();
        let (mut choices, mut weights) = (Vec::new(), Vec::new());
        for example in examples {
            Self::check_source(example, config)?;
            Self::check_labels(example, config)?;
            sources.push((example.input_ids.as_slice(), example.global_positions.as_slice()));
            decoder_ids.extend(config.decoder_inputs(&example.labels));
            lengths.push(example.labels.len());
            labels.extend_from_slice(&example.labels);
            Self::check_loss(example)?;
            choices.extend_from_slice(&example.choices);
            choices.resize(labels.len(), Vec::new());
            weights.extend_from_slice(&example.weights);
            weights.resize(labels.len(), 1.0);
        }
        let (documents, targets) = (Documents::new(sources)?, Segments::from_lengths(&lengths));
        Ok(Self { documents, decoder_ids, targets, labels, choices, weights })
    }

    /// What the loss compares.
    pub fn loss_targets(&self) -> LossTargets<'_> {
        LossTargets { labels: &self.labels, choices: &self.choices, weights: &self.weights }
    }

    /// How many labels count.
    pub fn target_tokens(&self) -> usize {
        self.labels.iter().filter(|&&label| label != IGNORE_INDEX).count()
    }

    fn check_loss(example: &Example) -> Result<()> {
        let fits = |length: usize| length == 0 || length == example.labels.len();
        match (example.choices.len(), example.weights.len()) {
            (choices, weights) if fits(choices) && fits(weights) => Ok(()),
            (choices, weights) => {
                let labels = example.labels.len();
                complain(example, format!("{labels} labels with {choices} choices and {weights} weights"))
            }
        }
    }

    pub(crate) fn check_source(example: &Example, config: &Config) -> Result<()> {
        if example.input_ids.is_empty() {
            return complain(example, "the document has no tokens".into());
        }
        let vocabulary = config.vocab_size;
        match example.input_ids.iter().find(|&&id| id as usize >= vocabulary) {
            Some(id) => complain(example, format!("input id {id} lies outside the vocabulary of {vocabulary}")),
            None => Ok(()),
        }
    }

    pub(crate) fn check_labels(example: &Example, config: &Config) -> Result<()> {
        if example.labels.iter().all(|&label| label == IGNORE_INDEX) {
            return complain(example, "no label counts: there are none, or all are -100".into());
        }
        let vocabulary = config.vocab_size;
        let valid = |&label: &i64| label == IGNORE_INDEX || (0..vocabulary as i64).contains(&label);
        match example.labels.iter().find(|label| !valid(label)) {
            Some(label) => complain(example, format!("label {label} lies outside the vocabulary of {vocabulary}")),
            None => Ok(()),
        }
    }
}

fn complain(example: &Example, message: String) -> Result<()> {
    Err(Error::Input(format!("{}: record {}: {message}", example.location, example.id)))
}

#[cfg(test)]
mod tests {
    use epitome_data::Location;

    use super::*;

    #[test]
    fn rows_are_tokens_and_nothing_else() {
        let config = Config { vocab_size: 50, ..Config::default() };
        let lengths = [(1, 1), (900, 3), (7, 60), (2, 1)];
        let examples = lengths.map(|(source, target)| example(source, target));
        let batch = Batch::new(&examples, &config).unwrap();
        assert_eq!(batch.documents.ids().len(), 910, "no row of padding");
        assert_eq!((batch.decoder_ids.len(), batch.labels.len()), (65, 65));
    }

    #[test]
    fn choices_and_weights_stay_with_their_labels() {
        let config = Config { vocab_size: 50, ..Config::default() };
        let chosen = Example { choices: vec![vec![6, 7], vec![6]], weights: vec![4.0, 4.0], ..example(3, 2) };
        let batch = Batch::new(&[example(2, 1), chosen, example(4, 3)], &config).unwrap();
        let targets = batch.loss_targets();
        let nothing = Vec::new;
        assert_eq!(targets.choices, [nothing(), vec![6, 7], vec![6], nothing(), nothing(), nothing()]);
        assert_eq!(targets.weights, [1.0, 4.0, 4.0, 1.0, 1.0, 1.0]);
    }

    fn example(source: usize, target: usize) -> Example {
        Example {
            id: "a".into(),
            location: Location::line("in.jsonl", 1),
            input_ids: vec![5; source],
            leading_tokens: 1,
            global_positions: vec![0],
            labels: vec![6; target],
            choices: Vec::new(),
            weights: Vec::new(),
        }
    }
}
