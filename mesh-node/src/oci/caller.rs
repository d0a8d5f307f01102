//! The runtime that called this program as a hook: its own arguments, and where its caller reads errors.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    path::PathBuf,
};

use nix::unistd::{Pid, getppid};
use serde_json::json;

use super::{
    argv::{self, Call, Task},
    line,
};
use crate::{containers::Labels, hint::Hint};

/// The path of the configuration from which the runtime makes this container. The bundle that it passes to its hooks is not always
/// right: crun passes its own current directory, which can be `/` with a user namespace.
pub(super) fn config(container: &str) -> Option<PathBuf> {
    match call(getppid()).task {
        Task::Create { config, id } if id == container && config.is_absolute() => Some(config),
        _ => None,
    }
}

/// Reports an error to the caller of the runtime, for a hook whose standard error is discarded, as with crun. podman shows the
/// runtime's log if that has one entry, and else the runtime's standard error.
pub(super) fn report(error: &impl Hint) {
    let identity = |path: &str| fs::metadata(path).ok().map(|found| (found.rdev(), found.ino()));
    if identity("/proc/self/fd/2") != identity("/dev/null") {
        return;
    }
    let runtime = getppid();
    let call = call(runtime);
    if !matches!(call.task, Task::Create { .. }) {
        return;
    }
    log(&call, error);
    let stderr = File::options().append(true).open(format!("/proc/{runtime}/fd/2"));
    let written = stderr.and_then(|mut stderr| writeln!(stderr, "{}", line(error)));
    // There is no other place to report to.
    drop(written);
}

/// Writes to the runtime's log file.
pub(super) fn log(call: &Call, error: &dyn Hint) {
    let Some(log) = &call.log else { return };
    let text = line(error);
    let entry = if call.json {
        json!({"level": "error", "msg": text}).to_string()
    } else {
        format!("level=error msg={text:?}")
    };
    let written = File::options().create(true).append(true).open(log).and_then(|mut file| writeln!(file, "{entry}"));
    // Standard error has the same text.
    drop(written);
}

/// The labels on the caller's command line, if that is podman; `None`: it is podman, and there can be others.
pub(super) fn labels() -> Option<Labels> {
    let text = fs::read(format!("/proc/{}/cmdline", getppid())).unwrap_or_default();
    shows_all(&text).then(|| labels_of(&text))
}

/// Whether the command line, if it is podman's, has all labels of the container.
fn shows_all(text: &[u8]) -> bool {
    let mut words = text.split(|byte| *byte == 0);
    let is_podman = words.next().is_some_and(|program| program.rsplit(|byte| *byte == b'/').next() == Some(b"podman"));
    let (mut creates, mut reads_file) = (false, false);
    for word in words {
        creates |= word == b"run" || word == b"create";
        reads_file |= word.starts_with(b"--label-file");
    }
    !is_podman || creates && !reads_file
}

/// `podman [OPTION…] [container|pod] run|create [OPTION…] IMAGE …`. Only a list of all options would show where IMAGE is, so every
/// `--label` counts; a program in the container is unlikely to have an option with a label of mesh.
fn labels_of(text: &[u8]) -> Labels {
    let words: Vec<_> = text.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let is_podman = words.first().is_some_and(|program| program.rsplit('/').next() == Some("podman"));
    if !is_podman || !words.iter().any(|word| word == "run" || word == "create") {
        return Labels::new();
    }
    let after = words.iter().zip(words.iter().skip(1));
    let separate =
        after.filter(|(option, _)| *option == "--label" || ends_in_l(option)).map(|(_, label)| label.as_ref());
    let joined = words.iter().filter_map(|word| word.strip_prefix("--label=").or_else(|| behind_l(word)));
    let all = separate.chain(joined).map(|label| label.split_once('=').unwrap_or((label, "")));
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether a word is a group of short options that ends with `-l`, as in `-dl`: the next word is its value.
fn ends_in_l(word: &str) -> bool {
    word.strip_prefix('-').and_then(|options| options.strip_suffix('l')).is_some_and(are_flags)
}

/// The value of `-l` in the same word, as in `-lNAME=VALUE` or `-dl=NAME=VALUE`.
fn behind_l(word: &str) -> Option<&str> {
    let (flags, label) = word.strip_prefix('-')?.split_once('l')?;
    (are_flags(flags) && label.contains('.')).then(|| label.strip_prefix('=').unwrap_or(label))
}

/// Short options of `podman run` that take no value.
fn are_flags(options: &str) -> bool {
    options.chars().all(|option| "diPtq".contains(option))
}

/// Standard input, to be passed on unchanged.
pub(super) fn described(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    from.take(super::spec::MAX + 1).read_to_end(&mut text)?;
    Ok(text)
}

/// The arguments of a process, parsed as a runtime's.
fn call(process: Pid) -> Call {
    parse(&fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default())
}

/// Parses arguments that end with a NUL each (proc(5), "cmdline").
fn parse(text: &[u8]) -> Call {
    let words = text.strip_suffix(b"\0").unwrap_or(text).split(|byte| *byte == 0).skip(1);
    argv::parse(&words.map(|word| OsStr::from_bytes(word).to_owned()).collect::<Vec<OsString>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_from_podmans_command_line() {
        let of = |line: &str| labels_of(line.replace(' ', "\0").as_bytes()).into_iter().collect::<Vec<_>>();
        let label = vec![("mesh.service".to_owned(), "shop/app".to_owned())];
        for line in [
            "podman run --rm --label mesh.service=shop/app bb sh",
            "/usr/bin/podman --log-level debug container create -l mesh.service=shop/app bb",
            "podman run --label=mesh.service=shop/app bb",
            "podman run -l=mesh.service=shop/app bb",
            "podman run -lmesh.service=shop/app bb",
            "podman run -dl mesh.service=shop/app bb",
            "podman run -itlmesh.service=shop/app bb",
        ] {
            assert_eq!(of(line), label, "{line}");
        }
        assert_eq!(of("podman start --label mesh.service=shop/app"), []);
        assert_eq!(of("conmon run --label mesh.service=shop/app"), []);
    }

    #[test]
    fn podmans_command_line_does_not_always_have_the_labels() {
        let shows = |line: &str| shows_all(line.replace(' ', "\0").as_bytes());
        assert!(
            shows("podman run --label a=b bb") && shows("/usr/bin/podman container create bb") && shows("buildah bud")
        );
        for line in [
            "podman start c1",
            "podman system service",
            "podman run --label-file f bb",
            "podman create --label-file=f bb",
        ] {
            assert!(!shows(line), "{line}");
        }
    }

    #[test]
    fn a_runtime_is_understood_by_its_command_line() {
        let call = parse(b"/usr/bin/crun\0--root\0/r\0create\0--bundle\0/b\0f00\0");
        assert_eq!(call.task, Task::Create { config: "/b/config.json".into(), id: "f00".into() });
        assert_eq!(parse(b"").task, Task::Other);
        assert_eq!(config("f00"), None, "the test's parent is no runtime");
    }
}
