//! `mesh-node hook`: called by runtimes when containers start and end (OCI runtime specification, "POSIX-platform Hooks";
//! `precreate`: oci-hooks(5) of podman).

use std::{
    io::{self, Read as _, Write as _},
    path::PathBuf,
};

use clap::ValueEnum;
use serde::de::DeserializeOwned;

use super::{
    OciError, attach, caller, line,
    spec::{REFUSED, Spec},
    storage, text,
};
use crate::{
    callback::Hooks,
    config::{Config, Fail, Sources},
    containers::{ContainerError, IMAGES_OWN, Labels, Member, member},
    hint::Hint,
    journal,
    state::StateDir,
};

/// What the journal says of a container whose labels can't be read.
const NO_RECORD: &str = "podman's database doesn't show its labels; if one of them is for the mesh, it starts without the mesh: podman needs an annotation";
/// The longest input that is read, in bytes.
const MAX: u64 = 1 << 20;

/// When a runtime calls a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// Before the container is made: reads its configuration from standard input and writes it to standard output, for the mesh
    #[value(name = "precreate")]
    Precreate,
    /// The container's namespaces exist, and none of its programs runs yet
    #[value(name = "createRuntime")]
    CreateRuntime,
    /// The container has ended
    #[value(name = "poststop")]
    Poststop,
}

/// Runs a hook, for a container of the member `said` or else of the member in its annotations. `bare`: the container lacks its
/// service's variables.
///
/// # Errors
/// If the container asks for the mesh, can't have it, and must not start without.
pub(crate) fn run(stage: Stage, said: Option<Member>, bare: bool, state: &StateDir) -> Result<(), OciError> {
    match stage {
        Stage::Precreate => {
            let described = caller::described(io::stdin().lock()).map_err(OciError::Input)?;
            let mut spec = Spec::read(&described[..]).map_err(OciError::Input)?;
            let annotated = member(&spec.annotations(), &Sources::default());
            let labels = check_labels(&spec, said.as_ref().or(annotated.as_ref().ok().and_then(Option::as_ref)), state);
            // podman calls this hook for every container. Those outside the mesh stay unchanged, to the byte.
            if said.is_none() && labels.is_ok() && annotated == Ok(None) {
                return write(&described);
            }
            let hooks = Hooks::of(state)?;
            if let Err(error) = labels.and_then(|()| adopt(&mut spec, said, state, &hooks)) {
                // podman doesn't show this hook's errors; it shows those of the next one.
                spec.refuse(&text(&error), &hooks);
            }
            write(&spec.to_json())
        }
        Stage::CreateRuntime => {
            let container: attach::State = input()?;
            // crun reports only which hook failed, without its message.
            create(&container, said, bare, state).inspect_err(caller::report)
        }
        Stage::Poststop => {
            let container: attach::State = input()?;
            // An error must not keep the container from ending. An agent that is away notices the end when it is back.
            if let Err(error) = attach::detach(state, container.id) {
                note(&error);
            }
            Ok(())
        }
    }
}

/// Writes the container's configuration for the runtime.
fn write(config: &[u8]) -> Result<(), OciError> {
    let mut out = io::stdout().lock();
    out.write_all(config).and_then(|()| out.flush()).map_err(OciError::Output)
}

/// Refuses a label for the mesh: podman passes labels to no hook, and the container would start without the mesh. `said`: its member by
/// other means; a label may repeat that.
fn check_labels(spec: &Spec, said: Option<&Member>, state: &StateDir) -> Result<(), OciError> {
    let whose = "one of podman's containers";
    let asked = match (storage::record(spec), caller::labels()) {
        (Some(record), _) => {
            let own = || Ok(storage::own_labels(&record)?);
            of_its_own(whose, state, &Sources::default(), &record.labels(), own)
        }
        (None, Some(labels)) => member(&labels, &Sources::default()).map_err(OciError::from),
        (None, None) => {
            journal::warn(&format!("{whose}: {NO_RECORD}"));
            Ok(None)
        }
    };
    let refused = match asked {
        Ok(None) => return Ok(()),
        _ if is_followed(state) => return Ok(()),
        Ok(Some(label)) if said.is_some_and(|said| *said == label) => return Ok(()),
        Ok(Some(label)) => {
            let refusal = Err::<(), _>(OciError::PodmanLabel(label.service.clone()));
            return settle(state, &label, refusal).map(drop);
        }
        Err(OciError::Container(ContainerError::Refused(refusal))) => OciError::PodmanInvalid(refusal),
        Err(other) => other,
    };
    Err(refused)
}

/// Whether the agent follows podman's service: that reports labels.
fn is_followed(state: &StateDir) -> bool {
    let is_podmans = |socket: &PathBuf| socket.to_string_lossy().contains("podman");
    Config::load(state).is_ok_and(|config| config.containers.watch.iter().any(is_podmans))
}

/// Makes the described container a member of the mesh, if it asks for that.
fn adopt(spec: &mut Spec, said: Option<Member>, state: &StateDir, hooks: &Hooks) -> Result<(), OciError> {
    let member = match said {
        Some(member) => Some(member),
        None => {
            let own = || Ok(storage::own_annotations(spec)?);
            of_its_own("one of podman's containers", state, &Sources::default(), &spec.annotations(), own)?
        }
    };
    let Some(member) = member else { return Ok(()) };
    let variables = attach::variables(state, &member).and_then(|variables| Ok(spec.takes(variables)?));
    if let Some(variables) = settle(state, &member, variables)? {
        spec.adopt(&member, &variables, hooks);
    }
    Ok(())
}

/// Membership from the labels that the user set, ignoring the image's. `all`: every label. `own`: the labels without the image's, or an
/// error if those can't be determined. `whose`: the container's name for the log.
pub(super) fn of_its_own(
    whose: &str,
    state: &StateDir,
    sources: &Sources,
    all: &Labels,
    own: impl FnOnce() -> Result<Labels, OciError>,
) -> Result<Option<Member>, OciError> {
    let claimed = member(all, sources);
    if claimed == Ok(None) {
        return Ok(None);
    }
    match (own(), claimed) {
        (Ok(own), _) => {
            let member = member(&own, sources)?;
            if member.is_none() {
                journal::warn(&format!("{whose}: {IMAGES_OWN}"));
            }
            Ok(member)
        }
        (Err(error), Ok(Some(member))) => settle(state, &member, Err(error)),
        (Err(error), _) => Err(error),
    }
}

/// Attaches the container's instance, if it asks for the mesh.
fn create(container: &attach::State, said: Option<Member>, bare: bool, state: &StateDir) -> Result<(), OciError> {
    if let Some(refused) = container.annotations.get(REFUSED) {
        return Err(OciError::Recorded(refused.clone()));
    }
    // Annotations of platforms have become annotations of mesh before the runtime was called.
    let said = match said {
        Some(member) => Some(member),
        None => member(&container.annotations, &Sources::default())?,
    };
    let Some(member) = said else { return Ok(()) };
    let attached = if bare { why_bare(state, &member) } else { attach::attach(state, container, &member) };
    settle(state, &member, attached).map(drop)
}

/// Why a CDI device lacks its service's variables.
fn why_bare(state: &StateDir, member: &Member) -> Result<(), OciError> {
    attach::variables(state, member)?;
    Err(OciError::DeviceNotReady)
}

/// Applies the configuration to a container that can't have the mesh: `Ok(None)` if it starts without.
///
/// # Errors
/// If it must not start.
pub(crate) fn settle<T, E: Hint + 'static>(
    state: &StateDir,
    member: &Member,
    result: Result<T, E>,
) -> Result<Option<T>, OciError> {
    let error = match result {
        Ok(value) => return Ok(Some(value)),
        Err(error) => OciError::Member { service: member.service.clone(), error: Box::new(error) },
    };
    match Config::load(state).map(|config| config.containers.fail) {
        Ok(Fail::Open) => {
            note(&error);
            // podman and crun discard the output of a hook that succeeds.
            journal::warn(&format!("a container starts without the mesh: {}", text(&error)));
            Ok(None)
        }
        Ok(Fail::Closed) | Err(_) => Err(error),
    }
}

/// Writes an error to standard error, on one line.
pub(crate) fn note(error: &dyn Hint) {
    // There is no other place to report to.
    let _ = writeln!(io::stderr().lock(), "{}", line(error));
}

fn input<T: DeserializeOwned>() -> Result<T, OciError> {
    let mut text = Vec::new();
    io::stdin().lock().take(MAX).read_to_end(&mut text).map_err(OciError::Input)?;
    serde_json::from_slice(&text).map_err(|e| OciError::Input(e.into()))
}
