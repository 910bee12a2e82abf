//! Files that are replaced whole or not at all, and whether two names are one file.
//!
//! Errors are those of the operating system and do not name the file: the caller does.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// What the name of a file ends with until it is whole.
const UNFINISHED: &str = ".partial";

/// Writes `path` through a sibling, whose name `write` is given, that is synced and then renamed over it, so that a reader, a full
/// disk or a power cut finds either the old file or the new one. Whoever may read other new files of the user may read this one, however
/// `write` makes the sibling.
///
/// # Errors
/// Those of `write`, or when the directory cannot be written; the sibling is removed and the old file stays.
pub fn replace_file(path: &Path, write: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let sibling = unfinished(path);
    let outcome = File::create(&sibling)
        .and_then(|new| Ok(new.metadata()?.permissions()))
        .and_then(|permissions| write(&sibling).and_then(|()| fs::set_permissions(&sibling, permissions)))
        .and_then(|()| finish_file(path));
    if outcome.is_err() {
        // The first error is the one to report; a sibling that was never made cannot be removed.
        let _ = fs::remove_file(&sibling);
    }
    outcome
}

/// The name beside `path` that a file has until it is whole.
pub fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(UNFINISHED);
    path.with_file_name(name)
}

/// Gives the file that was written as [`unfinished`] says its name: what [`replace_file`] ends with, for files that are written over
/// hours and of which the beginning is worth something.
///
/// # Errors
/// When there is no such file, or the directory cannot be written.
pub fn finish_file(path: &Path) -> io::Result<()> {
    let sibling = unfinished(path);
    File::open(&sibling)?.sync_all()?;
    fs::rename(&sibling, path)?;
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

/// As [`replace_file`], by a file of this content.
///
/// # Errors
/// As [`replace_file`].
pub fn replace_content(path: &Path, content: impl AsRef<[u8]>) -> io::Result<()> {
    replace_file(path, |sibling| fs::write(sibling, content))
}

/// Makes a directory, unless it is there, in which files can be written: what asks early need not fail late.
///
/// # Errors
/// When the directory cannot be made, or no file in it.
pub fn create_directory(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let probe = directory.join(UNFINISHED);
    File::create(&probe)?;
    fs::remove_file(&probe)
}

/// Makes the renames in a directory survive a power cut.
///
/// # Errors
/// When the directory cannot be opened or synced.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

/// Whether two names lead to one file or directory, through whatever links. What is not there is no file.
pub fn same_file(one: &Path, other: &Path) -> bool {
    #[cfg(unix)]
    if let (Ok(one), Ok(other)) = (one.metadata(), other.metadata()) {
        use std::os::unix::fs::MetadataExt;
        return (one.dev(), one.ino()) == (other.dev(), other.ino());
    }
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.txt");
        replace_content(&path, "old").unwrap();
        let half = |sibling: &Path| fs::write(sibling, "ne").and(Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(replace_file(&path, half).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((fs::read_to_string(&path).unwrap(), names(directory.path())), ("old".into(), vec!["a.txt".into()]));
        replace_content(&path, b"new").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap(), names(directory.path())), ("new".into(), vec!["a.txt".into()]));
        assert!(replace_content(&directory.path().join("missing/a.txt"), "").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_file_has_the_permissions_of_any_new_file() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let [path, plain] = ["a.txt", "b.txt"].map(|name| directory.path().join(name));
        let private = |sibling: &Path| {
            fs::remove_file(sibling)?;
            fs::write(sibling, "secret")?;
            fs::set_permissions(sibling, fs::Permissions::from_mode(0o400))
        };
        replace_file(&path, private).unwrap();
        fs::write(&plain, "").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&plain));
    }

    #[test]
    fn names_of_one_file_are_known() {
        let directory = tempfile::tempdir().unwrap();
        let [one, other, missing] = ["one", "other", "missing"].map(|name| directory.path().join(name));
        fs::write(&one, "same").unwrap();
        fs::write(&other, "same").unwrap();
        assert!(same_file(&one, &one) && same_file(&one, &directory.path().join("./one")));
        assert!(!same_file(&one, &other) && !same_file(&one, &missing) && !same_file(&missing, &missing));
        #[cfg(unix)]
        for make in [fs::hard_link::<_, &Path>, std::os::unix::fs::symlink] {
            make(&one, &missing).unwrap();
            assert!(same_file(&one, &missing));
            fs::remove_file(&missing).unwrap();
        }
    }
}
