//! `mesh-runc`: stands before runc, as Docker's runtime for instance. A container that asks for the mesh is given its
//! variables and our hooks; all else is passed on as it came, and whatever concerns no container of ours never fails here.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::Write as _,
    os::unix::{ffi::OsStrExt as _, fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use mesh_proto::message::Refusal;
use serde_json::{Value, json};

use super::{
    argv::{self, Call, Task},
    attach, docker,
    hook::{note, settle},
    line,
    spec::{Hooks, Spec},
};
use crate::{config::Config, containers::member, state::StateDir};

/// What this program is called as the wrapper.
const NAME: &str = "mesh-runc";
/// The command that is the same.
const COMMAND: &str = "runc-wrapper";
/// What stands behind.
const RUNC: &str = "runc";
/// Where that is looked for besides `$PATH`, which a daemon may not have.
const PLACES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How this program was called as the wrapper.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Called {
    /// The agent's state directory, if that was said.
    state: Option<PathBuf>,
    /// The arguments for runc.
    arguments: Vec<OsString>,
}

/// How this program was called, if as the wrapper: `mesh-runc ARGUMENTS` or `mesh-node runc-wrapper [--state DIR] ARGUMENTS`.
pub(crate) fn is_called(arguments: impl Iterator<Item = OsString>) -> Option<Called> {
    let mut arguments = arguments.peekable();
    let program = arguments.next()?;
    if Path::new(&program).file_name() == Some(OsStr::new(NAME)) {
        return Some(Called { state: None, arguments: arguments.collect() });
    }
    if arguments.next()? != COMMAND {
        return None;
    }
    // runc has no option of that name.
    let state = arguments.next_if(|word| word == "--state").and_then(|_| arguments.next()).map(PathBuf::from);
    Some(Called { state, arguments: arguments.collect() })
}

/// Does our part, and becomes runc.
pub(crate) fn main(called: Called) -> ExitCode {
    let Called { state, arguments } = called;
    let call = argv::parse(&arguments);
    let state = StateDir::locate(state.or_else(|| env::var_os("MESH_NODE_STATE").map(Into::into)));
    let config = state.as_ref().map_err(Refusal::clone).and_then(Config::load);
    let prepared = match &call.task {
        Task::Create { bundle, id } => create(&state, &config, bundle, id),
        Task::Exec { process, id } => {
            exec(call.root.as_deref(), process, id);
            Ok(())
        }
        Task::Other => Ok(()),
    };
    let become_runc = prepared.and_then(|()| {
        let runc = config.unwrap_or_default().containers.runc.map_or_else(find_runc, Ok)?;
        let error = Command::new(&runc).args(&arguments).exec();
        Err(Refusal::new(format!("cannot run {}: {error}", runc.display()), "is runc installed there?"))
    });
    match become_runc {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => {
            report(&call, &refusal);
            ExitCode::FAILURE
        }
    }
}

/// A container is made. What is wrong with the agent's state or configuration concerns ours alone.
fn create(
    state: &Result<StateDir, Refusal>,
    config: &Result<Config, Refusal>,
    bundle: &Path,
    id: &str,
) -> Result<(), Refusal> {
    // What is no configuration is runc's to complain about.
    let Ok(mut spec) = Spec::of(bundle) else { return Ok(()) };
    let mut labels = docker::labels(&spec, id);
    labels.extend(spec.annotations());
    let sources = config.as_ref().map(|config| config.containers.sources.clone()).unwrap_or_default();
    let Some(member) = member(&labels, &sources)? else { return Ok(()) };
    config.as_ref().map_err(Refusal::clone)?;
    let state = state.as_ref().map_err(Refusal::clone)?;
    let variables = attach::variables(state, &member);
    let Some(variables) = settle(state, &member, variables)? else { return Ok(()) };
    spec.adopt(&member, &variables, &own_hooks(state)?);
    let replaced = spec.replace(bundle).map_err(|e| {
        Refusal::bare(format!("the container's {} can't be written: {e}", bundle.join("config.json").display()))
    });
    settle(state, &member, replaced).map(drop)
}

/// A further process runs in a container. It gets what the first one has, as far as that can be found out.
fn exec(root: Option<&Path>, process: &Path, id: &str) {
    let shared = || {
        let bundle = bundle_of(root, id)?;
        let container = Spec::of(&bundle).ok()?;
        let mut spec = Spec::read(File::open(process).ok()?).ok()?;
        let before = spec.clone();
        container.share_variables(&mut spec);
        (spec != before).then(|| fs::write(process, spec.to_json()))
    };
    if let Some(Err(error)) = shared() {
        note(&Refusal::bare(format!("a process in {id} is without the variables of its service: {error}")));
    }
}

/// The bundle of a container that runs, by the runtime's own files: `state.json` of runc, `status` of crun.
fn bundle_of(root: Option<&Path>, id: &str) -> Option<PathBuf> {
    let read = |root: &Path, file: &str| {
        let text = fs::read(root.join(id).join(file)).ok()?;
        serde_json::from_slice::<Value>(&text).ok()
    };
    let runc = |root: &Path| {
        let state = read(root, "state.json")?;
        let labels = state.get("config")?.get("labels")?.as_array()?;
        labels.iter().find_map(|label| label.as_str()?.strip_prefix("bundle=").map(PathBuf::from))
    };
    let crun = |root: &Path| read(root, "status")?.get("bundle")?.as_str().map(PathBuf::from);
    match root {
        Some(root) => runc(root).or_else(|| crun(root)),
        None => runc(Path::new("/run/runc")).or_else(|| crun(Path::new("/run/crun"))),
    }
}

/// How our hooks are called: by this program, for the same agent.
///
/// # Errors
/// If it can't be found out which program this is.
pub(crate) fn own_hooks(state: &StateDir) -> Result<Hooks, Refusal> {
    let program = env::current_exe().map_err(|e| Refusal::bare(format!("this program can't be found: {e}")))?;
    Ok(Hooks { program, state: std::path::absolute(state.path()).unwrap_or_else(|_| state.path().to_owned()) })
}

/// The first `runc` that isn't ourselves.
fn find_runc() -> Result<PathBuf, Refusal> {
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let ourselves = env::current_exe().ok().and_then(|path| identity(&path));
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(env::split_paths(PLACES)).filter(|place| place.is_absolute());
    let mut found = places.map(|place| place.join(RUNC)).filter(|path| path.is_file());
    found.find(|path| identity(path) != ourselves).ok_or_else(|| {
        Refusal::new(
            "there is no runc on this machine",
            "install it, or name the runtime that stands behind mesh-runc in the agent's configuration: [containers] runc = \"/PATH\"",
        )
    })
}

/// For a hook whose standard error nobody reads, as with crun: where the caller of the runtime looks that has called it. podman
/// takes the runtime's log for its error if that is one entry, and else what stands on the runtime's standard error.
pub(super) fn report_for_runtime(refusal: &Refusal) {
    let identity = |path: &str| fs::metadata(path).ok().map(|found| (found.rdev(), found.ino()));
    if identity("/proc/self/fd/2") != identity("/dev/null") {
        return;
    }
    let runtime = format!("/proc/{}", nix::unistd::getppid());
    let words = fs::read(format!("{runtime}/cmdline")).unwrap_or_default();
    let words = words.split(|octet| *octet == 0).skip(1);
    let call = argv::parse(&words.map(|word| OsStr::from_bytes(word).to_owned()).collect::<Vec<_>>());
    if !matches!(call.task, Task::Create { .. }) {
        return;
    }
    log(&call, refusal);
    let written = File::options()
        .append(true)
        .open(format!("{runtime}/fd/2"))
        .and_then(|mut stderr| writeln!(stderr, "{}", line(refusal)));
    // Nobody else is left to be told.
    drop(written);
}

/// Where the runtime's caller looks: into its log file, and on standard error.
fn report(call: &Call, refusal: &Refusal) {
    note(refusal);
    log(call, refusal);
}

fn log(call: &Call, refusal: &Refusal) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    fn called(line: &str) -> Option<(String, String)> {
        let Called { state, arguments } = is_called(line.split(' ').map(OsString::from))?;
        let state = state.map(|state| state.display().to_string()).unwrap_or_default();
        Some((state, arguments.join(OsStr::new(" ")).into_string().unwrap()))
    }

    #[test]
    fn it_is_called_by_name_or_by_command() {
        let with = |state: &str, arguments: &str| Some((state.to_owned(), arguments.to_owned()));
        assert_eq!(called("/usr/bin/mesh-runc --root /r start f00"), with("", "--root /r start f00"));
        assert_eq!(called("mesh-node runc-wrapper --version"), with("", "--version"));
        assert_eq!(called("mesh-node runc-wrapper --state /s --root /r state f00"), with("/s", "--root /r state f00"));
        assert_eq!(called("mesh-node status"), None);
        assert_eq!(called("mesh-node"), None);
        assert_eq!(called("mesh-runc"), with("", ""));
    }

    #[test]
    fn the_bundle_is_found_where_either_runtime_keeps_it() {
        let scratch = Scratch::new("runtime-root");
        let at = |id: &str, file: &str, value: Value| {
            fs::create_dir_all(scratch.0.join(id)).unwrap();
            fs::write(scratch.0.join(id).join(file), value.to_string()).unwrap();
        };
        at("a", "state.json", json!({"config": {"labels": ["x=y", "bundle=/b/a"]}}));
        at("b", "status", json!({"bundle": "/b/b"}));
        at("c", "state.json", json!({"config": {}}));
        let bundle = |id| bundle_of(Some(&scratch.0), id);
        assert_eq!(bundle("a"), Some("/b/a".into()));
        assert_eq!(bundle("b"), Some("/b/b".into()));
        assert_eq!((bundle("c"), bundle("d")), (None, None));
    }

    #[test]
    fn what_is_refused_is_where_the_caller_looks() {
        let scratch = Scratch::new("runtime-log");
        let call = Call { log: Some(scratch.0.join("log.json")), json: true, ..Call::default() };
        report(&call, &Refusal::new("no \"db\"", "declare it"));
        let entry: Value = serde_json::from_str(&fs::read_to_string(scratch.0.join("log.json")).unwrap()).unwrap();
        assert_eq!(entry, json!({"level": "error", "msg": "mesh: no \"db\" (declare it)"}));
    }
}
