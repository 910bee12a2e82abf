//! Whether a run fits into memory, asked before its first update.

use epitome_kernels::{anonymous_memory_gib, available_memory, is_gpu};
use epitome_model::Config;

use super::rehearsal::rehearse;
use super::{Memory, Trained, Update};
use crate::setup::Setup;
use crate::{Error, OptimConfig, OptimizerName, Result, RunConfig};

const GIB: f64 = (1u64 << 30) as f64;

/// The processes of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processes {
    /// All of them.
    pub(crate) all: usize,
    /// Those that share this one's memory, itself included.
    pub(crate) on_this_machine: usize,
}

impl Processes {
    /// One process.
    pub(crate) const ALONE: Self = Self { all: 1, on_this_machine: 1 };

    /// GiB that each may hold: `run.memory_limit_gib`, or what this one holds and its share of the rest. What a GPU has is not
    /// looked at.
    fn limit_gib(self, config: &RunConfig) -> Option<f64> {
        if config.is_on_gpu() {
            return None;
        }
        let share = || Some(available_memory()? as f64 / GIB / self.on_this_machine as f64 + anonymous_memory_gib()?);
        config.run.memory_limit_gib.or_else(share)
    }
}

/// Refuses a model whose weights and optimizer alone will not fit, before they are loaded.
///
/// # Errors
/// [`Error::Memory`], or a model that cannot be read.
pub(crate) fn check_model(config: &RunConfig, processes: Processes) -> Result<()> {
    let Some(limit_gib) = processes.limit_gib(config) else { return Ok(()) };
    let model = config.model.resolve()?;
    Plan::new(&model, config, processes)?.check(&[(0, 0)], limit_gib, &[(0, 0)])
}

/// Refuses a run of `total_steps` updates whose largest one will not fit.
///
/// # Errors
/// [`Error::Memory`] or [`Error::GpuMemory`], which say what to change.
pub(crate) fn check(setup: &mut Setup, config: &RunConfig, total_steps: usize, processes: Processes) -> Result<()> {
    if is_gpu(setup.trainable.device()) {
        return rehearse(setup, config, total_steps);
    }
    let Some(limit_gib) = processes.limit_gib(config) else { return Ok(()) };
    let model = setup.model.clone();
    let plan = Plan::new(&model, config, processes)?;
    // Looking at every update takes a while where there are millions, and most runs are far from the limit.
    let (source, target) = match config.run.batch_tokens {
        Some(most) => setup.training.bound_of_budget(most, plan.workers),
        None => setup.training.bound(config.run.batch_size, plan.workers),
    };
    if plan.gib(source, target) <= limit_gib {
        return Ok(());
    }
    let steps = setup.state.step..total_steps;
    let updates = setup.training.largest_updates(steps.clone(), plan.workers);
    let one_by_one = if plan.workers > 1 { setup.training.largest_updates(steps, 1) } else { Vec::new() };
    plan.check(&updates, limit_gib, &one_by_one)
}

/// What decides the memory of an update, beside its tokens.
#[derive(Clone, Copy)]
struct Plan<'a> {
    model: &'a Config,
    config: &'a RunConfig,
    trained: Trained,
    micro_batches: usize,
    workers: usize,
    gradient_checkpointing: bool,
}

impl<'a> Plan<'a> {
    fn new(model: &'a Config, config: &'a RunConfig, processes: Processes) -> Result<Self> {
        let run = &config.run;
        // Every process has one batch at least.
        let micro_batches = run.gradient_accumulation_steps.saturating_sub(processes.all - 1).max(1);
        Ok(Self {
            model,
            config,
            trained: Trained::new(model, &config.optim)?,
            micro_batches,
            workers: run.parallel_micro_batches.min(micro_batches),
            gradient_checkpointing: run.gradient_checkpointing,
        })
    }

    /// Compares the largest of `updates`, source and target tokens of the micro-batches that run side by side, with the limit.
    fn check(&self, updates: &[(usize, usize)], limit_gib: f64, one_by_one: &[(usize, usize)]) -> Result<()> {
        let needed_gib = self.most_gib(updates);
        if needed_gib <= limit_gib {
            return Ok(());
        }
        let largest = updates.iter().copied().max_by(|a, b| self.gib(a.0, a.1).total_cmp(&self.gib(b.0, b.1)));
        let what = match largest.unwrap_or_default() {
            (0, 0) => "the model, its gradients and its optimizer alone".to_owned(),
            (source, target) => format!("its largest update, {source} source and {target} target tokens at a time"),
        };
        let changes = self.changes(updates, limit_gib, one_by_one)?;
        Err(Error::Memory { needed_gib, limit_gib, what, changes })
    }

    fn most_gib(&self, updates: &[(usize, usize)]) -> f64 {
        updates.iter().map(|&(source, target)| self.gib(source, target)).fold(0.0, f64::max)
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

    /// Settings that would take less, each with what it would take, and how long sources may be. What a run that has begun
    /// must keep is marked.
    fn changes(
        &self,
        updates: &[(usize, usize)],
        limit_gib: f64,
        one_by_one: &[(usize, usize)],
    ) -> Result<Vec<String>> {
        let run = &self.config.run;
        let with = |setting: &str, gib: f64| format!("{setting} takes {gib:.3} GiB");
        let mut changes = Vec::new();
        if !self.gradient_checkpointing {
            let plan = Self { gradient_checkpointing: true, ..*self };
            changes.push(with("run.gradient_checkpointing = true", plan.most_gib(updates)));
        }
        changes.push("a higher run.memory_limit_gib tries all the same".into());
        let before = changes.len();
        if self.workers > 1 {
            changes.push(with("run.parallel_micro_batches = 1", Self { workers: 1, ..*self }.most_gib(one_by_one)));
        }
        if self.config.optim.optimizer == OptimizerName::AdamW {
            let optim = OptimConfig { optimizer: OptimizerName::Adafactor, ..self.config.optim.clone() };
            let plan = Self { trained: Trained::new(self.model, &optim)?, ..*self };
            changes.push(with("optim.optimizer = \"adafactor\"", plan.most_gib(updates)));
        }
        match run.batch_tokens {
            Some(_) => changes.push("a lower run.batch_tokens".into()),
            None if run.batch_size > 1 => changes.push("a lower run.batch_size".into()),
            None => (),
        }
        let longest = self.longest_source(updates, limit_gib) / self.workers.saturating_mul(run.batch_size);
        if longest > 1 && run.batch_tokens.is_none() {
            changes.push(format!("data.max_source_length = {longest} fits, which cuts longer documents"));
        }
        if let Some(first) = changes.get_mut(before) {
            first.insert_str(0, "in a run that has not begun: ");
        }
        Ok(changes)
    }

    /// The most source tokens with which every update fits; 0 if there are none.
    fn longest_source(&self, updates: &[(usize, usize)], limit_gib: f64) -> usize {
        let (mut fits, mut exceeds) = (0, updates.iter().map(|update| update.0).max().unwrap_or(0));
        while exceeds - fits > 1 {
            let middle = fits.midpoint(exceeds);
            let all_fit = updates.iter().all(|&(source, target)| self.gib(source.min(middle), target) <= limit_gib);
            if all_fit { fits = middle } else { exceeds = middle }
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::{Plan, Processes, check_model};
    use crate::{Error, RunConfig};
    use epitome_model::Config;

    #[test]
    fn numbers_beyond_all_memory_are_refused_as_others() {
        let many = 1u64 << 32;
        let text = format!(
            "[model]\n[data]\ntrain = \"x\"\n[run]\nbatch_size = {many}\ngradient_accumulation_steps = {many}\n\
             parallel_micro_batches = {many}\nmemory_limit_gib = 8\n"
        );
        let (config, model): (RunConfig, _) = (toml::from_str(&text).unwrap(), Config::default());
        let plan = Plan::new(&model, &config, Processes::ALONE).unwrap();
        let with_data = plan.check(&[(1000, 100)], 8.0, &[(500, 50)]);
        for refused in [with_data, check_model(&config, Processes::ALONE)] {
            let Err(Error::Memory { needed_gib, changes, .. }) = refused else { panic!("it does not fit") };
            assert!(needed_gib > 1e9, "{needed_gib}");
            let fewer = changes.iter().find_map(|change| change.split("parallel_micro_batches = 1 takes ").nth(1));
            let fewer: f64 = fewer.unwrap().trim_end_matches(" GiB").parse().unwrap();
            assert!((1.0..100.0).contains(&fewer), "{changes:?}");
        }
    }
}
