//! How a run ends that did not succeed.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Error;
use epitome_kernels::is_gpu_full;

/// What options of the command line are said to come from.
pub(crate) const COMMAND_LINE: &str = "the command line";

/// Options that contradict each other or miss something: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// A usage error as a result.
pub(crate) fn usage<T>(message: impl Into<String>) -> anyhow::Result<T> {
    Err(Usage(message.into()).into())
}

/// Prints one line, and returns the exit code. A reader of our output that has gone away, such as `head`, has what it
/// wanted: that is no failure.
pub(crate) fn report(error: &Error) -> u8 {
    if is_broken_pipe(error) {
        return 0;
    }
    say(format_args!("epitome: error: {}", one_line(error)));
    if is_usage(error) {
        say("For the options, try `epitome help`.");
        return 2;
    }
    1
}

/// Whether every process ends so, and none waits for another.
pub(crate) fn is_of_all(error: &Error) -> bool {
    matches!(error.downcast_ref(), Some(epitome_train::Error::Stopped { .. }))
}

/// Whether the command line is at fault.
fn is_usage(error: &Error) -> bool {
    let contradicts = |error: &epitome_decode::Error| matches!(error, epitome_decode::Error::Option { origin, .. } if origin == COMMAND_LINE);
    // All names of systems and baselines are given as options, and only one option asks for a vocabulary.
    let doubled = |error: &epitome_eval::Error| {
        matches!(error, epitome_eval::Error::Comparison(epitome_eval::ComparisonError::DoubledName { .. }))
    };
    let too_small = |error: &epitome_data::Error| matches!(error, epitome_data::Error::VocabularyTooSmall { .. });
    error.is::<Usage>()
        || error.chain().filter_map(|cause| cause.downcast_ref()).any(contradicts)
        || error.downcast_ref().is_some_and(doubled)
        || error.downcast_ref().is_some_and(too_small)
}

/// Writes a line to standard error. That nobody can read it, since the disk is full or the reader has gone away, ends no work and
/// changes no exit code; `eprintln!` would panic.
pub(crate) fn say(message: impl std::fmt::Display) {
    let _ = io::stderr().write_all(format!("{message}\n").as_bytes());
}

/// Whether warnings are printed: of several processes one is enough.
static SPEAKS: AtomicBool = AtomicBool::new(true);

/// Turns warnings on or off.
pub(crate) fn speak(speaks: bool) {
    SPEAKS.store(speaks, Ordering::Relaxed);
}

/// Says something that does not stop the run.
pub(crate) fn warn(message: impl std::fmt::Display) {
    warn_listing(message, &[] as &[&str]);
}

/// The same of many things, with a line for each.
pub(crate) fn warn_listing(message: impl std::fmt::Display, things: &[impl std::fmt::Display]) {
    if SPEAKS.load(Ordering::Relaxed) {
        say(format_args!("epitome: warning: {message}"));
        things.iter().for_each(|thing| say(format_args!("  {thing}")));
    }
}

fn is_broken_pipe(error: &Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// How the backtrace begins that candle's errors end with where `RUST_BACKTRACE` is set.
const BACKTRACE: &str = "\n   0: ";

/// The chain of causes, each once: library errors repeat their cause in their own message.
fn one_line(error: &Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let message = cause.to_string();
        let message = message.split(BACKTRACE).next().unwrap_or_default();
        if !line.contains(message) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(message);
        }
    }
    if is_gpu_full(error.as_ref()) {
        line.insert_str(0, "the GPU's memory is full; smaller batches or shorter documents need less: ");
    }
    line.split('\n').map(str::trim).filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::{Usage, is_broken_pipe, one_line};
    use anyhow::Context;
    use std::io;

    #[test]
    fn causes_are_named_once_and_on_one_line() {
        let inner = io::Error::other("disk on fire\nreally");
        let error = anyhow::Error::from(inner).context("out.jsonl: disk on fire\nreally").context("writing");
        assert_eq!(one_line(&error), "writing: out.jsonl: disk on fire; really");
    }

    #[test]
    fn backtraces_are_left_out_and_a_full_gpu_is_named() {
        let full = "DriverError(CUDA_ERROR_OUT_OF_MEMORY, \"out of memory\")";
        let error =
            anyhow::anyhow!("{full}\n   0: alloc\n             at somewhere.rs:1:2\n   1: main").context("a step");
        let said = one_line(&error);
        assert!(said.starts_with("the GPU's memory is full; ") && said.ends_with(full), "{said}");
    }

    #[test]
    fn a_closed_pipe_is_recognised_behind_context() {
        let pipe: Result<(), _> = Err(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(is_broken_pipe(&pipe.context("stdout").unwrap_err()));
        assert!(!is_broken_pipe(&Usage("no".into()).into()));
    }
}
