//! The runtime that has called this program as a hook: what it was called with itself, and where its caller looks.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::PathBuf,
};

use mesh_proto::message::Refusal;
use nix::unistd::{Pid, getppid};
use serde_json::json;

use super::{
    argv::{self, Call, Task},
    line,
};

/// The configuration of the container that it makes, if that is this one. What it tells its hooks is not always right: crun
/// says where it is itself, and with a user namespace that can be `/`.
pub(super) fn config(container: &str) -> Option<PathBuf> {
    match call(getppid()).task {
        Task::Create { config, id } if id == container && config.is_absolute() => Some(config),
        _ => None,
    }
}

/// For a hook whose standard error nobody reads, as with crun: where the caller of the runtime looks that has called it. podman
/// takes the runtime's log for its error if that is one entry, and else what stands on the runtime's standard error.
pub(super) fn report(refusal: &Refusal) {
    let identity = |path: &str| fs::metadata(path).ok().map(|found| (found.rdev(), found.ino()));
    if identity("/proc/self/fd/2") != identity("/dev/null") {
        return;
    }
    let runtime = getppid();
    let call = call(runtime);
    if !matches!(call.task, Task::Create { .. }) {
        return;
    }
    log(&call, refusal);
    let stderr = File::options().append(true).open(format!("/proc/{runtime}/fd/2"));
    let written = stderr.and_then(|mut stderr| writeln!(stderr, "{}", line(refusal)));
    // Nobody else is left to be told.
    drop(written);
}

/// Writes into the log file that the runtime was told of.
pub(super) fn log(call: &Call, refusal: &Refusal) {
    let Some(log) = &call.log else { return };
    let text = line(refusal);
    let entry = if call.json {
        json!({"level": "error", "msg": text}).to_string()
    } else {
        format!("level=error msg={text:?}")
    };
    let written = File::options().create(true).append(true).open(log).and_then(|mut file| writeln!(file, "{entry}"));
    // It stands on standard error too.
    drop(written);
}

/// What a process was called with, if that was a runtime.
fn call(process: Pid) -> Call {
    parse(&fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default())
}

/// Each word has an octet of zero at its end: proc(5), «cmdline».
fn parse(text: &[u8]) -> Call {
    let words = text.strip_suffix(b"\0").unwrap_or(text).split(|octet| *octet == 0).skip(1);
    argv::parse(&words.map(|word| OsStr::from_bytes(word).to_owned()).collect::<Vec<OsString>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_understood_by_its_command_line() {
        let call = parse(b"/usr/bin/crun\0--root\0/r\0create\0--bundle\0/b\0f00\0");
        assert_eq!(call.task, Task::Create { config: "/b/config.json".into(), id: "f00".into() });
        assert_eq!(parse(b"").task, Task::Other);
        assert_eq!(config("f00"), None, "the test's parent is no runtime");
    }
}
