//! What the agent answers, and `--json` prints: version 1. Fields may be added, never renamed or dropped.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
};

use mesh_proto::{InstanceId, Label, Revision, RunnerId, ServicePath, message::Step};
use serde::{Deserialize, Serialize};

use super::ContainerId;

/// The version of every shape in this module.
pub(crate) const VERSION: u32 = 1;

/// An instance of this runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Instance {
    /// Its identifier.
    pub(crate) id: InstanceId,
    /// Its service.
    pub(crate) service: ServicePath,
    /// Its own address.
    pub(crate) address: Ipv4Addr,
    /// Its service's address.
    pub(crate) service_address: Ipv4Addr,
    /// The interface in its namespace.
    pub(crate) interface: String,
    /// Whether it only calls.
    pub(crate) client: bool,
    /// Whether it takes no new connections any more.
    #[serde(default)]
    pub(crate) draining: bool,
    /// Connections to it that stand; only `status` tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connections: Option<u32>,
    /// The containers that hold it; only `status` tells.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) containers: Vec<ContainerId>,
    /// What it does without, and what to do about it; in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// `attach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attach {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The instance.
    pub(crate) instance: Instance,
    /// The runners that did not know it in time.
    pub(crate) pending: Vec<Label>,
}

/// `detach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Detach {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The instance that is no more.
    pub(crate) instance: Instance,
}

/// The end of a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DetachContainer {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The instance that is no more; absent if others hold it, or there was none.
    pub(crate) instance: Option<Instance>,
}

/// The containers that hold instances.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Containers {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// Their identifiers.
    pub(crate) containers: Vec<ContainerId>,
}

/// `drain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Drain {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The instance.
    pub(crate) instance: Instance,
    /// The runners that did not know it in time.
    pub(crate) pending: Vec<Label>,
}

/// `leave`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Leave {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// Who we were.
    pub(crate) runner: Runner,
    /// The instances that are no more.
    pub(crate) instances: Vec<Instance>,
}

/// What an instance is given: for `env` and `hosts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The lines of its hosts file.
    pub(crate) hosts: Vec<Host>,
    /// Its environment variables.
    pub(crate) variables: BTreeMap<String, String>,
    /// Names that were left out, and why.
    pub(crate) warnings: Vec<String>,
    /// Those of the variables that lead to other deployments' services.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(crate) foreign_variables: BTreeSet<String>,
}

impl Names {
    /// The variables, those that lead to other deployments' services as wished.
    pub(crate) fn chosen(self, foreign: Foreign) -> BTreeMap<String, String> {
        let Self { mut variables, foreign_variables, .. } = self;
        if foreign == Foreign::LeftOut {
            variables.retain(|name, _| !foreign_variables.contains(name));
        }
        variables
    }
}

/// What becomes of the variables that lead to other deployments' services: one that is trusted by many has more than a program
/// may be started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Foreign {
    /// They are set.
    Set,
    /// They aren't; host names lead there nevertheless.
    LeftOut,
}

impl From<bool> for Foreign {
    fn from(set: bool) -> Self {
        if set { Self::Set } else { Self::LeftOut }
    }
}

/// A line of a hosts file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Host {
    /// The address.
    pub(crate) address: Ipv4Addr,
    /// The name.
    pub(crate) name: String,
}

/// `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// Who we are.
    pub(crate) runner: Runner,
    /// What we know.
    pub(crate) map: MapState,
    /// The coordinator, and what is wrong with it if anything is.
    pub(crate) coordinator: Coordinator,
    /// Our UDP port.
    pub(crate) port: u16,
    /// Where we say that we can be reached.
    pub(crate) endpoints: Vec<SocketAddr>,
    /// The other runners that we know, by name.
    pub(crate) peers: Vec<Peer>,
    /// Our instances.
    pub(crate) instances: Vec<Instance>,
    /// How many packets died, by reason; reasons for which none did, too.
    pub(crate) drops: BTreeMap<String, u64>,
    /// What the data plane's system calls carried, by kind.
    pub(crate) traffic: BTreeMap<String, Calls>,
    /// The containers that ask for the mesh and run without it, until what stands in the way is gone.
    #[serde(default)]
    pub(crate) waiting: Vec<Waiting>,
    /// The offloads: without any one of them traffic is several times slower.
    #[serde(default)]
    pub(crate) offloads: BTreeMap<String, Offload>,
    /// What is wrong on this machine, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) warnings: Vec<String>,
}

/// A container that asks for the mesh and runs without it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Which.
    pub(crate) container: ContainerId,
    /// What stands in the way.
    pub(crate) error: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

/// An offload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offload {
    /// Whether it is switched on.
    pub(crate) on: bool,
    /// Why it isn't, or isn't everywhere; in words.
    pub(crate) why: Option<String>,
}

/// How many system calls of a kind there were, and what they carried. Large ones are a sign that offloads work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Calls {
    /// How many.
    pub(crate) count: u64,
    /// Octets in all, headers included.
    pub(crate) bytes: u64,
}

/// A runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Runner {
    /// Its identifier.
    pub(crate) id: RunnerId,
    /// Its name.
    pub(crate) name: Label,
}

/// The state of our knowledge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MapState {
    /// The revision in force; absent before the first.
    pub(crate) revision: Option<Revision>,
    /// How long ago it was known to be the latest; absent before the first.
    pub(crate) age_seconds: Option<u64>,
    /// Whether the coordinator is there.
    pub(crate) connected: bool,
    /// The same with what else there is; absent from an agent of an earlier version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) state: Option<LinkState>,
}

/// How a runner and its coordinator stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LinkState {
    /// It is there.
    Connected,
    /// It can't be reached: everything goes on with the last map.
    Away,
    /// It is there, and doesn't know this runner (any more): the others are out of reach.
    Refused,
}

/// The coordinator as we see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Coordinator {
    /// Where it is.
    pub(crate) url: String,
    /// Why there is no connection.
    pub(crate) error: Option<String>,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

/// How another runner is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Path {
    /// By UDP, with nobody in between.
    Direct,
    /// Not at all, so far.
    None,
}

/// The tunnel to another runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Peer {
    /// Its name.
    pub(crate) name: Label,
    /// Its provider.
    pub(crate) provider: Label,
    /// How it is reached.
    pub(crate) path: Path,
    /// Where it was last.
    pub(crate) endpoint: Option<SocketAddr>,
    /// The age of the session in use.
    pub(crate) handshake_age_seconds: Option<u64>,
    /// How many handshakes went unanswered; 0 if the path is in order, or none was needed.
    #[serde(default)]
    pub(crate) tries: u64,
    /// For how long.
    #[serde(default)]
    pub(crate) failed_seconds: Option<u64>,
    /// Where they were sent.
    #[serde(default)]
    pub(crate) tried: Vec<SocketAddr>,
    /// Octets received from it.
    pub(crate) rx_bytes: u64,
    /// Octets sent to it.
    pub(crate) tx_bytes: u64,
}

/// `denied`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Denied {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// The last hundred, latest first.
    pub(crate) denied: Vec<Refused>,
}

/// Refusals of one pair, port and reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    /// Who called: `DEPLOYMENT/SERVICE`, or an address that nobody is known by.
    pub(crate) caller: String,
    /// Whom, likewise.
    pub(crate) callee: String,
    /// On which port; 0 for what wasn't TCP.
    pub(crate) port: u16,
    /// Why: a code that stays the same.
    pub(crate) reason: String,
    /// The same in words.
    #[serde(default)]
    pub(crate) text: String,
    /// The address from which the last one came.
    #[serde(default)]
    pub(crate) caller_address: Option<Ipv4Addr>,
    /// The address that it called.
    #[serde(default)]
    pub(crate) callee_address: Option<Ipv4Addr>,
    /// How many times.
    pub(crate) count: u64,
    /// How long ago the last time was.
    pub(crate) age_seconds: u64,
}

/// `why`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Why {
    /// [`VERSION`].
    pub(crate) version: u32,
    /// Whether the connection may be opened.
    pub(crate) verdict: Verdict,
    /// How that came about.
    pub(crate) steps: Vec<Step>,
}

/// Whether a connection may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn instance() -> Instance {
        Instance {
            id: InstanceId(3),
            service: "shop/db".parse().unwrap(),
            address: Ipv4Addr::new(100, 112, 0, 9),
            service_address: Ipv4Addr::new(100, 112, 0, 2),
            interface: "mesh0".into(),
            client: false,
            draining: false,
            connections: None,
            containers: vec![],
            warnings: vec![],
        }
    }

    /// The shape is that of docs/reference/json.md, and fields that were added stay.
    fn frozen<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(value: &T, shape: Value) {
        assert_eq!(serde_json::to_value(value).unwrap(), shape);
        assert_eq!(&serde_json::from_value::<T>(shape).unwrap(), value);
    }

    #[test]
    fn attach_is_frozen() {
        let shape = json!({"version": 1, "instance": {"id": "i-3", "service": "shop/db", "address": "100.112.0.9",
            "service_address": "100.112.0.2", "interface": "mesh0", "client": false, "draining": false}, "pending": ["b"]});
        frozen(&Attach { version: VERSION, instance: instance(), pending: vec!["b".parse().unwrap()] }, shape);
    }

    #[test]
    fn detach_is_frozen() {
        let shape = json!({"version": 1, "instance": {"id": "i-3", "service": "shop/db", "address": "100.112.0.9",
            "service_address": "100.112.0.2", "interface": "mesh0", "client": false, "draining": false}});
        frozen(&Detach { version: VERSION, instance: instance() }, shape);
    }

    #[test]
    fn status_is_frozen() {
        let status = Status {
            version: VERSION,
            runner: Runner { id: RunnerId(1), name: "a".parse().unwrap() },
            map: MapState {
                revision: Some(Revision(7)),
                age_seconds: Some(1),
                connected: true,
                state: Some(LinkState::Connected),
            },
            coordinator: Coordinator { url: "https://c:7443".into(), error: None, hint: None },
            port: 51820,
            endpoints: vec!["192.0.2.1:51820".parse().unwrap()],
            peers: vec![Peer {
                name: "b".parse().unwrap(),
                provider: "ovh".parse().unwrap(),
                path: Path::None,
                endpoint: None,
                handshake_age_seconds: None,
                tries: 3,
                failed_seconds: Some(18),
                tried: vec!["192.0.2.2:51820".parse().unwrap()],
                rx_bytes: 1,
                tx_bytes: 2,
            }],
            instances: vec![Instance { connections: Some(4), containers: vec!["f00".parse().unwrap()], ..instance() }],
            waiting: vec![Waiting { container: "f00".parse().unwrap(), error: "so".into(), hint: None }],
            drops: [("malformed".to_owned(), 0)].into(),
            traffic: [("tun-reads".to_owned(), Calls { count: 1, bytes: 60 })].into(),
            offloads: [("udp-gso".to_owned(), Offload { on: false, why: Some("so".to_owned()) })].into(),
            warnings: vec!["no room".into()],
        };
        let shape = json!({"version": 1, "runner": {"id": "r-1", "name": "a"},
            "map": {"revision": 7, "age_seconds": 1, "connected": true, "state": "connected"},
            "coordinator": {"url": "https://c:7443", "error": null, "hint": null},
            "port": 51820, "endpoints": ["192.0.2.1:51820"],
            "peers": [{"name": "b", "provider": "ovh", "path": "none", "endpoint": null, "handshake_age_seconds": null,
                "tries": 3, "failed_seconds": 18, "tried": ["192.0.2.2:51820"], "rx_bytes": 1, "tx_bytes": 2}],
            "instances": [{"id": "i-3", "service": "shop/db", "address": "100.112.0.9",
                "service_address": "100.112.0.2", "interface": "mesh0", "client": false, "draining": false,
                "connections": 4, "containers": ["f00"]}],
            "waiting": [{"container": "f00", "error": "so", "hint": null}],
            "drops": {"malformed": 0}, "traffic": {"tun-reads": {"count": 1, "bytes": 60}},
            "offloads": {"udp-gso": {"on": false, "why": "so"}}, "warnings": ["no room"]});
        frozen(&status, shape);
    }

    #[test]
    fn denied_is_frozen() {
        let denied = Denied {
            version: VERSION,
            denied: vec![Refused {
                caller: "api/web".into(),
                callee: "100.112.0.77".into(),
                port: 80,
                reason: "no-trust".into(),
                text: "no trust".into(),
                caller_address: Some(Ipv4Addr::new(100, 127, 0, 1)),
                callee_address: Some(Ipv4Addr::new(100, 112, 0, 77)),
                count: 2,
                age_seconds: 3,
            }],
        };
        let shape = json!({"version": 1, "denied": [{"caller": "api/web", "callee": "100.112.0.77", "port": 80,
            "reason": "no-trust", "text": "no trust", "caller_address": "100.127.0.1",
            "callee_address": "100.112.0.77", "count": 2, "age_seconds": 3}]});
        frozen(&denied, shape);
    }

    #[test]
    fn why_is_frozen() {
        let steps = vec![Step { step: "rule".into(), ok: false, code: "no-trust".into(), detail: "no trust".into() }];
        let shape = json!({"version": 1, "verdict": "deny", "steps": [{"step": "rule", "ok": false,
            "code": "no-trust", "detail": "no trust"}]});
        frozen(&Why { version: VERSION, verdict: Verdict::Deny, steps }, shape);
    }

    #[test]
    fn names_are_frozen() {
        let names = Names {
            version: VERSION,
            hosts: vec![Host { address: Ipv4Addr::new(100, 112, 0, 2), name: "db.warp".into() }],
            variables: [("WARP_IST_db".to_owned(), "100.112.0.2".to_owned())].into(),
            warnings: vec![],
            foreign_variables: BTreeSet::new(),
        };
        let shape = json!({"version": 1, "hosts": [{"address": "100.112.0.2", "name": "db.warp"}],
            "variables": {"WARP_IST_db": "100.112.0.2"}, "warnings": []});
        frozen(&names, shape);
        let variables: BTreeMap<_, _> =
            ["own", "foreign"].map(|name| (name.to_owned(), "100.112.0.2".to_owned())).into();
        let names = || Names {
            variables: variables.clone(),
            foreign_variables: ["foreign".to_owned()].into(),
            ..names.clone()
        };
        assert_eq!(serde_json::to_value(names()).unwrap()["foreign_variables"], json!(["foreign"]));
        assert_eq!(names().chosen(Foreign::Set), variables);
        assert_eq!(names().chosen(Foreign::LeftOut).into_keys().collect::<Vec<_>>(), ["own"]);
    }
}
