//! CDI (Container Device Interface, specification 0.5): a file that says what `--device mesh.warp/service=shop.db` brings. Runtimes
//! read it at every start of a container.

use std::collections::{BTreeMap, BTreeSet};

use mesh_proto::{
    ServicePath,
    names::{check_given_variable, host_label},
};
use serde_json::{Value, json};

use crate::callback::{HOOK_TIMEOUT, Hooks};

/// Where runtimes look for such files that change with the machine's run.
pub(crate) const FILE: &str = "/var/run/cdi/mesh.json";
/// The kind of our devices.
const KIND: &str = "mesh.warp/service";

/// What starts with the hook's option of this name is without variables.
const BARE: &str = "--bare";
/// What the hook's service follows.
const SERVICE: &str = "--service=";

/// The file, for these services with their variables. `None`: they aren't known; nothing starts with that device, but who asks
/// for it is told why. Gives with it the services that have no device: theirs would be called as another one's is.
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

/// The variables of the services that a file of ours knows them of.
pub(super) fn variables(file: &Value) -> BTreeMap<ServicePath, BTreeMap<String, String>> {
    let of = |device: &Value| {
        let edits = device.get("containerEdits")?;
        let texts = |list: &Value| Some(list.as_array()?.iter().filter_map(Value::as_str).map(str::to_owned).collect());
        let arguments: Vec<String> = texts(edits.get("hooks")?.get(0)?.get("args")?)?;
        let service = arguments.iter().find_map(|argument| argument.strip_prefix(SERVICE)?.parse().ok())?;
        let variables: Vec<String> = texts(edits.get("env")?)?;
        // An earlier version took them as they came.
        let pairs = variables.iter().filter_map(|variable| variable.split_once('='));
        let pairs = pairs.filter(|(name, _)| *name == "PORT" || check_given_variable(name).is_ok());
        let variables = pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        (!arguments.iter().any(|argument| argument == BARE)).then_some((service, variables))
    };
    let devices = file.get("devices").and_then(Value::as_array);
    devices.into_iter().flatten().filter_map(of).collect()
}

/// Whether a file is one of ours.
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
    fn what_was_known_is_read_again_and_what_was_not_isnt() {
        let hooks = Hooks { program: "/usr/bin/mesh-node".into(), state: "/s".into() };
        let service = |path: &str| path.parse::<ServicePath>().unwrap();
        let variables: BTreeMap<_, _> = [("A".to_owned(), "b=c".to_owned())].into();
        let services = [
            (service("shop/my db"), Some(variables.clone())),
            (service("shop/quiet"), Some(BTreeMap::new())),
            (service("shop/nobody"), None),
        ];
        let (file, _) = file(&services.into(), &hooks);
        let known = [(service("shop/my db"), variables), (service("shop/quiet"), BTreeMap::new())];
        assert_eq!(super::variables(&file), known.into());
        for odd in [json!({"devices": 7}), json!({"devices": [{"containerEdits": {"env": [], "hooks": []}}]})] {
            assert!(super::variables(&odd).is_empty());
        }
    }
}
