//! Our CNI plugin, called by hand as runtimes call it.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use mesh_netns_tests::{Outcome, Runner, run};
use serde_json::{Value, json};

use crate::mesh_node;

/// The plugin under the name by which it is called.
#[derive(Debug)]
pub struct Plugin {
    directory: PathBuf,
}

impl Plugin {
    /// Puts it into its own directory. A second call changes nothing.
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

    /// Its path.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The configuration of a network with the plugin as the last one of a chain.
    ///
    /// # Panics
    /// If `more` isn't an object.
    #[must_use]
    pub fn network(more: &Value) -> Value {
        let mut network = json!({
            "cniVersion": "1.0.0", "name": "net", "type": "mesh",
            "prevResult": {"cniVersion": "1.0.0", "interfaces": [{"name": "eth0"}], "ips": [{"address": "10.1.2.3/24"}]},
        });
        network.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        network
    }

    /// The configuration in a version of the specification, with the result of the plugin before in that version.
    ///
    /// # Panics
    /// If `more` isn't an object.
    #[must_use]
    pub fn network_of(version: &str, more: &Value) -> Value {
        let mut address = json!({"address": "10.1.2.3/24", "interface": 0});
        // "version" of an address was removed by 1.0.0.
        if version < "1.0.0" {
            address["version"] = "4".into();
        }
        let interfaces = json!([{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/pod"}]);
        let mut network = Self::network(more);
        network["cniVersion"] = version.into();
        network["prevResult"] = json!({"cniVersion": version, "interfaces": interfaces, "ips": [address], "routes": [{"dst": "0.0.0.0/0"}], "dns": {}});
        network
    }

    /// Calls it on a runner, for a container in the namespace at a path.
    #[track_caller]
    pub fn call(&self, runner: &Runner, command: &str, id: &str, netns: &Path, network: &Value) -> Outcome {
        self.call_with("IgnoreUnknown=1", runner, command, id, netns, network)
    }

    /// Calls it with the runtime's arguments (`CNI_ARGS`).
    ///
    /// # Panics
    /// If the configuration can't be written.
    #[track_caller]
    pub fn call_with(
        &self,
        arguments: &str,
        runner: &Runner,
        command: &str,
        id: &str,
        netns: &Path,
        network: &Value,
    ) -> Outcome {
        let file = self.directory.join("network.json");
        fs::write(&file, network.to_string()).expect("cannot write a file");
        let mut plugin = runner.namespace().command("sh");
        plugin.args(["-c", "exec \"$0\" <\"$1\""]).arg(self.directory.join("mesh")).arg(file);
        plugin.env("CNI_COMMAND", command).env("CNI_CONTAINERID", id).env("CNI_NETNS", netns).env("CNI_IFNAME", "eth0");
        plugin.env("CNI_PATH", &self.directory).env("CNI_ARGS", arguments);
        plugin.env("MESH_NODE_STATE", runner.state());
        run(plugin)
    }
}
