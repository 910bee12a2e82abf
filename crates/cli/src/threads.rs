//! How many threads compute.

use std::env;

use anyhow::{Context, Result};

/// Sizes the pool of threads: `threads`, or one thread per physical core that this process may use, unless rayon's own
/// variable says otherwise.
///
/// # Errors
/// When the threads cannot be made.
pub(crate) fn configure(threads: Option<usize>) -> Result<()> {
    let wanted = match threads {
        Some(threads) => threads,
        None if env::var_os("RAYON_NUM_THREADS").is_some() => return Ok(()),
        None => {
            let usable = std::thread::available_parallelism().map_or(usize::MAX, usize::from);
            num_cpus::get_physical().clamp(1, usable)
        }
    };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(wanted);
    pool.build_global().context("cannot start the compute threads")
}
