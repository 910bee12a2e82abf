//! Log-probabilities of given summaries.

use epitome_data::{Source, Target};
use epitome_kernels::{self as kernels, IGNORE_INDEX, Precision, Segments};

use crate::log_softmax::Normalizer;
use crate::summarizer::pack;
use crate::{Error, LedSession, Result, Stepper, Summarizer};

impl Summarizer {
    /// Log-probabilities (nats) of labels given their documents, one for each label that is not -100: by teacher forcing, or
    /// below f32 step by step, so that the numbers are those that decoding sees.
    ///
    /// # Errors
    /// When there is a document without labels, or an operation fails.
    pub fn score(&self, pairs: &[(Source, Target)]) -> Result<Vec<Vec<f32>>> {
        if self.precision() == Precision::F32 {
            return self.score_at_once(pairs);
        }
        let sources: Vec<&Source> = pairs.iter().map(|(source, _)| source).collect();
        let mut scores = vec![Vec::new(); pairs.len()];
        for (group, keep) in self.groups(&sources) {
            let pairs: Vec<&(Source, Target)> = group.iter().map(|&index| &pairs[index]).collect();
            for (index, found) in group.iter().zip(self.score_by_steps(&pairs, keep)?) {
                scores[*index] = found;
            }
        }
        Ok(scores)
    }

    fn score_at_once(&self, pairs: &[(Source, Target)]) -> Result<Vec<Vec<f32>>> {
        let led = self.led();
        let documents = pack(pairs.iter().map(|(source, _)| source))?;
        let encoded = led.encode(&documents)?;
        let labels: Vec<&[i64]> = pairs.iter().map(|(_, target)| target.labels.as_slice()).collect();
        let lengths: Vec<usize> = labels.iter().map(|labels| labels.len()).collect();
        let targets = Segments::from_lengths(&lengths);
        let inputs: Vec<u32> = labels.iter().flat_map(|labels| led.config().decoder_inputs(labels)).collect();
        let hidden = led.decoder().forward(&inputs, &targets, &encoded, documents.segments())?;
        let packed = labels.concat();
        let bias = Some(led.final_logits_bias());
        let scores =
            kernels::token_log_probabilities(&hidden, led.head(), bias, &packed).map_err(epitome_model::Error::from)?;
        let counted = |range: std::ops::Range<usize>| {
            range.filter(|&row| packed[row] != IGNORE_INDEX).map(|row| scores[row]).collect()
        };
        Ok(targets.ranges().map(counted).collect())
    }

    fn score_by_steps(&self, pairs: &[&(Source, Target)], keep: bool) -> Result<Vec<Vec<f32>>> {
        let documents = pack(pairs.iter().map(|(source, _)| source))?;
        let mut session = LedSession::new(self.led(), &documents, keep)?;
        let labels: Vec<&[i64]> = pairs.iter().map(|(_, target)| target.labels.as_slice()).collect();
        let inputs: Vec<Vec<u32>> = labels.iter().map(|labels| self.led().config().decoder_inputs(labels)).collect();
        let mut scores = vec![Vec::new(); pairs.len()];
        let mut active: Vec<usize> = (0..pairs.len()).collect();
        let mut logits = Vec::new();
        for step in 0.. {
            let last: Vec<u32> = active.iter().map(|&document| inputs[document][step]).collect();
            session.step(&last, &mut logits)?;
            for (&document, logits) in active.iter().zip(logits.chunks_exact(session.vocab_size())) {
                let Ok(label) = usize::try_from(labels[document][step]) else { continue };
                let normalizer = Normalizer::of(logits).ok_or(Error::Logits { document, position: step + 1 })?;
                scores[document].push(normalizer.log_probability(logits[label]));
            }
            let going_on = |row: &usize| labels[active[*row]].len() > step + 1;
            let rows: Vec<usize> = (0..active.len()).filter(going_on).collect();
            if rows.is_empty() {
                break;
            }
            session.reorder(&rows)?;
            active = rows.iter().map(|&row| active[row]).collect();
        }
        Ok(scores)
    }
}
