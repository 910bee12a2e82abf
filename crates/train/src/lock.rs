//! One run at a time in a directory.

use std::fs::{self, File, TryLockError};
use std::path::Path;

use crate::checkpoint;
use crate::{Error, Result};

const FILE: &str = "run.lock";

/// Held while a run writes into its directory; the system lets go of it when the process ends, however it does.
#[derive(Debug)]
pub(crate) struct RunLock(#[expect(dead_code, reason = "held open, never read")] Option<File>);

impl RunLock {
    /// Locks `output`, making it if need be, and removes what a killed run left of unfinished checkpoints. A file system
    /// without locks has none.
    ///
    /// # Errors
    /// When another run holds the directory, or it cannot be made.
    pub(crate) fn acquire(output: &Path) -> Result<Self> {
        fs::create_dir_all(output).map_err(Error::io(output))?;
        let path = output.join(FILE);
        let file = File::create(&path).map_err(Error::io(&path))?;
        let held = match file.try_lock() {
            Ok(()) => Some(file),
            Err(TryLockError::Error(_)) => None,
            Err(TryLockError::WouldBlock) => {
                let message =
                    "another run is writing into this directory: wait for its end, or choose another --output";
                return Err(Error::Checkpoint { path, message: message.into() });
            }
        };
        checkpoint::remove_unfinished(output)?;
        Ok(Self(held))
    }
}

#[cfg(test)]
mod tests {
    use super::RunLock;
    use std::fs;

    #[test]
    fn a_directory_is_held_by_one_run_and_tidied() {
        let directory = tempfile::tempdir().unwrap();
        let output = directory.path().join("run");
        fs::create_dir_all(output.join("checkpoint-7.partial")).unwrap();
        fs::create_dir_all(output.join("checkpoint-6")).unwrap();
        let held = RunLock::acquire(&output).unwrap();
        assert!(!output.join("checkpoint-7.partial").exists() && output.join("checkpoint-6").exists());
        assert!(RunLock::acquire(&output).unwrap_err().to_string().contains("another run"));
        drop(held);
        RunLock::acquire(&output).unwrap();
    }
}
