//! Parses runc's command line, as far as the wrapper needs it (runc(8), and as containerd's go-runc and podman's conmon use it).
//! Unknown arguments are passed on and never an error.

use std::{
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt as _,
    path::PathBuf,
};

/// Global options of runc 1.3, crun 1.21 and compatible runtimes.
const GLOBAL: Options = Options {
    valued: &["root", "log", "log-format", "log-level", "criu", "rootless", "cgroup-manager"],
    plain: &["debug", "systemd-cgroup", "version", "v", "help", "h"],
};

/// Their options of `create`, `run`, `restore` and `exec`.
const LOCAL: Options = Options {
    valued: &[
        "bundle",
        "b",
        "config",
        "f",
        "console-socket",
        "pidfd-socket",
        "pid-file",
        "preserve-fds",
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
        "image-path",
        "work-path",
        "manage-cgroups-mode",
        "network-lock-method",
        "empty-ns",
        "lsm-profile",
        "lsm-mount-context",
    ],
    plain: &[
        "detach",
        "d",
        "keep",
        "no-pivot",
        "no-new-keyring",
        "no-subreaper",
        "tty",
        "t",
        "no-new-privs",
        "ignore-paused",
        "tcp-established",
        "tcp-close",
        "ext-unix-sk",
        "shell-job",
        "file-locks",
        "auto-dedup",
        "lazy-pages",
        "help",
        "h",
    ],
};

/// The commands. A command after an unknown option is not that option's value.
const COMMANDS: [&str; 18] = [
    "checkpoint",
    "create",
    "delete",
    "events",
    "exec",
    "features",
    "help",
    "kill",
    "list",
    "pause",
    "ps",
    "restore",
    "resume",
    "run",
    "spec",
    "start",
    "state",
    "update",
];

/// A call of the runtime.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Call {
    /// The directory of the containers' state.
    pub(super) root: Option<PathBuf>,
    /// The log file for errors.
    pub(super) log: Option<PathBuf>,
    /// Whether the log is JSON.
    pub(super) json: bool,
    /// The task.
    pub(super) task: Task,
}

/// The runtime's task.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) enum Task {
    /// Makes a container, also by `restore` from a checkpoint, for which runc calls the same hooks.
    Create {
        /// Its configuration; the default is `config.json` in the bundle, and the default bundle is the current directory.
        config: PathBuf,
        /// Its identifier.
        id: String,
    },
    /// Runs another process in a container.
    Exec {
        /// The file that describes the process.
        process: PathBuf,
        /// The container's identifier.
        id: String,
    },
    /// Anything else.
    #[default]
    Other,
}

/// Parses the arguments, without the program's name.
pub(super) fn parse(arguments: &[OsString]) -> Call {
    let mut words = Words(arguments);
    let mut call = Call::default();
    let is_command = |words: &[OsString]| words.first().is_some_and(|word| COMMANDS.iter().any(|name| word == name));
    while let Some((name, value)) = words.option(&GLOBAL, is_command) {
        match (name.as_bytes(), value) {
            (b"root", Some(value)) => call.root = Some(value.into()),
            (b"log", Some(value)) => call.log = log(value),
            (b"log-format", Some(value)) => call.json = value == "json",
            _ => {}
        }
    }
    let command = words.next();
    call.task = match command.map(OsStr::as_bytes) {
        Some(b"create" | b"run" | b"restore") => create(words),
        Some(b"exec") => exec(words),
        _ => None,
    }
    .unwrap_or_default();
    call
}

/// The identifier is the last word, whatever unknown words precede it.
fn create(words: Words<'_>) -> Option<Task> {
    let (id, before) = words.0.split_last()?;
    let id = id.to_str().filter(|id| !id.starts_with('-'))?.to_owned();
    let (mut words, mut bundle, mut config) = (Words(before), PathBuf::new(), None);
    loop {
        match words.option(&LOCAL, <[_]>::is_empty) {
            Some((name, Some(value))) => match name.as_bytes() {
                b"bundle" | b"b" => bundle = value.into(),
                b"config" | b"f" => config = Some(value.into()),
                _ => {}
            },
            Some((_, None)) => {}
            None => match words.next() {
                Some(_) => {}
                None => break,
            },
        }
    }
    Some(Task::Create { config: config.unwrap_or_else(|| bundle.join("config.json")), id })
}

/// With a file that describes the process the identifier is the last word. Without one the words of a command follow.
fn exec(mut words: Words<'_>) -> Option<Task> {
    let mut process = None;
    while let Some((name, value)) = words.option(&LOCAL, |words| words.len() < 2) {
        if let (b"process" | b"p", Some(value)) = (name.as_bytes(), value) {
            process = Some(value.into());
        }
    }
    Some(Task::Exec { process: process?, id: words.0.last()?.to_str()?.to_owned() })
}

/// The log's path, if it is a file: crun also accepts other targets.
fn log(value: &OsStr) -> Option<PathBuf> {
    match value.as_bytes() {
        value if [&b"journald:"[..], b"syslog:"].iter().any(|other| value.starts_with(other)) => None,
        value => Some(OsStr::from_bytes(value.strip_prefix(b"file:").unwrap_or(value)).into()),
    }
}

/// Known options.
struct Options {
    /// With a value, in the same word or the next one.
    valued: &'static [&'static str],
    /// Without a value.
    plain: &'static [&'static str],
}

/// The words that remain.
struct Words<'a>(&'a [OsString]);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a OsStr> {
        let (next, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(next)
    }

    /// The next word if it is an option, and its value. An unknown option has a value unless another option follows or `no_value`
    /// holds for the words after it.
    fn option(
        &mut self,
        known: &Options,
        no_value: impl Fn(&[OsString]) -> bool,
    ) -> Option<(&'a OsStr, Option<&'a OsStr>)> {
        let (name, value) = split(self.0.first()?)?;
        self.next();
        if value.is_some() || known.plain.iter().any(|plain| name == *plain) {
            return Some((name, value));
        }
        let follows = self.0.first().is_some_and(|word| split(word).is_none()) && !no_value(self.0);
        let has_one = follows || known.valued.iter().any(|valued| name == *valued);
        Some((name, has_one.then(|| self.next()).flatten()))
    }
}

/// An option's name and its value in the same word; `None` for an argument. Go's options begin with one hyphen or two; a lone
/// hyphen is an argument.
fn split(word: &OsStr) -> Option<(&OsStr, Option<&OsStr>)> {
    let text = word.as_bytes();
    let text = text.strip_prefix(b"--").or_else(|| text.strip_prefix(b"-")).filter(|text| !text.is_empty())?;
    let mut parts = text.splitn(2, |b| *b == b'=').map(OsStr::from_bytes);
    Some((parts.next()?, parts.next()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(line: &str) -> Call {
        parse(&line.split_whitespace().map(Into::into).collect::<Vec<_>>())
    }

    #[test]
    fn the_calls_of_docker_and_podman_are_understood() {
        // As they did (docker 20.10 with containerd 1.6; podman 4.3 with conmon 2.1), paths shortened.
        let docker = "--root /run/docker/runtime-runc/moby --log /run/c/f00/log.json --log-format json";
        let create = read(&format!("{docker} create --bundle /run/c/f00 --pid-file /run/c/f00/init.pid f00"));
        assert_eq!(create.task, Task::Create { config: "/run/c/f00/config.json".into(), id: "f00".into() });
        assert_eq!(create.root, Some("/run/docker/runtime-runc/moby".into()));
        assert_eq!((create.log, create.json), (Some("/run/c/f00/log.json".into()), true));
        let exec = read(&format!("{docker} exec --process /tmp/p1 --console-socket /tmp/s --detach --pid-file /x f00"));
        assert_eq!(exec.task, Task::Exec { process: "/tmp/p1".into(), id: "f00".into() });
        for other in ["start f00", "kill f00 9", "delete --force f00", "state f00"] {
            assert_eq!(read(&format!("{docker} {other}")).task, Task::Other, "{other}");
        }
        let podman = read("--log-format=json --log=/x/log create --bundle /b --pid-file /x/pidfile f00");
        assert_eq!(podman.task, Task::Create { config: "/b/config.json".into(), id: "f00".into() });
        assert_eq!((podman.log, podman.json), (Some("/x/log".into()), true));
        assert_eq!(read("--version"), Call::default());
        assert_eq!(read(""), Call::default());
    }

    /// The configuration and the identifier of a container that is made.
    fn made(line: &str) -> (String, String) {
        match read(line).task {
            Task::Create { config, id } => (config.display().to_string(), id),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn options_have_two_forms_and_some_no_value() {
        for line in [
            "--debug --systemd-cgroup create --no-pivot -b /b f00",
            "-root /r create --bundle=/b --no-new-keyring f00",
            "--rootless true run --detach --keep --bundle /b f00",
            "--log-level debug create -bundle=/b f00",
            "--log-level=debug create --pidfd-socket /s --bundle /b --preserve-fds 2 f00",
            "restore --image-path /i --tcp-established --bundle /b --detach --empty-ns network f00",
        ] {
            assert_eq!(made(line), ("/b/config.json".to_owned(), "f00".to_owned()), "{line}");
        }
        assert_eq!(made("create f00"), ("config.json".to_owned(), "f00".to_owned()));
        assert_eq!(made("run -f /other.json --bundle /b f00"), ("/other.json".to_owned(), "f00".to_owned()));
        assert_eq!(read("exec f00 sh -c ls").task, Task::Other, "no file to put anything in");
        assert_eq!(read("exec --tty f00 server --process /p x").task, Task::Other, "the command's own word");
        assert_eq!(read("--root create start f00").task, Task::Other);
        assert_eq!(read("create --help").task, Task::Other);
    }

    #[test]
    fn unknown_arguments_do_not_hide_the_rest() {
        for line in [
            "--frob create --bundle /b f00",
            "--frob 7 --nice create --bundle /b f00",
            "create --frob /x --bundle /b f00",
            "create --bundle /b --frob f00",
            "create --frob --bundle /b --nice 3 f00",
        ] {
            assert_eq!(made(line), ("/b/config.json".to_owned(), "f00".to_owned()), "{line}");
        }
        let exec = |line| read(line).task;
        let expected = Task::Exec { process: "/p".into(), id: "f00".into() };
        for line in ["exec --frob --process /p f00", "exec --frob 7 --process /p f00", "exec --process /p --frob f00"] {
            assert_eq!(exec(line), expected, "{line}");
        }
    }

    #[test]
    fn only_a_file_is_written_to() {
        let log = |line: &str| read(&format!("{line} state f00")).log;
        assert_eq!(log("--log file:/x"), Some("/x".into()));
        assert_eq!(log("--log=/x"), Some("/x".into()));
        assert_eq!((log("--log journald:f00"), log("--log=syslog:f00")), (None, None));
    }

    proptest! {
        #[test]
        fn whatever_stands_there_is_read(words in proptest::collection::vec("[-=a-c]{0,6}|create|restore|exec|--root|--process", 0..8)) {
            parse(&words.into_iter().map(Into::into).collect::<Vec<_>>());
        }
    }
}
