//! A plugin's input: variables, and a network's configuration on standard input.

use std::{
    collections::BTreeMap,
    io::{self, Read as _},
    path::PathBuf,
};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::error::{CniError, SUPPORTED};
use crate::{
    config::Sources,
    containers::{Labels, Member, SERVICE, counts, member, texts},
    local::ContainerId,
    state::StateDir,
};

/// The longest configuration that is read, in bytes.
const MAX: u64 = 4 << 20;

/// The relevant fields of a network's configuration. Runtimes omit a field without a value or write it as `null` (containerd: the
/// annotations of a pod without any).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Network {
    #[serde(deserialize_with = "or_nothing")]
    cni_version: String,
    #[serde(deserialize_with = "or_nothing")]
    name: String,
    prev_result: Option<Value>,
    #[serde(deserialize_with = "or_nothing")]
    runtime_config: RuntimeConfig,
    /// The service of all containers in this network, from the machine's administrator.
    service: Option<String>,
    /// Whether they only open connections.
    #[serde(deserialize_with = "or_nothing")]
    client: bool,
    /// The agent's state directory.
    state: Option<PathBuf>,
    #[serde(rename = "cni.dev/valid-attachments", deserialize_with = "or_nothing")]
    valid: Vec<Attachment>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    #[serde(rename = "io.kubernetes.cri.pod-annotations")]
    annotations: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Attachment {
    #[serde(rename = "containerID", deserialize_with = "or_nothing")]
    container: String,
    #[serde(deserialize_with = "or_nothing")]
    ifname: String,
}

fn or_nothing<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

/// One call of the plugin.
#[derive(Debug)]
pub(super) struct Call {
    /// The caller's version of the specification.
    pub(super) version: String,
    /// The result of the plugins before this one.
    pub(super) previous: Option<Value>,
    /// The namespace.
    pub(super) namespace: Option<PathBuf>,
    /// The agent's state directory.
    pub(super) state: StateDir,
    network: Network,
    container: String,
    interface: String,
    arguments: BTreeMap<String, String>,
}

impl Call {
    /// Reads a call.
    ///
    /// # Errors
    /// If the configuration is invalid or has an unsupported version.
    pub(super) fn read(stdin: impl io::Read, variable: impl Fn(&str) -> Option<String>) -> Result<Self, CniError> {
        let mut text = Vec::new();
        stdin.take(MAX).read_to_end(&mut text)?;
        let mut network: Network = serde_json::from_slice(&text)?;
        if !SUPPORTED.contains(&network.cni_version.as_str()) {
            return Err(CniError::Version(network.cni_version));
        }
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let state = network.state.take().or_else(|| variable("MESH_NODE_STATE").map(PathBuf::from));
        // `IgnoreUnknown=1;K8S_POD_NAME=web`
        let arguments = variable("CNI_ARGS").unwrap_or_default();
        let arguments = arguments.split(';').filter_map(|pair| pair.split_once('='));
        Ok(Self {
            version: network.cni_version.clone(),
            previous: network.prev_result.take(),
            namespace: variable("CNI_NETNS").map(PathBuf::from),
            state: StateDir::locate(state)?,
            container: variable("CNI_CONTAINERID").unwrap_or_default(),
            interface: variable("CNI_IFNAME").unwrap_or_default(),
            arguments: arguments.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            network,
        })
    }

    /// The agent's identifier for this attachment.
    ///
    /// # Errors
    /// If a part of it is missing or invalid.
    pub(super) fn id(&self) -> Result<ContainerId, CniError> {
        if self.container.is_empty() {
            return Err(CniError::Environment("CNI_CONTAINERID"));
        }
        if self.interface.is_empty() {
            return Err(CniError::Environment("CNI_IFNAME"));
        }
        let id = self.id_of(&self.container, &self.interface);
        id.parse().map_err(|_| CniError::Environment("CNI_CONTAINERID or CNI_IFNAME"))
    }

    /// The start of this network's identifiers. No name contains a `+`.
    pub(super) fn prefix(&self) -> String {
        format!("cni+{}+", self.network.name)
    }

    /// The identifiers of the attachments that the runtime still has.
    pub(super) fn valid(&self) -> Vec<String> {
        self.network.valid.iter().map(|known| self.id_of(&known.container, &known.ifname)).collect()
    }

    fn id_of(&self, container: &str, interface: &str) -> String {
        format!("{}{container}+{interface}", self.prefix())
    }

    /// The container's membership: from the network's configuration; from a pod's annotations or Nomad's arguments, for the
    /// deployments that the agent's configuration allows for these.
    ///
    /// # Errors
    /// If a source names an invalid service.
    pub(super) fn member(&self, sources: &Sources) -> Result<Option<Member>, CniError> {
        let none = Sources::default();
        if let Some(service) = &self.network.service {
            let labels = Labels::from([(SERVICE.to_owned(), service.clone())]);
            let member = member(&labels, &none).map_err(CniError::Service)?;
            return Ok(member.map(|member| Member { client: self.network.client, ..member }));
        }
        if !sources.pods.is_empty() {
            let found = member(&texts(Some(&self.network.runtime_config.annotations)), &none);
            let found = found.map_err(CniError::Service)?;
            let found = found.filter(|member| counts(&sources.pods, &member.service.deployment));
            if found.is_some() {
                return Ok(found);
            }
        }
        let argument = |name: &str| self.arguments.get(name).filter(|value| !value.is_empty());
        let (Some(job), Some(group)) = (argument("NOMAD_JOB_ID"), argument("NOMAD_GROUP_NAME")) else {
            return Ok(None);
        };
        let service = format!("{job}/{group}").parse().ok().filter(|_| counts(&sources.nomad, job));
        Ok(service.map(Member::of))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn call(network: &Value, variables: &[(&str, &str)]) -> Result<Call, CniError> {
        let variables: BTreeMap<_, _> = variables.iter().copied().collect();
        let state = Some("/run/mesh-node".to_owned());
        Call::read(network.to_string().as_bytes(), |name| match name {
            "MESH_NODE_STATE" => state.clone(),
            name => variables.get(name).map(|value| (*value).to_owned()),
        })
    }

    fn network(more: Value) -> Value {
        let mut network = json!({"cniVersion": "1.0.0", "name": "net", "type": "mesh", "prevResult": {"ips": []}});
        network.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        network
    }

    fn of(network: &Value, arguments: &str, sources: &Sources) -> Option<String> {
        let member = call(network, &[("CNI_ARGS", arguments)]).unwrap().member(sources).unwrap();
        member.map(|member| member.service.to_string())
    }

    #[test]
    fn a_call_is_known_by_network_container_and_interface() {
        let variables = [("CNI_CONTAINERID", "f00"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "/run/netns/x")];
        let valid = json!({"cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]});
        let read = call(&network(valid), &variables).unwrap();
        assert_eq!(read.id().unwrap().to_string(), "cni+net+f00+eth0");
        assert_eq!((read.valid(), read.prefix().as_str()), (vec!["cni+net+a+eth0".to_owned()], "cni+net+"));
        assert_eq!(read.namespace, Some("/run/netns/x".into()));
        assert_eq!(call(&network(json!({})), &[("CNI_NETNS", "")]).unwrap().namespace, None);
        for missing in [&variables[..1], &variables[1..2]] {
            assert_eq!(call(&network(json!({})), missing).unwrap().id().unwrap_err().code(), 4);
        }
    }

    #[test]
    fn only_configured_sources_make_members() {
        let none = Sources::default();
        let (pods, nomad) = (vec!["shop".to_owned()], vec!["*".to_owned()]);
        let sources = Sources { pods, nomad, ..Sources::default() };
        assert_eq!(of(&network(json!({"service": "shop/db"})), "", &none).as_deref(), Some("shop/db"));
        let annotated = |service: &str| {
            network(json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": {"mesh.service": service}}}))
        };
        assert_eq!(of(&annotated("shop/db"), "", &none), None, "a user who may make pods must not choose any service");
        assert_eq!(of(&annotated("shop/db"), "", &sources).as_deref(), Some("shop/db"));
        assert_eq!(of(&annotated("billing/api"), "", &sources), None);
        let arguments = "IgnoreUnknown=1;NOMAD_JOB_ID=shop;NOMAD_GROUP_NAME=web";
        assert_eq!(of(&network(json!({})), arguments, &sources).as_deref(), Some("shop/web"));
        assert_eq!(of(&network(json!({})), arguments, &none), None);
        assert_eq!(of(&network(json!({})), "IgnoreUnknown=1;K8S_POD_NAME=web", &sources), None);
    }

    #[test]
    fn an_invalid_call_has_the_number_of_the_specification() {
        let code = |network: &Value| call(network, &[]).unwrap_err().code();
        assert_eq!(code(&network(json!({"cniVersion": "0.2.0"}))), 1);
        assert_eq!(code(&json!({})), 1);
        assert_eq!(code(&json!("text")), 6);
        let wrong = call(&network(json!({"service": "shop"})), &[]).unwrap();
        assert_eq!(wrong.member(&Sources::default()).unwrap_err().code(), 7);
    }

    #[test]
    fn null_means_absent() {
        let all = json!({
            "prevResult": null, "runtimeConfig": null, "service": null, "client": null, "state": null, "args": null,
            "cni.dev/valid-attachments": null,
        });
        let read = call(&network(all), &[]).unwrap();
        assert!(read.previous.is_none() && read.valid().is_empty());
        let sources = Sources::everything();
        // containerd writes this for a pod without annotations; no runtime writes the others.
        for annotations in [json!(null), json!([]), json!({"mesh.service": null}), json!({"mesh.service": 7})] {
            let network = network(json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": annotations}}));
            assert_eq!(of(&network, "", &sources), None, "{network}");
        }
        let odd = json!({"mesh.service": "shop/db", "replicas": 7});
        let odd = network(json!({"runtimeConfig": {"io.kubernetes.cri.pod-annotations": odd}}));
        assert_eq!(of(&odd, "", &sources).as_deref(), Some("shop/db"), "a value that is no text spoils no other");
        let odd = call(&network(json!({"cni.dev/valid-attachments": [{"containerID": null}]})), &[]).unwrap();
        assert_eq!(odd.valid(), ["cni+net++"]);
        assert_eq!(call(&json!({"cniVersion": null}), &[]).unwrap_err().code(), 1);
    }

    proptest! {
        #[test]
        fn any_input_is_read_or_refused(text in ".{0,60}", arguments in "[;=A-Z]{0,12}") {
            let _ = Call::read(text.as_bytes(), |_| Some(arguments.clone()));
            if let Ok(call) = call(&network(json!({"name": text, "service": text})), &[("CNI_ARGS", &arguments)]) {
                let _ = (call.id(), call.member(&Sources::default()));
            }
        }
    }
}
