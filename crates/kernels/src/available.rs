//! How much memory the system would still give this process (Linux).

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that this process can still take: what the machine has free or can free at once, and no more than the control
/// groups around the process allow. `None` where the system does not say.
pub fn available_memory() -> Option<usize> {
    let machine = meminfo("MemAvailable:", &fs::read_to_string("/proc/meminfo").ok()?)?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let allowed =
        groups.lines().filter_map(|line| Group::of(line, Path::new("/sys/fs/cgroup"))).filter_map(Group::left);
    allowed.chain([machine]).min()
}

/// A value of `/proc/meminfo` in bytes.
fn meminfo(name: &str, text: &str) -> Option<usize> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: usize = value.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// A control group that limits memory, and what its files are called.
struct Group {
    root: PathBuf,
    directory: PathBuf,
    limit: &'static str,
    usage: &'static str,
    /// Of `memory.stat`: cached files, which go when memory is short.
    cached: [&'static str; 2],
}

impl Group {
    /// The group in a line of `/proc/self/cgroup`: `0::PATH` of version 2, `N:CONTROLLERS:PATH` of version 1.
    fn of(line: &str, mounted: &Path) -> Option<Self> {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        let (root, [limit, usage], cached) = if controllers.is_empty() {
            (mounted.to_owned(), ["memory.max", "memory.current"], ["active_file ", "inactive_file "])
        } else if controllers.split(',').any(|controller| controller == "memory") {
            let cached = ["total_active_file ", "total_inactive_file "];
            (mounted.join("memory"), ["memory.limit_in_bytes", "memory.usage_in_bytes"], cached)
        } else {
            return None;
        };
        // Inside a container the path may be that outside, and then only the root is there.
        let directory = root.join(path.trim_start_matches('/'));
        Some(Self { directory: if directory.is_dir() { directory } else { root.clone() }, root, limit, usage, cached })
    }

    /// Bytes left in the group and in all groups around it; `None` where none is limited.
    fn left(self) -> Option<usize> {
        let around = self.directory.ancestors().take_while(|directory| directory.starts_with(&self.root));
        around.filter_map(|directory| self.left_in(directory)).min()
    }

    fn left_in(&self, directory: &Path) -> Option<usize> {
        let number = |name: &str| fs::read_to_string(directory.join(name)).ok()?.trim().parse::<usize>().ok();
        let (limit, usage) = (number(self.limit)?, number(self.usage)?);
        let stat = fs::read_to_string(directory.join("memory.stat")).unwrap_or_default();
        let value = |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<usize>().ok());
        let cached: usize = self.cached.into_iter().filter_map(value).sum();
        Some(limit.saturating_sub(usage.saturating_sub(cached)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(directory: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(directory).unwrap();
        files.iter().for_each(|(name, text)| fs::write(directory.join(name), text).unwrap());
    }

    #[test]
    fn meminfo_is_in_kib() {
        assert_eq!(meminfo("MemAvailable:", "MemTotal: 9 kB\nMemAvailable:   1024 kB\n"), Some(1 << 20));
        assert_eq!(meminfo("MemAvailable:", "MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn the_tightest_group_around_the_process_counts() {
        let root = std::env::temp_dir().join(format!("epitome-groups-{}", std::process::id()));
        let usage = ("memory.current", "700\n");
        write(
            &root.join("a"),
            &[("memory.max", "1000\n"), usage, ("memory.stat", "anon 1\ninactive_file 150\nactive_file 50\n")],
        );
        write(&root.join("a/b"), &[("memory.max", "max\n"), usage]);
        write(&root.join("memory/c"), &[("memory.limit_in_bytes", "50"), ("memory.usage_in_bytes", "60")]);
        let left = |line: &str| Group::of(line, &root)?.left();
        assert_eq!(left("0::/a/b"), Some(500));
        assert_eq!(left("0::/elsewhere"), None);
        assert_eq!(left("4:cpu,memory:/c"), Some(0));
        assert_eq!(left("5:cpu:/c"), None);
        fs::remove_dir_all(root).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn some_memory_is_left() {
        assert!(available_memory().unwrap() > 0);
    }
}
