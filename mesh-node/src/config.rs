//! The agent's configuration file. Without one everything has its default; what runs containers reads it at every start
//! of one, so a change needs no restart.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use mesh_proto::{ServicePath, message::Refusal};
use serde::Deserialize;

use crate::state::StateDir;

/// Where the configuration of root's agent is.
const SYSTEM: &str = "/etc/mesh-node/config.toml";
/// What it is called in any other state directory.
const FILE: &str = "config.toml";

/// Where Docker's API is, unless it was told otherwise.
const DOCKER: &str = "/var/run/docker.sock";

/// What the operator has chosen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Config {
    /// How containers come into the mesh.
    pub(crate) containers: Containers,
}

/// How containers come into the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Containers {
    /// What becomes of a container that asks for the mesh when it can't have it.
    pub(crate) fail: Fail,
    /// The runtime that `mesh-runc` stands before; by default the first `runc` in the usual places.
    pub(crate) runc: Option<PathBuf>,
    /// Sockets with Docker's API, for containers that are started otherwise than by `mesh-runc`, and for what this one has to
    /// know of their images.
    pub(crate) watch: Vec<PathBuf>,
    /// The services that are devices by CDI.
    pub(crate) cdi: Vec<ServicePath>,
    /// Whose labels count besides `mesh.service`.
    pub(crate) sources: Sources,
    /// Whether containers have the variables that lead to other deployments' services.
    #[serde(rename = "foreign_variables", alias = "foreign-variables")]
    pub(crate) foreign_variables: bool,
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
        }
    }
}

impl Containers {
    /// Where Docker may be asked: where it is followed, and where it usually is, followed or not.
    pub(crate) fn sockets(&self) -> Vec<PathBuf> {
        let usual = Path::new(DOCKER);
        let also = (!self.watch.iter().any(|socket| socket == usual)).then(|| usual.to_owned());
        self.watch.iter().cloned().chain(also).collect()
    }
}

/// What becomes of a container that asks for the mesh when it can't have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fail {
    /// It doesn't start.
    #[default]
    Closed,
    /// It starts without.
    Open,
}

/// Of which platforms the labels count, and for which deployments: `*` for all. They count for none unless they are named
/// here, since anybody may call a project as a deployment is called.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Sources {
    /// Coolify: the deployment is PROJECT-ENVIRONMENT.
    pub(crate) coolify: Vec<String>,
    /// Kamal: the deployment is SERVICE or SERVICE-DESTINATION, the service the role.
    pub(crate) kamal: Vec<String>,
    /// Dokku: the deployment is the app, the service the process type.
    pub(crate) dokku: Vec<String>,
    /// Nomad: the deployment is the job, the service the task.
    pub(crate) nomad: Vec<String>,
    /// Docker Swarm: the deployment is the stack.
    pub(crate) swarm: Vec<String>,
    /// Docker Compose: the deployment is the project.
    pub(crate) compose: Vec<String>,
    /// Annotations of pods, by CNI: whoever may make pods writes them.
    pub(crate) pods: Vec<String>,
}

impl Sources {
    /// Those of the configuration; where that is wrong, all: whatever any could take for a member is refused then, since it would
    /// run without the mesh otherwise.
    pub(crate) fn possible<E>(configured: Result<&Containers, E>) -> Self {
        configured.map_or_else(|_| Self::everything(), |containers| containers.sources.clone())
    }

    /// All of them, for all deployments: whoever is no member by these is none by any configuration.
    pub(crate) fn everything() -> Self {
        let all = || vec!["*".to_owned()];
        Self { coolify: all(), kamal: all(), dokku: all(), nomad: all(), swarm: all(), compose: all(), pods: all() }
    }
}

impl Config {
    /// Reads the configuration of the agent with this state directory.
    ///
    /// # Errors
    /// If it can't be read, or holds what it shouldn't.
    pub(crate) fn load(state: &StateDir) -> Result<Self, Refusal> {
        let path = Self::path(state);
        let text = String::from_utf8(read(&path)?).map_err(|e| {
            let at = e.utf8_error().valid_up_to();
            let line = e.as_bytes().iter().take(at).filter(|octet| **octet == b'\n').count() + 1;
            Refusal::new(
                format!("the configuration is wrong: {}, line {line}: it is not UTF-8", path.display()),
                "write it again in an editor that is set to UTF-8",
            )
        })?;
        Self::parse(&text, &path)
    }

    /// The runtime that `mesh-runc` stands before, if one is named; whatever else is wrong in the file. A misspelt setting is
    /// no reason to touch containers that have nothing to do with the mesh.
    ///
    /// # Errors
    /// If a runtime seems to be named, and which one can't be made out. It may be a sandbox, which another runtime in its place
    /// would take away without a word; and that one would say of the containers which run that there are none.
    pub(crate) fn runc(state: &StateDir) -> Result<Option<PathBuf>, Refusal> {
        let path = Self::path(state);
        // Octets that are no text may be part of a comment.
        let text = String::from_utf8_lossy(&read(&path)?).into_owned();
        let refusal = match Self::parse(&text, &path) {
            Ok(config) => return Ok(config.containers.runc),
            Err(refusal) => refusal,
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
            None if text.lines().any(names) => Err(refusal),
            named => Ok(named),
        }
    }

    /// Where it is.
    pub(crate) fn path(state: &StateDir) -> PathBuf {
        if state.is_system() { SYSTEM.into() } else { state.path().join(FILE) }
    }

    /// Reads the text of such a file.
    ///
    /// # Errors
    /// If it holds what it shouldn't.
    pub(crate) fn parse(text: &str, path: &Path) -> Result<Self, Refusal> {
        toml::from_str(text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            Refusal::new(
                format!("the configuration is wrong: {}, line {line}: {}", path.display(), e.message()),
                "docs/operate/configuration.md lists every setting; without the file everything has its default",
            )
        })
    }
}

/// What is in the file; nothing if there is no file.
fn read(path: &Path) -> Result<Vec<u8>, Refusal> {
    match fs::read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        read => read.map_err(|e| Refusal::bare(format!("cannot read the configuration {}: {e}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn without_a_file_only_the_label_of_mesh_counts_and_nothing_starts_without_it() {
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
    fn what_is_wrong_is_named_with_its_line() {
        for (text, line, words) in [
            ("[containers]\nfial = \"open\"\n", 2, "fial"),
            ("\n[containers]\nfail = \"ajar\"\n", 3, "ajar"),
            ("[containers.sources]\nheroku = [\"*\"]\n", 2, "heroku"),
            ("containers = [", 1, ""),
        ] {
            let error = Config::parse(text, Path::new("/etc/x.toml")).unwrap_err().error;
            assert!(error.contains(&format!("/etc/x.toml, line {line}: ")) && error.contains(words), "{error}");
        }
    }

    #[test]
    fn the_runtime_is_found_beside_mistakes_and_never_guessed() {
        let scratch = Scratch::new("config-runc");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        assert_eq!(Config::runc(&state), Ok(None), "no file");
        for (text, expected) in [
            ("[containers]\nrunc = \"/usr/bin/runsc\"\n", Some("/usr/bin/runsc")),
            ("[containers]\nrunc = \"/usr/bin/runsc\"\nfial = \"open\"\n", Some("/usr/bin/runsc")),
            ("[containers]\n#runc = \"/usr/sbin/runc\"\nfial = \"open\"\n", None),
            ("[containers]\nfial = \"open\" # see runc = in the documentation\n", None),
            ("this is no configuration", None),
        ] {
            fs::write(scratch.0.join(FILE), text).unwrap();
            assert_eq!(Config::runc(&state), Ok(expected.map(PathBuf::from)), "{text}");
        }
        fs::write(scratch.0.join(FILE), b"# f\xfcr runc\n[containers]\nrunc = \"/usr/bin/runsc\"\n").unwrap();
        assert_eq!(Config::runc(&state), Ok(Some("/usr/bin/runsc".into())));
        assert!(Config::load(&state).unwrap_err().error.contains("line 1: it is not UTF-8"));
        for text in [
            "[containers]\nrunc = \"/usr/bin/runsc\"\n[containers\n",
            "[containers]\nrunc = [\"/usr/bin/runsc\"]\n",
            "[container]\nrunc = \"/usr/bin/runsc\"\n",
        ] {
            fs::write(scratch.0.join(FILE), text).unwrap();
            assert!(Config::runc(&state).unwrap_err().error.contains("the configuration is wrong"), "{text}");
        }
        fs::remove_file(scratch.0.join(FILE)).unwrap();
        fs::create_dir(scratch.0.join(FILE)).unwrap();
        assert!(Config::runc(&state).unwrap_err().error.contains("cannot read the configuration"));
    }
}
