//! The agent's configuration file. The agent and everything that starts containers read it; the latter at every start, so that a
//! change of their settings needs no restart. Without the file every setting has its default.

mod agent;
mod endpoint;
mod lanes;
mod metrics;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use mesh_proto::ServicePath;
use serde::Deserialize;

pub(crate) use self::{
    agent::Agent,
    endpoint::{EXPECTED as EXPECTED_ENDPOINT, Endpoint, ParseEndpointError, SeveralSeen},
    lanes::LaneCount,
    metrics::MetricsAt,
};
use crate::{hint::Hint, state::StateDir};

/// The configuration of root's agent.
const SYSTEM: &str = "/etc/mesh-node/config.toml";
/// The file's name in any other state directory.
const FILE: &str = "config.toml";

/// The default socket of Docker's API.
const DOCKER: &str = "/var/run/docker.sock";

/// Why there is no configuration to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration {path}: {error}", path = path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("invalid configuration: {path}, line {line}: it is not UTF-8", path = path.display())]
    NotUtf8 {
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    #[error("invalid configuration: {path}, line {line}: {message}", path = path.display())]
    Invalid {
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        message: String,
    },
}

impl Hint for ConfigError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Unreadable { .. } => "is it a file that this user may read?",
            Self::NotUtf8 { .. } => "save it again with an editor that is set to UTF-8",
            Self::Invalid { .. } => {
                "docs/operate/configuration.md lists the settings; without the file every setting has its default"
            }
        };
        Some(hint.into())
    }
}

/// The operator's settings.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// The agent's own settings.
    pub(crate) agent: Agent,
    /// How containers join the mesh.
    pub(crate) containers: Containers,
}

/// How containers join the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Containers {
    /// What happens to a container that asks for the mesh and can't have it.
    pub(crate) fail: Fail,
    /// The runtime that `mesh-runc` runs; by default the first `runc` in the usual places.
    pub(crate) runc: Option<PathBuf>,
    /// Sockets of Docker's API: for containers that start without `mesh-runc`, and for the images of those that start with it.
    pub(crate) watch: Vec<PathBuf>,
    /// The services that have CDI devices.
    pub(crate) cdi: Vec<ServicePath>,
    /// The platforms whose labels count besides `mesh.service`.
    pub(crate) sources: Sources,
    /// Whether containers get the variables of other deployments' services.
    #[serde(rename = "foreign_variables", alias = "foreign-variables")]
    pub(crate) foreign_variables: bool,
    /// Whether the resolv.conf of containers gets the resolver, unless `mesh.dns` says otherwise.
    pub(crate) dns: bool,
}

impl Default for Containers {
    fn default() -> Self {
        let watch = vec![DOCKER.into()];
        Self {
            fail: Fail::default(),
            runc: None,
            watch,
            cdi: vec![],
            sources: Sources::default(),
            foreign_variables: true,
            dns: false,
        }
    }
}

impl Containers {
    /// Where Docker answers questions about images: the configured sockets and the default one.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        let usual = Path::new(DOCKER);
        let also = (!self.watch.iter().any(|socket| socket == usual)).then(|| usual.to_owned());
        self.watch.iter().cloned().chain(also).collect()
    }
}

/// What happens to a container that asks for the mesh and can't have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fail {
    /// It doesn't start.
    #[default]
    Closed,
    /// It starts without the mesh.
    Open,
}

/// For each platform, the deployments for which its labels count; `*` means every deployment. By default none count, because
/// any user of a platform may name a project after a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Sources {
    /// Coolify: the deployment is PROJECT-ENVIRONMENT.
    pub(crate) coolify: Vec<String>,
    /// Kamal: the deployment is SERVICE or SERVICE-DESTINATION, the service is the role.
    pub(crate) kamal: Vec<String>,
    /// Dokku: the deployment is the app, the service is the process type.
    pub(crate) dokku: Vec<String>,
    /// Nomad: the deployment is the job, the service is the task.
    pub(crate) nomad: Vec<String>,
    /// Docker Swarm: the deployment is the stack.
    pub(crate) swarm: Vec<String>,
    /// Docker Compose: the deployment is the project.
    pub(crate) compose: Vec<String>,
    /// Annotations of pods, by CNI. Every user who may create pods can write them.
    pub(crate) pods: Vec<String>,
}

impl Sources {
    /// The configured sources. With an invalid configuration all sources count: a container that any of them would make a member is
    /// then refused, because it would run without the mesh otherwise.
    pub(crate) fn possible<E>(configured: Result<&Containers, E>) -> Self {
        configured.map_or_else(|_| Self::everything(), |containers| containers.sources.clone())
    }

    /// Every source, for every deployment. A container that is no member by these is no member by any configuration.
    pub(crate) fn everything() -> Self {
        let all = || vec!["*".to_owned()];
        Self { coolify: all(), kamal: all(), dokku: all(), nomad: all(), swarm: all(), compose: all(), pods: all() }
    }
}

impl Config {
    /// Reads the configuration of the agent with this state directory.
    ///
    /// # Errors
    /// If the file can't be read or is invalid.
    pub(crate) fn load(state: &StateDir) -> Result<Self, ConfigError> {
        let path = Self::path(state);
        let text = String::from_utf8(read(&path)?).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let line = e.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count() + 1;
            ConfigError::NotUtf8 { path: path.clone(), line }
        })?;
        Self::parse(&text, &path)
    }

    /// The runtime that `mesh-runc` runs, if the file names one, whatever else is wrong in the file: a misspelt setting must not
    /// affect containers outside the mesh.
    ///
    /// # Errors
    /// If the file seems to name a runtime that can't be determined. That runtime may be a sandbox, and runc in its place would
    /// silently remove the sandbox and not find the containers that run.
    pub(crate) fn runc(state: &StateDir) -> Result<Option<PathBuf>, ConfigError> {
        let path = Self::path(state);
        // Bytes that are no text may be part of a comment.
        let text = String::from_utf8_lossy(&read(&path)?).into_owned();
        let error = match Self::parse(&text, &path) {
            Ok(config) => return Ok(config.containers.runc),
            Err(error) => error,
        };
        let named = text.parse::<toml::Table>().ok().and_then(|table| {
            let runc = table.get("containers")?.get("runc")?.as_str()?;
            Some(PathBuf::from(runc))
        });
        let names = |line: &str| {
            let (setting, _comment) = line.split_once('#').unwrap_or((line, ""));
            setting.split_once("runc").is_some_and(|(_, value)| value.contains(['=', ':']))
        };
        match named {
            None if text.lines().any(names) => Err(error),
            named => Ok(named),
        }
    }

    /// The path of the file.
    pub(crate) fn path(state: &StateDir) -> PathBuf {
        if state.is_system() { SYSTEM.into() } else { state.path().join(FILE) }
    }

    /// Reads the text of a configuration file.
    ///
    /// # Errors
    /// If it is invalid.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            ConfigError::Invalid { path: path.to_owned(), line, message: e.message().to_owned() }
        })
    }
}

/// The bytes of the file; none if there is no file.
fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        read => read.map_err(|error| ConfigError::Unreadable { path: path.to_owned(), error }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn by_default_only_the_label_of_mesh_counts_and_containers_fail_closed() {
        let scratch = Scratch::new("config");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        let config = Config::load(&state).unwrap();
        assert_eq!((config.containers.fail, config.containers.sources), (Fail::Closed, Sources::default()));
        fs::write(scratch.0.join(FILE), "[containers]\nfail = \"open\"\n[containers.sources]\ncompose = [\"shop\"]\n")
            .unwrap();
        let Containers { fail, sources, .. } = Config::load(&state).unwrap().containers;
        assert_eq!((fail, sources.compose.as_slice()), (Fail::Open, &["shop".to_owned()][..]));
    }

    #[test]
    fn a_mistake_is_named_with_its_line() {
        for (text, line, words) in [
            ("[containers]\nfial = \"open\"\n", 2, "fial"),
            ("\n[containers]\nfail = \"ajar\"\n", 3, "ajar"),
            ("[containers.sources]\nheroku = [\"*\"]\n", 2, "heroku"),
            ("containers = [", 1, ""),
        ] {
            let error = Config::parse(text, Path::new("/etc/x.toml")).unwrap_err().to_string();
            assert!(error.contains(&format!("/etc/x.toml, line {line}: ")) && error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_runtime_is_found_beside_mistakes_and_never_guessed() {
        let scratch = Scratch::new("config-runc");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        assert_eq!(Config::runc(&state).unwrap(), None, "no file");
        for (text, expected) in [
            ("[containers]\nrunc = \"/usr/bin/runsc\"\n", Some("/usr/bin/runsc")),
            ("[containers]\nrunc = \"/usr/bin/runsc\"\nfial = \"open\"\n", Some("/usr/bin/runsc")),
            ("[containers]\n#runc = \"/usr/sbin/runc\"\nfial = \"open\"\n", None),
            ("[containers]\nfial = \"open\" # see runc = in the documentation\n", None),
            ("this is no configuration", None),
        ] {
            fs::write(scratch.0.join(FILE), text).unwrap();
            assert_eq!(Config::runc(&state).unwrap(), expected.map(PathBuf::from), "{text}");
        }
        fs::write(scratch.0.join(FILE), b"# f\xfcr runc\n[containers]\nrunc = \"/usr/bin/runsc\"\n").unwrap();
        assert_eq!(Config::runc(&state).unwrap(), Some("/usr/bin/runsc".into()));
        assert!(Config::load(&state).unwrap_err().to_string().contains("line 1: it is not UTF-8"));
        for text in [
            "[containers]\nrunc = \"/usr/bin/runsc\"\n[containers\n",
            "[containers]\nrunc = [\"/usr/bin/runsc\"]\n",
            "[container]\nrunc = \"/usr/bin/runsc\"\n",
        ] {
            fs::write(scratch.0.join(FILE), text).unwrap();
            assert!(matches!(Config::runc(&state), Err(ConfigError::Invalid { .. })), "{text}");
        }
        fs::remove_file(scratch.0.join(FILE)).unwrap();
        fs::create_dir(scratch.0.join(FILE)).unwrap();
        assert!(matches!(Config::runc(&state), Err(ConfigError::Unreadable { .. })));
    }
}
