//! Which micro-batches make up which update of a run.

use epitome_data::{BatchPlan, BatchSize, EpochBatches};

/// The place of an update in its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The epoch, counted from 0.
    pub(crate) epoch: usize,
    /// The update inside the epoch, counted from 0.
    pub(crate) within: usize,
    /// Updates of the epoch.
    pub(crate) steps: usize,
}

/// The updates of a run over some examples, epoch after epoch. With a budget of tokens epochs differ in how many they have.
pub(crate) struct Steps {
    plan: BatchPlan,
    batches_per_step: usize,
    examples: usize,
    /// The epoch asked for last, at first the first.
    epoch: usize,
    /// Its first update.
    first: usize,
    /// Its batches.
    batches: EpochBatches,
}

impl Steps {
    /// The updates over `examples` examples, each of `batches_per_step` batches; `tokens` gives the tokens of each example,
    /// here and below.
    pub(crate) fn new(
        plan: BatchPlan,
        batches_per_step: usize,
        examples: usize,
        tokens: impl Fn(usize) -> usize,
    ) -> Self {
        let batches = plan.epoch(examples, tokens, 0);
        Self { plan, batches_per_step, examples, epoch: 0, first: 0, batches }
    }

    /// Updates of `epochs` passes over the examples; a part of one counts.
    pub(crate) fn total(&self, epochs: f64, tokens: impl Fn(usize) -> usize) -> usize {
        match self.plan.size {
            BatchSize::Examples(_) => (epochs * self.of_epoch(0, &tokens) as f64).ceil() as usize,
            BatchSize::Tokens(_) => {
                let whole: usize = (0..epochs as usize).map(|epoch| self.of_epoch(epoch, &tokens)).sum();
                let part = epochs.fract();
                let last = if part > 0.0 { self.of_epoch(epochs as usize, &tokens) } else { 0 };
                whole + (part * last as f64).ceil() as usize
            }
        }
    }

    /// Finds the epoch of update `step`, counted from 0 over all epochs.
    pub(crate) fn seek(&mut self, step: usize, tokens: impl Fn(usize) -> usize) -> Place {
        let (mut epoch, mut first) = if step < self.first { (0, 0) } else { (self.epoch, self.first) };
        let mut steps = self.of_epoch(epoch, &tokens);
        while step >= first + steps {
            first += steps;
            epoch += 1;
            steps = self.of_epoch(epoch, &tokens);
        }
        if epoch != self.epoch {
            self.batches = self.plan.epoch(self.examples, tokens, epoch as u64);
        }
        (self.epoch, self.first) = (epoch, first);
        Place { epoch, within: step - first, steps }
    }

    /// The batches of the epoch that was found last.
    pub(crate) fn epoch(&self) -> &EpochBatches {
        &self.batches
    }

    /// The batches of an update of the epoch that was found last.
    pub(crate) fn batches(&self, within: usize) -> impl Iterator<Item = &[u32]> {
        let start = within * self.batches_per_step;
        (start..self.batches.len().min(start + self.batches_per_step)).map(|number| self.batches.batch(number))
    }

    /// Updates of an epoch.
    fn of_epoch(&self, epoch: usize, tokens: impl Fn(usize) -> usize) -> usize {
        let batches = match epoch == self.epoch {
            true => self.batches.len(),
            false => self.plan.count(self.examples, tokens, epoch as u64),
        };
        batches.div_ceil(self.batches_per_step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(index: usize) -> usize {
        1 + (index * 7_919) % 23
    }

    fn steps(size: BatchSize, batches_per_step: usize) -> Steps {
        Steps::new(BatchPlan { size, shuffle: true, seed: 11 }, batches_per_step, 37, tokens)
    }

    fn update(steps: &mut Steps, step: usize) -> (Place, Vec<Vec<u32>>) {
        let place = steps.seek(step, tokens);
        (place, steps.batches(place.within).map(<[u32]>::to_vec).collect())
    }

    #[test]
    fn every_step_can_be_resumed() {
        for size in [BatchSize::Examples(3), BatchSize::Tokens(40)] {
            let mut running = steps(size, 2);
            let total = running.total(5.0, tokens);
            let all: Vec<_> = (0..total).map(|step| update(&mut running, step)).collect();
            for (step, expected) in all.iter().enumerate() {
                assert_eq!(update(&mut steps(size, 2), step), *expected);
            }
            assert_eq!(update(&mut running, 1), all[1], "earlier steps are found again");
            for epoch in 0..5 {
                let of_epoch: Vec<_> = all.iter().filter(|(place, _)| place.epoch == epoch).collect();
                assert!(
                    of_epoch
                        .iter()
                        .enumerate()
                        .all(|(at, (place, _))| (place.within, place.steps) == (at, of_epoch.len()))
                );
                let mut seen: Vec<u32> = of_epoch.iter().flat_map(|(_, batches)| batches.concat()).collect();
                seen.sort_unstable();
                assert_eq!(seen, (0..37).collect::<Vec<_>>(), "every example once an epoch");
                let (last, others) = of_epoch.split_last().unwrap();
                assert!(others.iter().all(|(_, batches)| batches.len() == 2) && !last.1.is_empty());
            }
        }
    }

    #[test]
    fn epochs_of_a_budget_are_counted_one_by_one() {
        let steps = steps(BatchSize::Tokens(40), 1);
        let of: Vec<usize> = (0..9).map(|epoch| steps.plan.epoch(37, tokens, epoch).len()).collect();
        assert!(of.iter().any(|&count| count != of[0]), "{of:?}");
        assert_eq!(steps.total(8.0, tokens), of[..8].iter().sum::<usize>());
        assert_eq!(steps.total(8.01, tokens), of[..8].iter().sum::<usize>() + 1);
        assert_eq!(steps.total(0.5, tokens), of[0].div_ceil(2));
    }
}
