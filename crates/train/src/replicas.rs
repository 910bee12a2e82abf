//! Data parallelism: every process holds the model, takes its share of an update's micro-batches, and makes the same update
//! from the sums of all gradients.

use epitome_distributed::ProcessGroup;
use epitome_kernels::{self as kernels, Collective, Loss};
use epitome_model::Parameters;
use epitome_sentences::counted;

use crate::checkpoint::TrainingData;
use crate::workers::{Workers, shares};
use crate::{Batch, Error, Gradients, Pass, Result, Trainable, accumulate_gradients};

/// Gradients and losses of all batches. The processes share the batches, and so do the workers of each; `pass` says how to
/// run a batch, by its index. Every process gets the same bits.
pub(crate) fn gradients<'p>(
    processes: &Collective,
    workers: &Workers,
    trainable: &Trainable,
    batches: &[Batch],
    pass: &(impl Fn(usize) -> Pass<'p> + Sync),
) -> Result<(Gradients, Loss)> {
    let cost = |batch: &Batch| batch.documents.ids().len() + batch.labels.len();
    let costs: Vec<usize> = batches.iter().map(cost).collect();
    let group = processes.group();
    let own = shares(&costs, group.world_size()).into_iter().nth(group.rank()).unwrap_or_default();
    let own_costs: Vec<usize> = own.iter().map(|&index| costs[index]).collect();
    let parts = workers.share(&own_costs, |places| -> Result<_> {
        let mut gradients = Gradients::default();
        let mut total = Loss::default();
        for index in places.iter().map(|&place| own[place]) {
            total += accumulate_gradients(trainable, &batches[index], pass(index), &mut gradients)?;
        }
        Ok((gradients, total))
    });
    let (mut gradients, mut loss) = (Gradients::default(), Loss::default());
    for part in parts {
        let part = part?;
        gradients.merge(part.0)?;
        loss += part.1;
    }
    all_reduce(processes, trainable.parameters(), &mut gradients)?;
    Ok((gradients, all_reduce_loss(group, loss)))
}

/// Refuses processes that do not begin alike: their gradients could not be added up.
///
/// # Errors
/// In the first process, when another begins at another step, with other parameters or with other examples.
pub(crate) fn check_alike(
    group: &ProcessGroup,
    step: usize,
    TrainingData { records, fingerprint }: &TrainingData,
    parameters: &Parameters,
) -> Result<()> {
    if group.world_size() == 1 {
        return Ok(());
    }
    let all: Vec<_> = parameters.iter().map(|(_, parameter)| parameter).collect();
    let norm = kernels::sum_of_squares(&all)?;
    let records = counted(*records, "record");
    let own = format!("step {step}, {records} of the hash {fingerprint}, parameters of the squared norm {norm}");
    for (rank, bytes) in group.gather(own.as_bytes()).into_iter().flatten().enumerate() {
        if bytes != own.as_bytes() {
            return Err(Error::NotAlike { rank, own, other: String::from_utf8_lossy(&bytes).into_owned() });
        }
    }
    Ok(())
}

/// Replaces gradients by their sums over all processes. A parameter that took part nowhere gets no gradient, and one that
/// took part in some process has one in all: there may be a global token on one side only.
fn all_reduce(processes: &Collective, parameters: &Parameters, gradients: &mut Gradients) -> Result<()> {
    let group = processes.group();
    if group.world_size() == 1 {
        return Ok(());
    }
    let present = |(name, _)| f64::from(u8::from(gradients.get(name).is_some()));
    let mut counts: Vec<f64> = parameters.iter().map(present).collect();
    group.all_reduce_f64(&mut counts);
    for ((name, parameter), count) in parameters.iter().zip(counts) {
        if count > 0.0 {
            gradients.sum(name, parameter)?;
        }
    }
    let sums: Vec<_> = gradients.iter().map(|(_, sum)| sum).collect();
    Ok(processes.all_reduce(&sums)?)
}

/// The loss of all processes together.
pub(crate) fn all_reduce_loss(group: &ProcessGroup, loss: Loss) -> Loss {
    let mut sums = [loss.loss, loss.nll, loss.tokens as f64];
    group.all_reduce_f64(&mut sums);
    Loss { loss: sums[0], nll: sums[1], tokens: sums[2] as usize }
}
