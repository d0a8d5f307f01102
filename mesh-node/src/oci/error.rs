//! Why a container does not get the mesh, or a runtime does not run.

use std::{io, path::PathBuf};

use mesh_proto::{ServicePath, message::Refusal};

use crate::{
    callback::UnknownProgram,
    containers::{ContainerError, SERVICE},
    exec::TooLarge,
    hint::Hint,
    local::ClientError,
};

/// The configurations that name more stores of images: containers-storage.conf(5).
pub(super) const CONFIGURATIONS: [&str; 2] = ["/etc/containers/storage.conf", "/usr/share/containers/storage.conf"];

/// Why a container does not get the mesh, or a runtime does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OciError {
    #[error("{service}: {error}")]
    Member { service: ServicePath, error: Box<dyn Hint> },
    /// What has nothing to do with its runtime.
    #[error(transparent)]
    Container(ContainerError),
    /// The agent doesn't answer or refuses.
    #[error(transparent)]
    Agent(#[from] ClientError),
    /// The hooks can't be named.
    #[error(transparent)]
    Program(#[from] UnknownProgram),
    /// The container has more variables than its program can start with.
    #[error(transparent)]
    TooManyVariables(#[from] TooLarge),
    #[error("the runtime's standard input is invalid: {0}")]
    Input(io::Error),
    #[error("cannot write the container's configuration: {0}")]
    Output(io::Error),
    #[error("cannot read the container's {path}: {error}", path = path.display())]
    ReadConfig { path: PathBuf, error: io::Error },
    #[error("cannot write the container's {path}: {error}", path = path.display())]
    WriteConfig { path: PathBuf, error: io::Error },
    /// The container's hosts file can't be used.
    #[error("{0}")]
    Hosts(Box<dyn Hint>),
    #[error("podman does not pass labels to its hooks")]
    PodmanLabel(ServicePath),
    /// podman was given an invalid label for the mesh.
    #[error("{0}")]
    PodmanInvalid(Refusal),
    /// An earlier hook has recorded this reason.
    #[error("{0}")]
    Recorded(String),
    #[error("its CDI device is not ready: the service was unknown a moment ago")]
    DeviceNotReady,
    #[error("{path} says that it is one of Docker's containers, but {why}", path = path.display())]
    NotDockers { path: PathBuf, why: NotRoots },
    #[error(
        "cannot ask Docker for the image {image}, so it is unknown whether the image makes its containers members by itself \
         ({answers})"
    )]
    UnknownImage { image: String, answers: String },
    #[error("{0}, so it is unknown whether the image makes its containers members by itself")]
    UnknownAnnotations(#[from] StoreError),
    #[error("runc = \"{}\" in the agent's configuration is mesh-runc itself", .0.display())]
    WrapsItself(PathBuf),
    #[error("there is no runc on this machine")]
    NoRunc,
    #[error("cannot run {runc}: {error}", runc = runc.display())]
    Exec { runc: PathBuf, error: io::Error },
    #[error("a process in {container} lacks the variables of its service: {error}")]
    ExecVariables { container: String, error: io::Error },
}

impl<E: Into<ContainerError>> From<E> for OciError {
    fn from(error: E) -> Self {
        Self::Container(error.into())
    }
}

impl Hint for OciError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Member { error, .. } => return error.hint(),
            Self::Container(error) => return error.hint(),
            Self::Agent(error) => return error.hint(),
            Self::Program(error) => return error.hint(),
            Self::Recorded(_) => return None,
            Self::TooManyVariables(_) => {
                "leave out the variables of other deployments' services, with foreign_variables = false under [containers] in \
                 the agent's config.toml: their host names go on to lead there, except for those that are left out of the hosts file"
                    .into()
            }
            Self::Input(_) => "container runtimes call this command by their hooks".into(),
            Self::Output(_) => "see the runtime's log".into(),
            Self::ReadConfig { .. } | Self::WriteConfig { .. } | Self::ExecVariables { .. } => {
                "is the disk full or read-only, or the bundle another user's?".into()
            }
            Self::Hosts(_) => "mount nothing over the container's /etc/hosts, or a file of its own".into(),
            Self::PodmanLabel(service) => format!("use an annotation: --annotation {SERVICE}={service}"),
            Self::PodmanInvalid(_) => format!("with podman use --annotation {SERVICE}=DEPLOYMENT/SERVICE"),
            Self::DeviceNotReady => "start it again in a few seconds".into(),
            Self::NotDockers { .. } => {
                "Docker's directory and all directories above it must belong to root, and only root may write to them".into()
            }
            Self::UnknownImage { .. } => {
                "is the image still there? The agent's configuration names the sockets of Docker that are asked: \
                 [containers] watch = [\"/var/run/docker.sock\"]"
                    .into()
            }
            Self::UnknownAnnotations(_) => format!(
                "is the image still there, by `podman image inspect`? A store that only an option of podman's names must be in \
                 {} too",
                CONFIGURATIONS[0]
            ),
            Self::WrapsItself(_) => {
                "name the runtime that mesh-runc should run, or remove the line for the machine's runc".into()
            }
            Self::NoRunc => "install it, or name the runtime that mesh-runc should run in the agent's configuration: \
                 [containers] runc = \"/PATH\""
                .into(),
            Self::Exec { .. } => "is runc installed there?".into(),
        })
    }
}

/// Why a file may have been written by a user other than root.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotRoots {
    #[error("it cannot be examined: {0}")]
    Io(#[from] io::Error),
    #[error("users other than root may write to {}", .0.display())]
    Writable(PathBuf),
}

/// What is missing in a store of containers/storage.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("the container with the root {root} is not listed in {place}", root = root.display(), place = place.display())]
    NotListed { root: PathBuf, place: PathBuf },
    #[error("the image {0} has an odd name")]
    OddName(String),
    #[error("the image {image} is not in {place}", place = place.display())]
    NoImage { image: String, place: PathBuf },
    #[error("the image {0} has a manifest that can be read in more than one way")]
    Ambiguous(String),
}
