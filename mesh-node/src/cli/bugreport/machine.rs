//! What the report says about the machine and the state directory.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    thread,
};

use nix::sys::resource::{Resource, getrlimit};

/// The programs and the system.
pub(super) fn machine() -> Result<String, String> {
    let uname = nix::sys::utsname::uname().map_err(|error| error.to_string())?;
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let system = read("/etc/os-release");
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("unknown");
    let load = read("/proc/loadavg");
    let memory = read("/proc/meminfo");
    let memory: Vec<&str> = memory.lines().take(3).collect();
    let files =
        getrlimit(Resource::RLIMIT_NOFILE).map_or_else(|e| e.to_string(), |(soft, hard)| format!("{soft} of {hard}"));
    Ok(format!(
        "mesh-node {}\nkernel {} {} ({})\nsystem {system}\nprocessors {}\nload {}\nopen files {files}\nuser {}\n{}\n",
        crate::cli::version(),
        text(uname.sysname()),
        text(uname.release()),
        text(uname.machine()),
        thread::available_parallelism().map_or(0, usize::from),
        load.trim(),
        if nix::unistd::geteuid().is_root() { "root" } else { "not root" },
        memory.join("\n"),
    ))
}

/// The names, sizes, modes and ages of the files in the state directory, without their content.
pub(super) fn files(state: &Path) -> Result<String, String> {
    let entries = fs::read_dir(state).map_err(|error| format!("{}: {error}", state.display()))?;
    let mut lines: Vec<String> = entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let about = entry.metadata().ok()?;
            let age = about.modified().ok()?.elapsed().unwrap_or_default().as_secs();
            let name = entry.file_name().to_string_lossy().into_owned();
            Some(format!(
                "{name}  {:o}  {} bytes  {age} s old  user {}",
                about.permissions().mode(),
                about.len(),
                about.uid()
            ))
        })
        .collect();
    lines.sort();
    Ok(lines.join("\n") + "\n")
}
