//! SIGHUP: the configuration is read again. An invalid one changes nothing, and nothing ends.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use mesh_proto::ServicePath;
use tokio::{signal::unix::Signal, task::AbortHandle};

use super::{WatchDocker, cdi};
use crate::{config::Config, hint::Hint as _};

/// The tasks that the configuration asks for.
#[derive(Debug)]
pub(super) struct Following {
    agent: Arc<super::Agent>,
    config: Config,
    watch_docker: WatchDocker,
    watches: BTreeMap<PathBuf, AbortHandle>,
    cdi: Option<AbortHandle>,
}

impl Following {
    /// Starts them.
    pub(super) fn start(agent: &Arc<super::Agent>, config: Config, watch_docker: WatchDocker) -> Self {
        let mut this = Self {
            agent: Arc::clone(agent),
            config: Config::default(),
            watch_docker,
            watches: BTreeMap::new(),
            cdi: None,
        };
        this.watch(&config.containers.watch);
        this.devices(config.containers.cdi.clone());
        this.config = config;
        this
    }

    /// Reads the configuration again at each signal.
    pub(super) async fn keep(&mut self, mut hangup: Signal) {
        while hangup.recv().await.is_some() {
            self.reload();
        }
    }

    fn reload(&mut self) {
        let path = Config::path(&self.agent.state).display().to_string();
        match Config::load(&self.agent.state) {
            Ok(config) if config == self.config => tracing::info!(path, "SIGHUP: the configuration is as before"),
            Ok(config) => {
                tracing::info!(
                    path,
                    changed = changes(&self.config, &config).join(", "),
                    "SIGHUP: the configuration has changed"
                );
                if config.containers.watch != self.config.containers.watch {
                    self.watch(&config.containers.watch);
                }
                if config.containers.cdi != self.config.containers.cdi {
                    self.devices(config.containers.cdi.clone());
                }
                self.agent.endpoints.set(self.agent.reach_flags.with(&config.agent));
                self.config = config;
            }
            Err(error) => {
                let hint = error.hint().unwrap_or_default();
                tracing::warn!(hint, "SIGHUP: nothing has changed: {error}");
            }
        }
    }

    fn watch(&mut self, sockets: &[PathBuf]) {
        self.watches.retain(|socket, watch| {
            let stays = sockets.contains(socket);
            if !stays {
                watch.abort();
            }
            stays
        });
        for socket in sockets {
            let (agent, watch) = (&self.agent, self.watch_docker);
            self.watches
                .entry(socket.clone())
                .or_insert_with(|| watch(socket.clone(), agent.instances.clone(), agent.state.clone()));
        }
    }

    fn devices(&mut self, services: Vec<ServicePath>) {
        if let Some(before) = self.cdi.take() {
            before.abort();
        }
        if services.is_empty() {
            cdi::remove();
        } else {
            self.cdi = Some(tokio::spawn(cdi::keep(Arc::clone(&self.agent), services)).abort_handle());
        }
    }
}

/// The settings that differ, by their names in the file.
fn changes(old: &Config, new: &Config) -> Vec<&'static str> {
    let (reach, is_mapped) = (old.agent.endpoints != new.agent.endpoints, old.agent.map_port != new.agent.map_port);
    let mut rest = old.agent.clone();
    rest.endpoints.clone_from(&new.agent.endpoints);
    rest.map_port = new.agent.map_port;
    let rest = rest != new.agent;
    let (old, new) = (&old.containers, &new.containers);
    [
        ("agent.endpoints", reach),
        ("agent.map_port", is_mapped),
        ("agent (from the next start)", rest),
        ("containers.fail", old.fail != new.fail),
        ("containers.runc", old.runc != new.runc),
        ("containers.watch", old.watch != new.watch),
        ("containers.cdi", old.cdi != new.cdi),
        ("containers.sources", old.sources != new.sources),
        ("containers.foreign_variables", old.foreign_variables != new.foreign_variables),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_has_changed_is_named_as_in_the_file() {
        let config = |text: &str| Config::parse(text, Path::new("config.toml")).unwrap();
        let old = config("");
        for (text, names) in [
            ("[containers]\nfail = \"open\"\nwatch = []\n", &["containers.fail", "containers.watch"][..]),
            ("[containers]\nforeign_variables = false\n", &["containers.foreign_variables"]),
            ("[agent]\nlisten = 0\n", &["agent (from the next start)"]),
            ("[agent]\nendpoints = [\"runner:1\"]\nmap_port = true\n", &["agent.endpoints", "agent.map_port"]),
            ("", &[]),
        ] {
            assert_eq!(changes(&old, &config(text)), names);
        }
    }
}
