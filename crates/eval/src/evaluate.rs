//! From texts to a report.

use rayon::prelude::*;

use crate::gather::Gathered;
use crate::join::{Join, Joined};
use crate::lengths::words;
use crate::options::METRICS;
use crate::record::{Found, Scorer};
use crate::{Error, Input, Options, Prediction, Predictions, Reference, Report, Result, Stream};

/// Records that are looked at together, and about how many bytes their documents have at most.
const CHUNK: (usize, usize) = (256, 32 << 20);

/// [`evaluate_streams`] of one system, `predictions`, whose texts are in memory.
///
/// # Errors
/// As there.
pub fn evaluate(predictions: &[Prediction], references: &[Reference], options: &Options) -> Result<Report> {
    let stream = Box::new(predictions.iter().cloned().map(Ok));
    let systems = vec![Predictions { name: "predictions".to_owned(), stream }];
    evaluate_streams(systems, &|| Ok(Box::new(references.iter().cloned().map(Ok))), options)
}

/// Scores what `systems` wrote against the `references` of the same ids.
///
/// Every system must have a prediction for each reference record, and no other; records are reported in the order of the
/// references. Of several reference texts the score counts that `options` say. When every reference record has its
/// document, the baselines of the documents are scored too, with one sentence a line, as long as the mean reference (the
/// first of each record, rounded down to whole words).
///
/// Texts are read as a stream and scored in parallel: of a record only numbers stay, and of the first ones what
/// `report.html` shows. `references` opens the records and is called twice where there are baselines, which need the mean
/// length.
///
/// # Errors
/// A missing or doubled id, a record without reference text, no records at all, systems of one name or of a baseline's,
/// or what a stream fails with.
pub fn evaluate_streams<'a>(
    systems: Vec<Predictions<'a>>,
    references: &dyn Fn() -> Input<Stream<'a, Reference>>,
    options: &Options,
) -> Result<Report> {
    let names: Vec<String> = systems.iter().map(|system| system.name.clone()).collect();
    options.check_names(&names)?;
    let open = || references().map_err(Error::Input);
    let words = if options.baselines.is_empty() { None } else { mean_words(open()?)? };
    let baselines = if words.is_some() { options.baselines.as_slice() } else { &[] };
    if names.is_empty() && baselines.is_empty() {
        return Err(Error::NothingToScore);
    }
    let words = words.unwrap_or_default();
    let scorer = Scorer { options, metrics: &METRICS, baselines, words };
    let mut gathered = Gathered::new(names);
    let mut join = Join::new(systems, open()?);
    let mut read = || join.next(CHUNK.0, CHUNK.1);
    let mut chunk = read()?;
    while !chunk.is_empty() {
        let find = || chunk.par_iter().map(|record: &Joined| scorer.find(record)).collect::<Vec<Found>>();
        let (found, next) = rayon::join(find, &mut read);
        found.into_iter().for_each(|found| gathered.add(found));
        chunk = next?;
    }
    gathered.report(&scorer)
}

/// The mean length of the first reference of each record in words, rounded down; nothing unless every record has its
/// document.
fn mean_words(references: Stream<'_, Reference>) -> Result<Option<usize>> {
    let (mut sum, mut records) = (0, 0);
    for reference in references {
        let reference = reference.map_err(Error::Input)?;
        if reference.documents.is_empty() {
            return Ok(None);
        }
        sum += reference.references.first().map_or(0, |text| words(text));
        records += 1;
    }
    if records == 0 {
        return Err(Error::NoRecords);
    }
    Ok(Some(sum / records))
}
