//! The whole process: settings that decide how fast everything else is, and its memory.

/// To be called once, first thing in `main`.
///
/// Freed memory is kept for the next result, and candle's own threads, which would spin beside rayon's, are turned off
/// unless `CANDLE_NUM_THREADS` asks for them: all that takes long is done by this crate. Once the process has a second
/// thread, or where it cannot be told, candle's threads stay as they are.
pub fn prepare_process() {
    const CANDLE_THREADS: &str = "CANDLE_NUM_THREADS";
    keep_freed_memory();
    if std::env::var_os(CANDLE_THREADS).is_none() && has_one_thread() {
        // SAFETY: no other thread can read or write the environment now.
        unsafe { std::env::set_var(CANDLE_THREADS, "1") };
    }
}

/// The memory that this process holds now, in GiB, where the system says (Linux).
pub fn resident_memory_gib() -> Option<f64> {
    memory_gib("VmRSS:")
}

/// The memory that this process holds now and that could not be read again from files, in GiB, where the system says (Linux).
pub fn anonymous_memory_gib() -> Option<f64> {
    memory_gib("RssAnon:")
}

/// The most memory that this process has held, in GiB, where the system says (Linux).
pub fn peak_memory_gib() -> Option<f64> {
    memory_gib("VmHWM:")
}

fn memory_gib(field: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field))?;
    let kib: f64 = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / f64::from(1 << 20))
}

fn has_one_thread() -> bool {
    std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

/// Tells the C library's allocator to keep freed blocks of any size instead of giving them back to the system.
///
/// Every operation writes its result to a new tensor. By default blocks of such sizes are mapped afresh and unmapped when
/// freed, so that every page of every result is faulted in anew, which costs more than a GELU or a layer norm itself.
/// Does nothing where the C library is not glibc.
fn keep_freed_memory() {
    #[cfg(target_env = "gnu")]
    {
        /// Bytes asked of the system at a time.
        const TOP_PAD: libc::c_int = 64 << 20;
        // SAFETY: `mallopt` only sets parameters of the allocator; any value is allowed.
        unsafe {
            libc::mallopt(libc::M_MMAP_MAX, 0);
            libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
            libc::mallopt(libc::M_TOP_PAD, TOP_PAD);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::{peak_memory_gib, resident_memory_gib};

    #[test]
    fn memory_grows_with_what_is_held() {
        let before = resident_memory_gib().unwrap();
        // Far more than other tests of this process give back meanwhile.
        let held = vec![1u8; 512 << 20];
        let after = resident_memory_gib().unwrap();
        assert!(held.iter().map(|&byte| usize::from(byte)).sum::<usize>() == held.len());
        assert!(after - before > 0.3, "{before} to {after}");
        assert!(peak_memory_gib().unwrap() > 0.5);
    }
}
