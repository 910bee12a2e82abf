//! Freed memory is kept for the next result.

/// Tells the C library's allocator to keep freed blocks of any size instead of giving them back to the system.
///
/// Every operation writes its result to a new tensor. By default blocks of such sizes are mapped afresh and unmapped when
/// freed, so that every page of every result is faulted in anew, which costs more than a GELU or a layer norm itself. A
/// program calls this once, at its start. Does nothing where the C library is not glibc.
pub fn keep_freed_memory() {
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
