//! CDI (Container Device Interface, specification 0.5): a file that says what `--device mesh.warp/service=shop.db` brings. Runtimes
//! read it at every start of a container.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::{ServicePath, names::host_label};
use serde_json::{Value, json};

use super::spec::{HOOK_TIMEOUT, Hooks};

/// Where runtimes look for such files that change with the machine's run.
pub(crate) const FILE: &str = "/var/run/cdi/mesh.json";
/// The kind of our devices.
const KIND: &str = "mesh.warp/service";

/// The file, for these services with their variables. Gives with it the services that have no device: theirs would be
/// called as another one's is.
pub(crate) fn file(
    services: &BTreeMap<ServicePath, BTreeMap<String, String>>,
    hooks: &Hooks,
) -> (Value, Vec<ServicePath>) {
    let (mut names, mut devices, mut left_out) = (BTreeSet::new(), vec![], vec![]);
    for (service, variables) in services {
        let name = device(service).filter(|name| names.insert(name.clone()));
        match name {
            Some(name) => devices.push(json!({"name": name, "containerEdits": edits(service, variables, hooks)})),
            None => left_out.push(service.clone()),
        }
    }
    (json!({"cdiVersion": "0.5.0", "kind": KIND, "devices": devices}), left_out)
}

/// Whether a file is one of ours.
pub(crate) fn is_ours(file: &Value) -> bool {
    file.get("kind").is_some_and(|kind| kind == KIND)
}

/// `shop.my-db`: the deployment, and the service's host name.
fn device(service: &ServicePath) -> Option<String> {
    host_label(&service.service).ok().map(|label| format!("{}.{label}", service.deployment))
}

fn edits(service: &ServicePath, variables: &BTreeMap<String, String>, hooks: &Hooks) -> Value {
    let hook = |stage: &str| {
        let service = format!("--service={service}");
        let arguments =
            ["mesh-node", "hook", stage, &service, "--state", &hooks.state.to_string_lossy()].map(str::to_owned);
        json!({"hookName": stage, "path": hooks.program.to_string_lossy(), "args": arguments, "timeout": HOOK_TIMEOUT})
    };
    let variables: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let hooks = ["createRuntime", "poststop"].map(hook);
    json!({"env": variables, "hooks": hooks})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_brings_variables_and_hooks() {
        let hooks = Hooks { program: "/usr/bin/mesh-node".into(), state: "/s".into() };
        let variables: BTreeMap<_, _> = [("WARP_IST_my-db".to_owned(), "100.112.0.2".to_owned())].into();
        let services = ["shop/my db", "shop/my-db"].map(|service| (service.parse().unwrap(), variables.clone())).into();
        let (file, left_out) = file(&services, &hooks);
        assert!(is_ours(&file) && !is_ours(&json!({"kind": "nvidia.com/gpu"})) && !is_ours(&json!([])));
        assert_eq!(file["devices"].as_array().map(Vec::len), Some(1));
        assert_eq!(left_out, ["shop/my-db".parse().unwrap()], "two of the same name are one too many");
        let device = &file["devices"][0];
        assert_eq!(
            (&device["name"], &device["containerEdits"]["env"][0]),
            (&json!("shop.my-db"), &json!("WARP_IST_my-db=100.112.0.2"))
        );
        let hook = &device["containerEdits"]["hooks"][0];
        assert_eq!(
            hook["args"],
            json!(["mesh-node", "hook", "createRuntime", "--service=shop/my db", "--state", "/s"])
        );
        assert_eq!(device["containerEdits"]["hooks"][1]["hookName"], "poststop");
    }
}
