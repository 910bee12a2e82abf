//! Whether a run fits into memory, asked before its first update.

use epitome_kernels::{available_memory, resident_memory_gib};
use epitome_model::Config;

use super::{Memory, Trained, Update};
use crate::setup::Setup;
use crate::{Error, OptimConfig, OptimizerName, Result, RunConfig};

const GIB: f64 = (1u64 << 30) as f64;

/// Refuses a run of `total_steps` updates whose largest one will not fit into `run.memory_limit_gib`, by default into what
/// the system has for each of the `processes` on this machine.
///
/// # Errors
/// [`Error::Memory`], which says what to change.
pub(crate) fn check(setup: &mut Setup, config: &RunConfig, total_steps: usize, processes: usize) -> Result<()> {
    let Some(limit_gib) = config.run.memory_limit_gib.or_else(|| available_gib(processes)) else { return Ok(()) };
    let workers = config.run.parallel_micro_batches;
    let updates = setup.training.largest_updates(setup.state.step..total_steps, workers);
    let plan = Plan::new(&setup.model, config)?;
    let needed = |&(source, target): &(usize, usize)| (plan.gib(source, target), source, target);
    let Some((needed_gib, source_tokens, target_tokens)) =
        updates.iter().map(needed).max_by(|a, b| a.0.total_cmp(&b.0))
    else {
        return Ok(());
    };
    if needed_gib <= limit_gib {
        return Ok(());
    }
    let changes = plan.changes(config, (source_tokens, target_tokens), limit_gib)?;
    Err(Error::Memory { needed_gib, limit_gib, source_tokens, target_tokens, changes })
}

/// What this process holds and what its share of the rest is.
fn available_gib(processes: usize) -> Option<f64> {
    Some(available_memory()? as f64 / GIB / processes as f64 + resident_memory_gib()?)
}

/// What decides the memory of an update, beside its tokens.
#[derive(Clone, Copy)]
struct Plan<'a> {
    model: &'a Config,
    trained: Trained,
    micro_batches: usize,
    workers: usize,
    gradient_checkpointing: bool,
}

impl<'a> Plan<'a> {
    fn new(model: &'a Config, config: &RunConfig) -> Result<Self> {
        let run = &config.run;
        Ok(Self {
            model,
            trained: Trained::new(model, &config.optim)?,
            micro_batches: run.gradient_accumulation_steps,
            workers: run.parallel_micro_batches,
            gradient_checkpointing: run.gradient_checkpointing,
        })
    }

    /// GiB of an update whose micro-batches that run side by side have so many tokens together.
    fn gib(&self, source_tokens: usize, target_tokens: usize) -> f64 {
        let update = Update {
            source_tokens: source_tokens.div_ceil(self.workers),
            target_tokens: target_tokens.div_ceil(self.workers),
            micro_batches: self.micro_batches,
            workers: self.workers,
            gradient_checkpointing: self.gradient_checkpointing,
        };
        Memory::predict(self.model, &self.trained, update).peak() as f64 / GIB
    }

    /// Settings that would take less, each with what it would take, and how long sources may be.
    fn changes(&self, config: &RunConfig, (source, target): (usize, usize), limit_gib: f64) -> Result<Vec<String>> {
        let run = &config.run;
        let with = |setting: &str, gib: f64| format!("{setting} takes {gib:.2} GiB");
        let mut changes = Vec::new();
        if !self.gradient_checkpointing {
            let plan = Self { gradient_checkpointing: true, ..*self };
            changes.push(with("run.gradient_checkpointing = true", plan.gib(source, target)));
        }
        if self.workers > 1 {
            let plan = Self { workers: 1, ..*self };
            let gib = plan.gib(source.div_ceil(self.workers), target.div_ceil(self.workers));
            changes.push(with("run.parallel_micro_batches = 1", gib));
        }
        if config.optim.optimizer == OptimizerName::AdamW {
            let optim = OptimConfig { optimizer: OptimizerName::Adafactor, ..config.optim.clone() };
            let plan = Self { trained: Trained::new(self.model, &optim)?, ..*self };
            changes.push(with("optim.optimizer = \"adafactor\"", plan.gib(source, target)));
        }
        match run.batch_tokens {
            Some(_) => changes.push("a lower run.batch_tokens".into()),
            None if run.batch_size > 1 => changes.push("a lower run.batch_size".into()),
            None => (),
        }
        let longest = self.longest_source(source, target, limit_gib);
        if longest > 0 {
            let each = longest / (self.workers * run.batch_size);
            changes.push(format!("data.max_source_length = {each} fits, which cuts longer documents"));
        }
        changes.push("a higher run.memory_limit_gib tries all the same".into());
        Ok(changes)
    }

    /// The most source tokens, below `source`, that fit beside so many target tokens; 0 if none do.
    fn longest_source(&self, source: usize, target: usize, limit_gib: f64) -> usize {
        let (mut fits, mut exceeds) = (0, source);
        while exceeds - fits > 1 {
            let middle = fits.midpoint(exceeds);
            if self.gib(middle, target) <= limit_gib { fits = middle } else { exceeds = middle }
        }
        fits
    }
}
