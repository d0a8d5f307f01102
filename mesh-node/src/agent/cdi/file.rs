//! The CDI file (Container Device Interface, specification 0.5), which describes `--device mesh.warp/service=shop.db`. Runtimes read it
//! at every start of a container.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::{
    ServicePath,
    names::{check_given_variable, host_label},
};
use serde_json::{Value, json};

use crate::callback::{HOOK_TIMEOUT, Hooks};

/// The path of the file, in the directory for files that end with a restart of the machine.
pub(crate) const FILE: &str = "/var/run/cdi/mesh.json";
/// The kind of the devices.
const KIND: &str = "mesh.warp/service";

/// The hook's option for a container without variables.
const BARE: &str = "--bare";
/// The hook's option for the service.
const SERVICE: &str = "--service=";

/// The file for these services with their variables. `None`: they aren't known, and a container with that device doesn't start but
/// reports why. Also returns services left out because their device name collides with another's.
pub(super) fn file(
    services: &BTreeMap<ServicePath, Option<BTreeMap<String, String>>>,
    hooks: &Hooks,
) -> (Value, Vec<ServicePath>) {
    let (mut names, mut devices, mut left_out) = (BTreeSet::new(), vec![], vec![]);
    for (service, variables) in services {
        let name = device(service).filter(|name| names.insert(name.clone()));
        match name {
            Some(name) => {
                let edits = edits(service, variables.as_ref(), hooks);
                devices.push(json!({"name": name, "containerEdits": edits}));
            }
            None => left_out.push(service.clone()),
        }
    }
    (json!({"cdiVersion": "0.5.0", "kind": KIND, "devices": devices}), left_out)
}

/// The variables in a file, by service.
pub(super) fn variables(file: &Value) -> BTreeMap<ServicePath, BTreeMap<String, String>> {
    let of = |device: &Value| {
        let edits = device.get("containerEdits")?;
        let texts = |list: &Value| Some(list.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let arguments: Vec<String> = texts(edits.get("hooks")?.get(0)?.get("args")?)?;
        let service = arguments.iter().find_map(|argument| argument.strip_prefix(SERVICE)?.parse().ok())?;
        let variables: Vec<String> = texts(edits.get("env")?)?;
        // An earlier version didn't check names.
        let pairs = variables.iter().filter_map(|variable| variable.split_once('='));
        let pairs = pairs.filter(|(name, _)| *name == "PORT" || check_given_variable(name).is_ok());
        let variables = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        (!arguments.iter().any(|argument| argument == BARE)).then_some((service, variables))
    };
    let devices = file.get("devices").and_then(Value::as_array);
    devices.into_iter().flatten().filter_map(of).collect()
}

/// Whether mesh has written a file.
pub(crate) fn is_ours(file: &Value) -> bool {
    file.get("kind").is_some_and(|kind| kind == KIND)
}

/// `shop.my-db`: the deployment, and the service's host name.
fn device(service: &ServicePath) -> Option<String> {
    host_label(&service.service).ok().map(|label| format!("{}.{label}", service.deployment))
}

fn edits(service: &ServicePath, variables: Option<&BTreeMap<String, String>>, hooks: &Hooks) -> Value {
    let hook = |stage: &str| {
        let service = format!("{SERVICE}{service}");
        let state = hooks.state.to_string_lossy();
        let mut arguments = vec!["mesh-node", "hook", stage, &service, "--state", &state];
        arguments.extend(variables.is_none().then_some(BARE));
        json!({"hookName": stage, "path": hooks.program.to_string_lossy(), "args": arguments, "timeout": HOOK_TIMEOUT})
    };
    let variables: Vec<String> =
        variables.into_iter().flatten().map(|(name, value)| format!("{name}={value}")).collect();
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
        let services =
            ["shop/my db", "shop/my-db"].map(|service| (service.parse().unwrap(), Some(variables.clone()))).into();
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

    #[test]
    fn known_variables_are_read_again() {
        let hooks = Hooks { program: "/usr/bin/mesh-node".into(), state: "/s".into() };
        let service = |path: &str| path.parse::<ServicePath>().unwrap();
        let variables: BTreeMap<_, _> = [("A".to_owned(), "b=c".to_owned())].into();
        let services = [
            (service("shop/my db"), Some(variables.clone())),
            (service("shop/quiet"), Some(BTreeMap::new())),
            (service("shop/unknown"), None),
        ];
        let (file, _) = file(&services.into(), &hooks);
        let known = [(service("shop/my db"), variables), (service("shop/quiet"), BTreeMap::new())];
        assert_eq!(super::variables(&file), known.into());
        for odd in [json!({"devices": 7}), json!({"devices": [{"containerEdits": {"env": [], "hooks": []}}]})] {
            assert!(super::variables(&odd).is_empty());
        }
    }
}
