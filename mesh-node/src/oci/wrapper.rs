//! `mesh-runc`: runs runc for Docker and other runtimes. A container that asks for the mesh gets its variables and hooks first;
//! everything else is passed on unchanged and never fails here. (One exception: the configuration names another runtime than runc,
//! and which one can't be determined; see [`Config::runc`].)

use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    iter::Peekable,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use serde_json::Value;

use super::{
    OciError,
    argv::{self, Call, Task},
    attach,
    caller::log,
    docker::Container,
    hook::{note, of_its_own, settle},
    spec::Spec,
    storage,
};
use crate::{
    callback::Hooks,
    config::{Config, Containers, Sources},
    containers::{Labels, Member, member},
    hint::Hint as _,
    state::StateDir,
};

/// The name of this program as the wrapper.
const NAME: &str = "mesh-runc";
/// The command for the same.
const COMMAND: &str = "runc-wrapper";
/// The default runtime.
const RUNC: &str = "runc";
/// Where it is searched besides `$PATH`, which a daemon may lack.
const PLACES: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How this program was called as the wrapper.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Called {
    /// The agent's state directory, if given.
    state: Option<PathBuf>,
    /// The arguments for runc.
    arguments: Vec<OsString>,
}

/// The arguments, if this program was called as the wrapper: `mesh-runc ARGUMENTS` or
/// `mesh-node runc-wrapper [--state DIR] ARGUMENTS`.
pub(crate) fn is_called(arguments: impl Iterator<Item = OsString>) -> Option<Called> {
    let mut arguments = arguments.peekable();
    let program = arguments.next()?;
    if Path::new(&program).file_name() == Some(OsStr::new(NAME)) {
        return Some(Called { state: None, arguments: arguments.collect() });
    }
    // Before or after the command, as with every other one: runc has no option of that name.
    let before = state_option(&mut arguments);
    if arguments.next()? != COMMAND {
        return None;
    }
    let state = before.or_else(|| state_option(&mut arguments));
    Some(Called { state, arguments: arguments.collect() })
}

/// The value of `--state`, if that is the next option.
fn state_option(arguments: &mut Peekable<impl Iterator<Item = OsString>>) -> Option<PathBuf> {
    arguments.next_if(|word| word == "--state").and_then(|_| arguments.next()).map(PathBuf::from)
}

/// Prepares the container, then executes runc in place of this process.
pub(crate) fn main(called: Called) -> ExitCode {
    let Called { state, arguments } = called;
    let call = argv::parse(&arguments);
    let state = StateDir::locate(state.or_else(|| env::var_os("MESH_NODE_STATE").map(Into::into)));
    let become_runc = || {
        let agent = match &state {
            Ok(state) => Config::load(state).map(|config| (state, config.containers)).map_err(OciError::from),
            Err(error) => Err(error.refusal().into()),
        };
        let runc = match (&agent, &state) {
            (Ok((_, config)), _) => config.runc.clone(),
            (Err(_), Ok(state)) => Config::runc(state)?,
            // Without a state directory there is no agent and no configuration.
            (Err(_), Err(_)) => None,
        };
        match &call.task {
            Task::Create { config, id } => create(agent, config, id)?,
            Task::Exec { process, id } => exec(call.root.as_deref(), process, id),
            Task::Other => {}
        }
        let runc = match runc {
            Some(named) if identity(&named).is_some_and(|found| Some(found) == this_program()) => {
                return Err(OciError::WrapsItself(named));
            }
            Some(named) => named,
            None => find_runc()?,
        };
        let error = Command::new(&runc).args(&arguments).exec();
        Err(OciError::Exec { runc, error })
    };
    match become_runc() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&call, &error);
            ExitCode::FAILURE
        }
    }
}

/// Prepares a new container. An error in the agent's state or configuration concerns only members of the mesh.
fn create(agent: Result<(&StateDir, Containers), OciError>, path: &Path, id: &str) -> Result<(), OciError> {
    // runc reports an unreadable configuration itself.
    let Ok(mut spec) = Spec::at(path) else { return Ok(()) };
    let Some((state, member)) = ours(&spec, id, agent)? else { return Ok(()) };
    let variables = attach::variables(state, &member).and_then(|variables| Ok(spec.takes(variables)?));
    let Some(variables) = settle(state, &member, variables)? else { return Ok(()) };
    spec.adopt(&member, &variables, &Hooks::of(state)?);
    let replaced = spec.replace(path).map_err(|error| OciError::WriteConfig { path: path.to_owned(), error });
    settle(state, &member, replaced).map(drop)
}

/// The container's membership, and the state directory of its agent. With an invalid configuration every container that any
/// configuration could make a member is refused, because it would start without the mesh otherwise.
fn ours<'a>(
    spec: &Spec,
    id: &str,
    agent: Result<(&'a StateDir, Containers), OciError>,
) -> Result<Option<(&'a StateDir, Member)>, OciError> {
    let sources = Sources::possible(agent.as_ref().map(|(_, containers)| containers));
    let with_annotations = |labels: Labels, annotations: Labels| labels.into_iter().chain(annotations).collect();
    let container = Container::find(spec, id);
    let labels = container.as_ref().map(|container| container.labels().clone()).unwrap_or_default();
    let all: Labels = with_annotations(labels, spec.annotations());
    if member(&all, &sources) == Ok(None) {
        return Ok(None);
    }
    let (state, config) = agent?;
    let own = || {
        let labels = container.map(|container| container.labels_of_its_own(&config.sockets())).transpose()?;
        Ok(with_annotations(labels.unwrap_or_default(), storage::own_annotations(spec)?))
    };
    let member = of_its_own(&format!("container {id}"), state, &sources, &all, own)?;
    Ok(member.map(|member| (state, member.with_environment(spec.environment()))))
}

/// Sets the variables of a container's first process for another one, if they can be determined.
fn exec(root: Option<&Path>, process: &Path, id: &str) {
    let shared = || {
        let bundle = bundle_of(root, id)?;
        let container = Spec::of(&bundle).ok()?;
        let mut spec = Spec::read(File::open(process).ok()?).ok()?;
        let before = spec.clone();
        container.share_variables(&mut spec);
        (spec != before).then(|| spec.replace(process))
    };
    if let Some(Err(error)) = shared() {
        note(&OciError::ExecVariables { container: id.to_owned(), error });
    }
}

/// The bundle of a running container, from the runtime's own files: `state.json` of runc, `status` of crun.
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

/// The first `runc` that isn't this program.
fn find_runc() -> Result<PathBuf, OciError> {
    let this = this_program();
    let path = env::var_os("PATH").unwrap_or_default();
    let places = env::split_paths(&path).chain(env::split_paths(PLACES)).filter(|place| place.is_absolute());
    let mut found = places.map(|place| place.join(RUNC)).filter(|path| path.is_file());
    found.find(|path| identity(path) != this).ok_or(OciError::NoRunc)
}

/// The identity of this program's file.
fn this_program() -> Option<(u64, u64)> {
    identity(&env::current_exe().ok()?)
}

/// A file's device and inode.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// Writes an error where the runtime's caller reads it: to the log file and to standard error.
fn report(call: &Call, error: &OciError) {
    note(error);
    log(call, error);
}

#[cfg(test)]
mod tests {
    use mesh_proto::message::Refusal;
    use serde_json::json;

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
        assert_eq!(called("mesh-node --state /s runc-wrapper state f00"), with("/s", "state f00"));
        assert_eq!(called("mesh-node status"), None);
        assert_eq!(called("mesh-node --state /s status"), None);
        assert_eq!(called("mesh-node"), None);
        assert_eq!(called("mesh-runc"), with("", ""));
    }

    #[test]
    fn with_an_invalid_configuration_no_possible_member_starts() {
        let scratch = Scratch::new("wrapper-config");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        let of = |annotations: Value, agent: Result<Containers, OciError>| {
            let spec = Spec::read(json!({"annotations": annotations}).to_string().as_bytes()).unwrap();
            let found = ours(&spec, "f00", agent.map(|config| (&state, config)))?;
            Ok::<_, OciError>(found.map(|(_, member)| member.service.to_string()))
        };
        let wrong = || OciError::from(Refusal::bare("line 2"));
        let compose = json!({
            "com.docker.compose.project": "shop", "com.docker.compose.service": "db", "com.docker.compose.oneoff": "False"
        });
        assert_eq!(of(compose.clone(), Err(wrong())).unwrap_err().to_string(), "line 2");
        assert_eq!(of(json!({"mesh.service": "shop/db"}), Err(wrong())).unwrap_err().to_string(), "line 2");
        assert_eq!(of(json!({"maintainer": "me"}), Err(wrong())).unwrap(), None);
        assert_eq!(of(compose.clone(), Ok(Containers::default())).unwrap(), None);
        let sources = Sources { compose: vec!["shop".to_owned()], ..Sources::default() };
        assert_eq!(
            of(compose, Ok(Containers { sources, ..Containers::default() })).unwrap().as_deref(),
            Some("shop/db")
        );
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
    fn an_error_is_written_where_the_caller_reads_it() {
        let scratch = Scratch::new("runtime-log");
        let call = Call { log: Some(scratch.0.join("log.json")), json: true, ..Call::default() };
        report(&call, &Refusal::new("no \"db\"", "declare it").into());
        let entry: Value = serde_json::from_str(&fs::read_to_string(scratch.0.join("log.json")).unwrap()).unwrap();
        assert_eq!(entry, json!({"level": "error", "msg": "mesh: no \"db\" (declare it)"}));
    }
}
