//! `mesh-node hook`: what runtimes call when containers start and end (OCI runtime specification, «POSIX-platform Hooks»;
//! `precreate`: oci-hooks(5) of podman).

use std::io::{self, Read as _, Write as _};

use clap::ValueEnum;
use mesh_proto::message::Refusal;
use serde::de::DeserializeOwned;

use super::{
    attach, caller, line,
    spec::{REFUSED, Spec},
    storage, text,
};
use crate::{
    callback::{Hooks, UnknownProgram},
    config::{Config, Fail, Sources},
    containers::{IMAGES_OWN, Labels, Member, SERVICE, member},
    journal,
    state::StateDir,
};

/// The longest input that is read, in octets.
const MAX: u64 = 1 << 20;

/// When a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stage {
    /// The container is described: its configuration comes in, and goes out with what we put there
    #[value(name = "precreate")]
    Precreate,
    /// The container's namespaces are there, and none of its programs runs
    #[value(name = "createRuntime")]
    CreateRuntime,
    /// The container has ended
    #[value(name = "poststop")]
    Poststop,
}

/// Does what is to be done, for a container of `said` if that is known, else of what its annotations say; `bare`: when it was
/// described, nobody knew the variables.
///
/// # Errors
/// If the container asks for the mesh and can't have it, and is not to start without.
pub(crate) fn run(stage: Stage, said: Option<Member>, bare: bool, state: &StateDir) -> Result<(), Refusal> {
    match stage {
        Stage::Precreate => {
            let described = caller::described(io::stdin().lock()).map_err(|e| nonsense(&e))?;
            let mut spec = Spec::read(&described[..]).map_err(|e| nonsense(&e))?;
            let labels = no_labels();
            // It is called for every container; those that are none of ours go out as they came.
            let is_none_of_ours = || member(&spec.annotations(), &Sources::default()) == Ok(None);
            if said.is_none() && labels.is_ok() && is_none_of_ours() {
                return give(&described);
            }
            let hooks = hooks(state)?;
            if let Err(refusal) = labels.and_then(|()| adopt(&mut spec, said, state, &hooks)) {
                // podman keeps to itself what this hook says: the next one can make itself heard.
                spec.refuse(&text(&refusal), &hooks);
            }
            give(&spec.to_json())
        }
        Stage::CreateRuntime => {
            let container: attach::State = input()?;
            // crun tells only which hook has failed, not what that said.
            create(&container, said, bare, state).inspect_err(caller::report)
        }
        Stage::Poststop => {
            let container: attach::State = input()?;
            // Nothing stops because of us. An agent that is away finds out when it is back.
            if let Err(refusal) = attach::detach(state, container.id) {
                note(&refusal);
            }
            Ok(())
        }
    }
}

/// The hooks that a container of the mesh needs.
pub(super) fn hooks(state: &StateDir) -> Result<Hooks, Refusal> {
    Hooks::of(state).map_err(|e| Refusal::new(e.to_string(), UnknownProgram::hint()))
}

/// Gives the runtime the container's configuration.
fn give(config: &[u8]) -> Result<(), Refusal> {
    let mut out = io::stdout().lock();
    let given = out.write_all(config).and_then(|()| out.flush());
    given.map_err(|e| Refusal::bare(format!("the container's configuration can't be written: {e}")))
}

/// podman passes a container's labels on to nobody. As far as they can be seen where it was called, one that was meant for us is
/// refused: the container would start without the mesh.
fn no_labels() -> Result<(), Refusal> {
    let labels = caller::labels();
    match member(&labels, &Sources::default()) {
        Ok(None) => Ok(()),
        Ok(Some(member)) => Err(Refusal::new(
            "podman tells its hooks nothing of labels",
            format!("give it an annotation: --annotation {SERVICE}={}", member.service),
        )),
        Err(refusal) => {
            Err(Refusal::new(refusal.error, format!("with podman it is --annotation {SERVICE}=DEPLOYMENT/SERVICE")))
        }
    }
}

/// Makes the container that is described one of the mesh, if it asks for that.
fn adopt(spec: &mut Spec, said: Option<Member>, state: &StateDir, hooks: &Hooks) -> Result<(), Refusal> {
    let member = match said {
        Some(member) => Some(member),
        None => {
            let own = || storage::own_annotations(spec);
            of_its_own("a container of podman's", state, &Sources::default(), &spec.annotations(), own)?
        }
    };
    let Some(member) = member else { return Ok(()) };
    let variables = attach::variables(state, &member).and_then(|variables| spec.takes(variables));
    if let Some(variables) = settle(state, &member, variables)? {
        spec.adopt(&member, &variables, hooks);
    }
    Ok(())
}

/// What a container belongs to by what it has not from its image. `all`: with what it has from there; `own`: without, if anybody
/// knows. `whose`: what it is called where nobody reads what a hook says.
pub(super) fn of_its_own(
    whose: &str,
    state: &StateDir,
    sources: &Sources,
    all: &Labels,
    own: impl FnOnce() -> Result<Labels, Refusal>,
) -> Result<Option<Member>, Refusal> {
    let claimed = member(all, sources);
    if claimed == Ok(None) {
        return Ok(None);
    }
    match (own(), claimed) {
        (Ok(own), _) => member(&own, sources).inspect(|member| {
            if member.is_none() {
                journal::warn(&format!("{whose}: {IMAGES_OWN}"));
            }
        }),
        (Err(refusal), Ok(Some(member))) => settle(state, &member, Err(refusal)),
        (Err(refusal), _) => Err(refusal),
    }
}

/// Gives the container its instance, if it asks for that.
fn create(container: &attach::State, said: Option<Member>, bare: bool, state: &StateDir) -> Result<(), Refusal> {
    if let Some(refused) = container.annotations.get(REFUSED) {
        return Err(Refusal::bare(refused));
    }
    let member = said.map_or_else(|| ours(&container.annotations), |member| Ok(Some(member)))?;
    let Some(member) = member else { return Ok(()) };
    let attached = if bare { why_bare(state, &member) } else { attach::attach(state, container, &member) };
    settle(state, &member, attached).map(drop)
}

/// Why a CDI device is without its service's variables.
fn why_bare(state: &StateDir, member: &Member) -> Result<(), Refusal> {
    attach::variables(state, member)?;
    Err(Refusal::new(
        "its CDI device is not ready: the service was unknown a moment ago",
        "start it again in a few seconds",
    ))
}

/// What annotations say; those of platforms have been understood before they got here.
fn ours(annotations: &Labels) -> Result<Option<Member>, Refusal> {
    member(annotations, &Sources::default())
}

/// What is to become of a container that can't have the mesh: `Ok(None)` if it starts without.
///
/// # Errors
/// If it doesn't.
pub(crate) fn settle<T>(state: &StateDir, member: &Member, result: Result<T, Refusal>) -> Result<Option<T>, Refusal> {
    let refusal = match result {
        Ok(value) => return Ok(Some(value)),
        Err(refusal) => refusal,
    };
    let refusal = Refusal { error: format!("{}: {}", member.service, refusal.error), ..refusal };
    match Config::load(state).map(|config| config.containers.fail) {
        Ok(Fail::Open) => {
            note(&refusal);
            // With podman and crun nobody reads what a hook says and doesn't fail.
            journal::warn(&format!("a container starts without the mesh: {}", text(&refusal)));
            Ok(None)
        }
        Ok(Fail::Closed) | Err(_) => Err(refusal),
    }
}

/// Says on standard error what went wrong without consequences.
pub(crate) fn note(refusal: &Refusal) {
    // If that can't be written, nothing can.
    let _ = writeln!(io::stderr().lock(), "{}", line(refusal));
}

fn input<T: DeserializeOwned>() -> Result<T, Refusal> {
    let mut text = Vec::new();
    io::stdin().lock().take(MAX).read_to_end(&mut text).map_err(|e| nonsense(&e))?;
    serde_json::from_slice(&text).map_err(|e| nonsense(&e))
}

fn nonsense(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(
        format!("what the runtime says on standard input makes no sense: {error}"),
        "this command is for container runtimes to call, by their hooks",
    )
}
