//! Our plugin of CNI, called by hand as runtimes call it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use mesh_netns_tests::{Outcome, Runner, run};
use serde_json::{Value, json};

use crate::mesh_node;

/// The plugin, under the name that it is called by.
#[derive(Debug)]
pub struct Plugin {
    directory: PathBuf,
}

impl Plugin {
    /// Puts it into a directory of its own; once more changes nothing.
    ///
    /// # Panics
    /// If that fails.
    #[must_use]
    pub fn install() -> Self {
        let directory = PathBuf::from("/run/cni-plugins");
        fs::create_dir_all(&directory).expect("cannot make a directory");
        let plugin = directory.join("mesh");
        if !plugin.exists() {
            symlink(mesh_node(), plugin).expect("cannot make a link");
        }
        Self { directory }
    }

    /// Where it is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A network's configuration, in which the plugin is the last one of a chain.
    ///
    /// # Panics
    /// If `more` is no object.
    #[must_use]
    pub fn network(more: &Value) -> Value {
        let mut network = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "mesh",
            "prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}], "ips": [{"address": "10.1.2.3/24"}]},
        });
        network.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        network
    }

    /// Calls it on a runner, for a container in the namespace at a path.
    #[track_caller]
    pub fn call(&self, runner: &Runner, command: &str, id: &str, netns: &Path, network: &Value) -> Outcome {
        let file = self.directory.join("network.json");
        fs::write(&file, network.to_string()).expect("cannot write a file");
        let mut plugin = runner.namespace().command("sh");
        plugin.args(["-c", "exec \"$0\" <\"$1\""]).arg(self.directory.join("mesh")).arg(file);
        plugin.env("CNI_COMMAND", command).env("CNI_CONTAINERID", id).env("CNI_NETNS", netns).env("CNI_IFNAME", "eth0");
        plugin.env("CNI_PATH", &self.directory).env("CNI_ARGS", "IgnoreUnknown=1");
        plugin.env("MESH_NODE_STATE", runner.state());
        run(plugin)
    }
}
