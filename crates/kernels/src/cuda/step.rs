//! What the kernels of a decoding step read beside hidden states.

use super::attention::PlacedPlan;
use super::place::write_words;
use super::plan::Plan;
use crate::Segments;
use candle_core::{DType, Device, Result, Tensor};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Cache rows and tokens of a past that there is room for at first.
const FIRST_CAPACITY: usize = 1024;
const FIRST_REACH: usize = 256;

/// The words of a step, in memory that stays where it is while the shape of steps does: tokens, positions, places in the cache and
/// lengths of the past, `[R]` each, then ancestors `[R, reach]`.
#[derive(Debug)]
pub struct Step {
    pub(super) words: Tensor,
    pub(super) rows: usize,
    /// The most tokens of a past.
    pub(super) reach: usize,
    /// Rows that caches have room for.
    pub(super) capacity: usize,
    /// Which rows, and which keys of memory, each document has.
    documents: [Segments; 2],
    /// Of attention to memory, by the kernels for few queries and by those for any.
    plans: [OnceLock<PlacedPlan>; 2],
    epoch: u64,
}

/// A step's numbers: of each row its token, its position and its past, which ends with its own row.
pub struct StepRows<'a> {
    /// `[R]`.
    pub tokens: &'a [u32],
    /// Row of the position table.
    pub position: u32,
    /// Rows of the cache.
    pub ancestors: &'a [Vec<u32>],
    /// Rows of each document.
    pub rows: &'a Segments,
    /// Keys of each document.
    pub sources: &'a Segments,
    /// Rows of the cache after this step.
    pub stored: usize,
}

impl Step {
    /// Brings the numbers of a step to the device; where its shape is that of `previous`, into the same memory.
    ///
    /// # Errors
    /// When the device has no room.
    pub fn next(previous: Option<Self>, numbers: &StepRows<'_>, device: &Device) -> Result<Self> {
        let length = numbers.ancestors.iter().map(Vec::len).max().unwrap_or(0);
        let (reach, capacity) =
            previous.as_ref().map_or((FIRST_REACH, FIRST_CAPACITY), |old| (old.reach, old.capacity));
        let reach = if length > reach { length.next_power_of_two() } else { reach };
        let capacity = if numbers.stored > capacity { numbers.stored.next_power_of_two() } else { capacity };
        let documents = [numbers.rows.clone(), numbers.sources.clone()];
        let step = match previous {
            Some(old) if (old.reach, old.capacity) == (reach, capacity) && old.documents == documents => old,
            _ => Self::new(numbers.tokens.len(), (reach, capacity), documents, device)?,
        };
        write_words(&step.words, &step.words_of(numbers))?;
        Ok(step)
    }

    fn new(rows: usize, (reach, capacity): (usize, usize), documents: [Segments; 2], device: &Device) -> Result<Self> {
        static EPOCHS: AtomicU64 = AtomicU64::new(0);
        let words = Tensor::zeros(rows * (4 + reach), DType::U32, device)?;
        let epoch = EPOCHS.fetch_add(1, Ordering::Relaxed);
        Ok(Self { words, rows, reach, capacity, documents, plans: Default::default(), epoch })
    }

    fn words_of(&self, numbers: &StepRows<'_>) -> Vec<u32> {
        let mut words = Vec::with_capacity(self.rows * (4 + self.reach));
        words.extend_from_slice(numbers.tokens);
        words.extend(std::iter::repeat_n(numbers.position, self.rows));
        words.extend(numbers.ancestors.iter().map(|past| past.last().copied().unwrap_or(0)));
        words.extend(numbers.ancestors.iter().map(|past| past.len() as u32));
        for past in numbers.ancestors {
            words.extend_from_slice(past);
            words.resize(words.len() + self.reach - past.len(), 0);
        }
        words
    }

    /// Another number for every shape: see [`Recording`](super::Recording).
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Where the words lie.
    pub fn device(&self) -> &Device {
        self.words.device()
    }

    /// The plan of attention to memory, by the kernels for few queries or by those for any. All layers have as many heads.
    pub(super) fn plan(&self, few: bool, heads: usize) -> Result<&PlacedPlan> {
        let [rows, sources] = &self.documents;
        let place = &self.plans[usize::from(few)];
        if let Some(plan) = place.get() {
            return Ok(plan);
        }
        let plan = if few {
            Plan::memory(rows, sources, heads)
        } else {
            Plan::new(&super::decoding::full(rows, sources, 1.0))
        };
        let plan = PlacedPlan::new(plan?, self.words.device())?;
        Ok(place.get_or_init(|| plan))
    }

    /// The address of part `index` of the words: tokens, positions, places, lengths, ancestors.
    pub(super) fn part(&self, index: usize) -> Result<*const u32> {
        Ok(super::place::address(&self.words)?.cast::<u32>().wrapping_add(index * self.rows))
    }
}
