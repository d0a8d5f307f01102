//! Why nothing is set up.

use std::{io, path::PathBuf};

use mesh_process::edit::EditError;

use crate::{callback::UnknownProgram, config::ConfigError, hint::Hint};

/// Why nothing is set up, or taken out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("there is nothing to do with these services")]
    Services,
    #[error("there is nothing to do with a network")]
    Network,
    /// The path of this program is unknown.
    #[error(transparent)]
    Program(#[from] UnknownProgram),
    #[error("cannot resolve the state directory: {0}")]
    StatePath(io::Error),
    /// The agent's configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file can't be changed.
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error("{path} is there already, and `mesh-node setup` did not write it", path = path.display())]
    Foreign { path: PathBuf },
    #[error("{path} is there already, and leads to {target}", path = path.display(), target = target.display())]
    ForeignLink { path: PathBuf, target: PathBuf },
    #[error("{0} has characters with a special meaning in the file that it is written to")]
    OddPath(String),
    #[error("a package has brought {unit} already", unit = unit.display())]
    Packaged { unit: PathBuf },
    #[error("the unit {unit} is for another state directory than {state}", unit = unit.display(), state = state.display())]
    OtherState { unit: PathBuf, state: PathBuf },
    #[error("{file} has {entry} already")]
    Occupied { file: &'static str, entry: Occupied },
    #[error("{file} is not what Docker takes: {error}")]
    DockerConfig { file: &'static str, error: serde_json::Error },
    #[error("{other} says where podman's hooks are")]
    PodmanHooks { other: String, hook: &'static str },
    #[error("no service is listed")]
    NoService,
    #[error("cannot add a line to {path} safely", path = path.display())]
    AddLine { path: PathBuf, line: String, table: &'static str },
    #[error("cannot remove the line from {path} safely", path = path.display())]
    RemoveLine { path: PathBuf, key: &'static str },
    #[error("{error}{}", passed_over(.damaged))]
    Lists { error: ListsError, damaged: Vec<String> },
    #[error("{path} is not the list of a network: {error}", path = path.display())]
    List { path: PathBuf, error: serde_json::Error },
    #[error("{path} has no plugin that makes an interface", path = path.display())]
    NoInterface { path: PathBuf },
    #[error("the network's plugin {first} is in none of {directories}")]
    NoPlugins { first: String, directories: String, entry: String },
    #[error("{path} has mesh's plugin already, with other settings: {there}", path = path.display())]
    OtherSettings { path: PathBuf, there: String, network: String },
    #[error("mesh's plugin is the first one in {path}, where it does nothing", path = path.display())]
    First { path: PathBuf },
}

/// What Docker's configuration has already.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Occupied {
    #[error("the default runtime {0}")]
    Default(String),
    #[error("another runtime with the name {0}")]
    Name(&'static str),
}

/// Why no list of a network can be chosen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ListsError {
    #[error("there is no network in {0}")]
    None(&'static str),
    #[error("there is no list for a network {wanted} in {directory}")]
    Unknown { wanted: String, directory: &'static str, names: String },
    #[error("there is more than one network in {directory}: {names}")]
    Several { directory: &'static str, names: String },
    #[error("more than one list in {directory} is for the network {wanted}")]
    Duplicate { wanted: String, directory: &'static str },
}

/// `; passed over: …`, if there are any.
fn passed_over(damaged: &[String]) -> String {
    if damaged.is_empty() { String::new() } else { format!("; passed over: {}", damaged.join("; ")) }
}

/// The hint for files that other programs have written.
const RENAME: &str = "rename it, or remove it";

impl Hint for SetupError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Services => "--service goes with `cdi`, any number of times, and once with `cni`".into(),
            Self::Network => "--network goes with `cni`".into(),
            Self::Program(error) => return error.hint(),
            Self::StatePath(_) => "name it by an absolute path: --state DIR".into(),
            Self::Config(error) => return error.hint(),
            Self::Edit(error) => return error.hint().map(str::to_owned),
            Self::Foreign { .. } | Self::ForeignLink { .. } => RENAME.into(),
            Self::OddPath(_) => "move it to a path of letters, digits and /._-+".into(),
            Self::Packaged { .. } => "there is nothing to set up: systemctl enable --now mesh-node".into(),
            Self::OtherState { .. } => {
                "leave --state out; or run a further agent by hand, or by a unit of your own: mesh-node join --state DIR".into()
            }
            Self::Occupied { entry: Occupied::Default(_), .. } => {
                "name its program in the agent's configuration ([containers] runc = \"/PATH\"), remove it there, and try again"
                    .into()
            }
            Self::Occupied { entry: Occupied::Name(_), .. } => "rename that one there".into(),
            Self::DockerConfig { .. } => "correct it first; it can hold no comments".into(),
            Self::PodmanHooks { hook, .. } => format!(
                "add \"/etc/containers/oci/hooks.d\" to its hooks_dir and write {hook} yourself, as docs/guides/podman.md shows"
            ),
            Self::NoService => "name the services that get devices: mesh-node setup cdi --service shop/db".into(),
            Self::AddLine { line, table, .. } => format!("write it yourself, under {table}: {line}"),
            Self::RemoveLine { key, .. } => format!("remove `{key}` yourself"),
            Self::Lists { error, .. } => match error {
                ListsError::None(_) => {
                    "set the runtime's own network up first, as a list: NAME.conflist. Mesh's plugin comes behind its plugins"
                        .into()
                }
                ListsError::Unknown { names, .. } => format!("the networks are: {names}"),
                ListsError::Several { .. } => "choose one: --network NAME".into(),
                ListsError::Duplicate { .. } => "rename one".into(),
            },
            Self::List { .. } => "correct it first".into(),
            Self::NoInterface { .. } => "mesh's plugin comes behind others: add those first".into(),
            Self::NoPlugins { first, entry, .. } => {
                format!("end the list with {entry} yourself, and add a link mesh to mesh-node beside {first}")
            }
            Self::OtherSettings { network, .. } => {
                format!("change it there, or remove it first: mesh-node setup cni --undo --network {network}")
            }
            Self::First { .. } => "remove it there, or remove the file".into(),
        })
    }
}
