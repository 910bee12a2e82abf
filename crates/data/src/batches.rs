//! [`BatchPlan`]: which examples form which batch of which epoch, as a pure function of the seed.

use crate::random::{Draw, SplitMix64};

/// How much a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// So many examples; the last batch of an epoch may have fewer.
    Examples(usize),
    /// As many examples as follow each other and have no more tokens than this together; an example with more is a batch
    /// alone.
    Tokens(usize),
}

/// How examples become batches.
///
/// The batches of an epoch depend only on the plan, the tokens of the examples and the epoch's number, so training can go on
/// in any epoch without replaying what came before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// What a batch holds; at least 1.
    pub size: BatchSize,
    /// Whether each epoch has an order of its own; otherwise it is the order of the examples.
    pub shuffle: bool,
    /// Decides every order.
    pub seed: u64,
}

impl BatchPlan {
    /// All batches of an epoch (counted from 0) over `examples` examples; `tokens` gives the tokens of each.
    ///
    /// # Panics
    /// If the size is 0 or there are more than 4294967295 examples.
    pub fn epoch(&self, examples: usize, tokens: impl Fn(usize) -> usize, epoch: u64) -> EpochBatches {
        let mut order: Vec<u32> = (0..u32::try_from(examples).expect("no more examples than a u32 counts")).collect();
        if self.shuffle {
            SplitMix64::for_stream(self.seed, epoch).shuffle(&mut order);
        }
        let ends = match self.size {
            BatchSize::Examples(size) => {
                assert!(size > 0, "the batch size must be at least 1");
                (1..=examples.div_ceil(size)).map(|batch| batch.saturating_mul(size).min(examples) as u32).collect()
            }
            BatchSize::Tokens(most) => pack(&order, most, tokens),
        };
        EpochBatches { order, ends }
    }

    /// How many batches an epoch has.
    ///
    /// # Panics
    /// As [`epoch`](Self::epoch).
    pub fn count(&self, examples: usize, tokens: impl Fn(usize) -> usize, epoch: u64) -> usize {
        match self.size {
            BatchSize::Examples(size) => examples.div_ceil(size),
            BatchSize::Tokens(_) => self.epoch(examples, tokens, epoch).len(),
        }
    }
}

/// Where batches end when each takes what still fits.
fn pack(order: &[u32], most: usize, tokens: impl Fn(usize) -> usize) -> Vec<u32> {
    let (mut ends, mut held) = (Vec::new(), 0_usize);
    for (place, &index) in order.iter().enumerate() {
        let tokens = tokens(index as usize);
        if place > 0 && held.saturating_add(tokens) > most {
            ends.push(place as u32);
            held = 0;
        }
        held = held.saturating_add(tokens);
    }
    ends.extend((!order.is_empty()).then_some(order.len() as u32));
    ends
}

/// The batches of one epoch: four bytes an example, and four a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EpochBatches {
    order: Vec<u32>,
    /// Where each batch ends in `order`.
    ends: Vec<u32>,
}

impl EpochBatches {
    /// How many batches there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The indices of the examples of a batch.
    ///
    /// # Panics
    /// If there is no such batch.
    pub fn batch(&self, number: usize) -> &[u32] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.order[start as usize..self.ends[number] as usize]
    }

    /// Every batch, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u32]> {
        (0..self.len()).map(|number| self.batch(number))
    }
}
