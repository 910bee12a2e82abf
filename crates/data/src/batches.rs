//! [`BatchPlan`]: which examples form which step of which epoch, as a pure function of the seed.

use std::ops::Range;

use crate::random::SplitMix64;

/// How examples become batches.
///
/// The batches of an epoch depend only on the plan and the epoch's number, so training can go on at any step of any epoch
/// without replaying what came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// Examples in a batch; the last batch of an epoch may be smaller.
    pub batch_size: usize,
    /// Whether each epoch has an order of its own; otherwise it is the order of the examples.
    pub shuffle: bool,
    /// Decides every order.
    pub seed: u64,
    /// Above 1: examples of similar length share a batch. The shuffled order is cut into windows of this many batches, each
    /// window is sorted by length, and the batches of the epoch are shuffled again. 0 and 1 turn it off.
    pub bucket_batches: usize,
}

impl BatchPlan {
    /// A plan without length bucketing.
    pub fn new(batch_size: usize, shuffle: bool, seed: u64) -> Self {
        Self { batch_size, shuffle, seed, bucket_batches: 0 }
    }

    /// Batches in an epoch over `examples` examples.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    pub fn steps_per_epoch(&self, examples: usize) -> usize {
        assert!(self.batch_size > 0, "the batch size must be at least 1");
        examples.div_ceil(self.batch_size)
    }

    /// All batches of an epoch (counted from 0), as indices into the examples; `lengths` has one entry per example.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    pub fn epoch(&self, lengths: &[usize], epoch: u64) -> Vec<Vec<usize>> {
        assert!(self.batch_size > 0, "the batch size must be at least 1");
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        let mut random = SplitMix64::new(self.seed, epoch);
        if self.shuffle {
            random.shuffle(&mut order);
        }
        let bucketing = self.bucket_batches > 1;
        if bucketing {
            for window in order.chunks_mut(self.batch_size.saturating_mul(self.bucket_batches)) {
                window.sort_by_key(|&index| lengths[index]);
            }
        }
        let mut batches: Vec<Vec<usize>> = order.chunks(self.batch_size).map(<[usize]>::to_vec).collect();
        if bucketing && self.shuffle {
            random.shuffle(&mut batches);
        }
        batches
    }

    /// The batches from a step on, counted over all epochs from 0, without end (unless there are no examples).
    pub fn batches_from(self, lengths: Vec<usize>, step: u64) -> Batches {
        let steps = self.steps_per_epoch(lengths.len()) as u64;
        let epoch = step.checked_div(steps).unwrap_or(0);
        let current = self.epoch(&lengths, epoch);
        let done = usize::try_from(step.checked_rem(steps).unwrap_or(0)).expect("below the number of batches");
        Batches { plan: self, lengths, epoch, remaining: done..current.len(), current }
    }
}

/// One step: which examples it uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The epoch, counted from 0.
    pub epoch: u64,
    /// The step inside the epoch, counted from 0.
    pub step: usize,
    /// Indices into the examples.
    pub indices: Vec<usize>,
}

/// Batches one after the other, epoch after epoch: see [`BatchPlan::batches_from`].
#[derive(Clone, Debug)]
pub struct Batches {
    plan: BatchPlan,
    lengths: Vec<usize>,
    epoch: u64,
    remaining: Range<usize>,
    current: Vec<Vec<usize>>,
}

impl Iterator for Batches {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        if self.remaining.is_empty() && !self.current.is_empty() {
            self.epoch += 1;
            self.current = self.plan.epoch(&self.lengths, self.epoch);
            self.remaining = 0..self.current.len();
        }
        let step = self.remaining.next()?;
        Some(Batch { epoch: self.epoch, step, indices: std::mem::take(&mut self.current[step]) })
    }
}
