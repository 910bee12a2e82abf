//! Documents shared between processes: the first one reads, asks and writes, the others summarize what they are given.

use anyhow::Result;
use epitome_data::Source;
use epitome_decode::{Progress, Summarizer, Summary};
use epitome_distributed::ProcessGroup;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Summaries of documents, of which every process makes its part. A document that fails in another process is tried again
/// here, so that its error is found where it can be handled.
pub(crate) fn summarize(
    group: &ProcessGroup,
    summarizer: &Summarizer,
    sources: &[Source],
    on_progress: &mut dyn FnMut(Progress),
) -> epitome_decode::Result<Vec<Summary>> {
    if group.world_size() == 1 {
        return summarizer.summarize(sources, on_progress);
    }
    let mut message = json(&sources);
    group.broadcast(&mut message);
    let own = summarizer.summarize(part(sources, group, 0), on_progress);
    let gathered = group.gather(&[]).unwrap_or_default();
    let mut summaries = own?;
    for (rank, bytes) in gathered.iter().enumerate().skip(1) {
        match serde_json::from_slice::<Option<Vec<Summary>>>(bytes).ok().flatten() {
            Some(part) => summaries.extend(part),
            None => summaries.extend(summarizer.summarize(part(sources, group, rank), on_progress)?),
        }
    }
    Ok(summaries)
}

/// Tells the other processes that nothing follows.
pub(crate) fn dismiss(group: &ProcessGroup) {
    group.broadcast(&mut json(&[0_u8; 0]));
}

/// What the other processes do until they are dismissed. Their errors appear in [`summarize`], or are those of the first
/// process too.
pub(crate) fn serve(group: &ProcessGroup, load: impl FnOnce() -> Result<Summarizer>) -> Result<()> {
    let summarizer = load()?;
    loop {
        let mut message = Vec::new();
        group.broadcast(&mut message);
        let sources: Vec<Source> = serde_json::from_slice(&message)?;
        if sources.is_empty() {
            return Ok(());
        }
        let summaries = summarizer.summarize(part(&sources, group, group.rank()), &mut |_| {}).ok();
        group.gather(&json(&summaries));
    }
}

/// What the first process concludes from what all of them have, for every process.
pub(crate) fn conclude<T: Serialize + DeserializeOwned, C: Serialize + DeserializeOwned>(
    group: &ProcessGroup,
    own: &T,
    conclusion: impl FnOnce(Vec<T>) -> Result<C>,
) -> Result<C> {
    let mut message = match group.gather(&json(own)) {
        Some(all) => {
            let all = all.iter().map(|bytes| serde_json::from_slice(bytes)).collect::<Result<_, _>>()?;
            json(&conclusion(all)?)
        }
        None => Vec::new(),
    };
    group.broadcast(&mut message);
    Ok(serde_json::from_slice(&message)?)
}

/// The documents that fall to a process: neighbours, of about as many tokens as those of any other.
pub(crate) fn part<'s>(sources: &'s [Source], group: &ProcessGroup, rank: usize) -> &'s [Source] {
    let all: usize = sources.iter().map(|source| source.input_ids.len()).sum();
    let bound = |rank: usize| {
        if rank == group.world_size() {
            return sources.len();
        }
        let mut before = 0;
        let falls_before = |source: &Source| {
            let middle = before + source.input_ids.len() / 2;
            before += source.input_ids.len();
            middle * group.world_size() < all * rank
        };
        sources.iter().map(falls_before).take_while(|falls_before| *falls_before).count()
    };
    &sources[bound(rank)..bound(rank + 1)]
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data")
}
