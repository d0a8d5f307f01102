//! What a runtime is called with: the command line of runc, as far as it concerns us (runc(8), and as containerd's
//! go-runc and podman's conmon use it). What isn't understood is passed on; it is never an error here.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

/// Global options that take a value, of runc and of crun.
const GLOBAL: [&str; 6] = ["root", "log", "log-format", "criu", "rootless", "cgroup-manager"];
/// Options of `create`, `run` and `exec` that take a value.
const LOCAL: [&str; 22] = [
    "bundle",
    "b",
    "console-socket",
    "pid-file",
    "preserve-fds",
    "config",
    "f",
    "process",
    "p",
    "cwd",
    "env",
    "e",
    "user",
    "u",
    "additional-gids",
    "g",
    "process-label",
    "apparmor",
    "cap",
    "c",
    "cgroup",
    "seccomp",
];

/// A call of the runtime.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// Where it keeps the state of containers.
    pub(super) root: Option<PathBuf>,
    /// Where it writes what goes wrong.
    pub(super) log: Option<PathBuf>,
    /// Whether it does so in JSON.
    pub(super) json: bool,
    /// What it is to do.
    pub(super) task: Task,
}

/// What the runtime is to do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Task {
    /// To make a container.
    Create {
        /// The directory of its `config.json`; by default the current one.
        bundle: PathBuf,
        /// Its identifier.
        id: String,
    },
    /// To run a further process in a container.
    Exec {
        /// The file that says which.
        process: PathBuf,
        /// The container's identifier.
        id: String,
    },
    /// Nothing that concerns us.
    #[default]
    Other,
}

/// Reads the arguments, without the program's name.
pub(super) fn parse(arguments: &[OsString]) -> Call {
    let mut words = arguments.iter();
    let mut call = Call::default();
    let mut command = None;
    while let Some(word) = words.next() {
        let Some((name, value)) = option(word, &GLOBAL, &mut words) else {
            command = Some(word);
            break;
        };
        match (name.as_bytes(), value) {
            (b"root", Some(value)) => call.root = Some(value.into()),
            (b"log", Some(value)) => call.log = Some(value.into()),
            (b"log-format", Some(value)) => call.json = value == "json",
            _ => {}
        }
    }
    let (mut bundle, mut process, mut id) = (PathBuf::from("."), None, None);
    while let Some(word) = words.next() {
        let Some((name, value)) = option(word, &LOCAL, &mut words) else {
            id = word.to_str();
            break;
        };
        match (name.as_bytes(), value) {
            (b"bundle" | b"b", Some(value)) => bundle = value.into(),
            (b"process" | b"p", Some(value)) => process = Some(value.into()),
            _ => {}
        }
    }
    call.task = match (command.map(|word| word.as_bytes()), id.map(str::to_owned), process) {
        (Some(b"create" | b"run"), Some(id), _) => Task::Create { bundle, id },
        (Some(b"exec"), Some(id), Some(process)) => Task::Exec { process, id },
        _ => Task::Other,
    };
    call
}

/// An option's name and value, which may stand in the same word or be the next one; `None` if it is no option.
fn option<'a>(
    word: &'a OsStr,
    valued: &[&str],
    rest: &mut impl Iterator<Item = &'a OsString>,
) -> Option<(&'a OsStr, Option<&'a OsStr>)> {
    let text = word.as_bytes();
    // Go's flags begin with one hyphen or two, and a lone one is an argument.
    let name = text.strip_prefix(b"--").or_else(|| text.strip_prefix(b"-")).filter(|name| !name.is_empty())?;
    let mut parts = name.splitn(2, |b| *b == b'=');
    let name = parts.next().map(OsStr::from_bytes)?;
    let value = match parts.next() {
        Some(value) => Some(OsStr::from_bytes(value)),
        None if valued.iter().any(|valued| name == *valued) => rest.next().map(OsString::as_os_str),
        None => None,
    };
    Some((name, value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Call {
        parse(&line.split_whitespace().map(Into::into).collect::<Vec<_>>())
    }

    #[test]
    fn what_docker_and_podman_call_is_understood() {
        // As they did (docker 20.10 with containerd 1.6; podman 4.3 with conmon 2.1), paths shortened.
        let docker = "--root /run/docker/runtime-runc/moby --log /run/c/f00/log.json --log-format json";
        let create = read(&format!("{docker} create --bundle /run/c/f00 --pid-file /run/c/f00/init.pid f00"));
        assert_eq!(create.task, Task::Create { bundle: "/run/c/f00".into(), id: "f00".into() });
        assert_eq!(create.root, Some("/run/docker/runtime-runc/moby".into()));
        assert_eq!((create.log, create.json), (Some("/run/c/f00/log.json".into()), true));
        let exec = read(&format!("{docker} exec --process /tmp/p1 --console-socket /tmp/s --detach --pid-file /x f00"));
        assert_eq!(exec.task, Task::Exec { process: "/tmp/p1".into(), id: "f00".into() });
        for other in ["start f00", "kill f00 9", "delete --force f00", "state f00"] {
            assert_eq!(read(&format!("{docker} {other}")).task, Task::Other, "{other}");
        }
        let podman = read("--log-format=json --log=/x/log create --bundle /b --pid-file /x/pidfile f00");
        assert_eq!(podman.task, Task::Create { bundle: "/b".into(), id: "f00".into() });
        assert_eq!((podman.log, podman.json), (Some("/x/log".into()), true));
        assert_eq!(read("--version"), Call::default());
        assert_eq!(read(""), Call::default());
    }

    #[test]
    fn options_have_two_forms_and_some_no_value() {
        let bundle = |line| match read(line).task {
            Task::Create { bundle, id } => (bundle.display().to_string(), id),
            other => panic!("{line}: {other:?}"),
        };
        for line in [
            "--debug --systemd-cgroup create --no-pivot -b /b f00",
            "-root /r create --bundle=/b --no-new-keyring f00",
            "--rootless true run --detach --keep --bundle /b f00",
            "create -bundle=/b f00",
        ] {
            assert_eq!(bundle(line), ("/b".to_owned(), "f00".to_owned()), "{line}");
        }
        assert_eq!(bundle("create f00").0, ".");
        assert_eq!(read("exec f00 sh -c ls").task, Task::Other, "no file to put anything in");
        assert_eq!(read("--root create start f00").task, Task::Other);
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_read(words in proptest::collection::vec("[-=a-c]{0,6}|create|exec|--root|--process", 0..8)) {
            parse(&words.into_iter().map(Into::into).collect::<Vec<_>>());
        }
    }
}
