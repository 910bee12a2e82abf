//! How many threads compute.

use std::env;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

/// What candle's own pools and rayon's read their size from.
const VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Sizes all thread pools: `threads`, or one thread per physical core unless the environment says otherwise.
///
/// candle reads the sizes of its pools from the environment alone, which a program cannot safely change for itself. So when
/// the environment says something other than `threads`, the program starts itself again with the right variables, and
/// the exit code of that run is returned.
///
/// # Errors
/// When the program cannot be started again or the threads cannot be made.
pub(crate) fn configure(threads: Option<usize>) -> Result<Option<ExitCode>> {
    if let Some(threads) = threads {
        let wanted = threads.to_string();
        if VARIABLES.iter().any(|name| env::var(name).as_deref() != Ok(&wanted)) {
            return restart(&wanted).map(Some);
        }
        return Ok(None);
    }
    if env::var_os(VARIABLES[0]).is_none() {
        rayon::ThreadPoolBuilder::new()
            .num_threads(num_cpus::get_physical().max(1))
            .build_global()
            .context("cannot start the compute threads")?;
    }
    Ok(None)
}

fn restart(threads: &str) -> Result<ExitCode> {
    let program = env::current_exe().context("cannot find this program to start it with --threads")?;
    let mut command = Command::new(program);
    command.args(env::args_os().skip(1));
    for name in VARIABLES {
        command.env(name, threads);
    }
    run(command).context("cannot start this program again with --threads")
}

/// Becomes the new run, keeping the process id and the open files.
#[cfg(unix)]
fn run(mut command: Command) -> std::io::Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

#[cfg(not(unix))]
fn run(mut command: Command) -> std::io::Result<ExitCode> {
    let code = command.status()?.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
