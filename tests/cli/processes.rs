//! What `/proc` tells of the processes of a run.

use std::fs;

/// Whether any process that has not ended was started by this one.
pub(crate) fn has_children(process: u32) -> bool {
    let is_child = |stat: String| {
        // After the name in parentheses: the state, then the parent.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        Some(fields.next()? != "Z" && fields.next()? == process.to_string())
    };
    let processes =
        fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("stat")).ok());
    processes.filter_map(is_child).any(|is_child| is_child)
}

/// The files that a process has open, or had open when they were deleted.
pub(crate) fn open_files(process: u32) -> Vec<String> {
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let name = |entry: fs::DirEntry| fs::read_link(entry.path()).ok()?.to_str().map(str::to_owned);
    open.filter_map(|entry| name(entry.ok()?)).collect()
}

/// The process started last that has `argument` on its command line.
pub(crate) fn newest_process(argument: &str) -> u32 {
    processes(argument).max().unwrap()
}

/// The processes that have `argument` on their command lines, without `mpirun`.
pub(crate) fn processes(argument: &str) -> impl Iterator<Item = u32> {
    let has = move |process: &u32| {
        fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| {
            !line.starts_with(b"mpirun") && line.split(|byte| *byte == 0).any(|part| part == argument.as_bytes())
        })
    };
    let names = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).filter(has)
}
