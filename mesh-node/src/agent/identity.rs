//! The runner's identity, in a file that only its owner may read.

use std::{net::SocketAddr, str::FromStr as _};

use mesh_link::{ProxyChoice, Url};
use mesh_proto::{
    Label, PrivateKey, RunnerId,
    message::Refusal,
    token::{Credential, Fingerprint},
};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::{
    config::{Endpoint, LaneCount, MetricsAt},
    state::StateDir,
};

pub(crate) const FILE: &str = "identity.json";

/// A runner's identity, and the flags that are remembered.
#[derive(Debug)]
pub(crate) struct Identity {
    /// Its WireGuard key, made here.
    pub(crate) private_key: PrivateKey,
    /// Its enrolment; `None` before the coordinator has answered.
    pub(crate) enrolment: Option<Enrolment>,
    /// The UDP port of the last `--listen`.
    pub(crate) listen: Option<u16>,
    /// The endpoints of the last `--endpoint`.
    pub(crate) endpoints: Vec<Endpoint>,
    /// Whether the router is asked to forward a port, by the last `--map-port`.
    pub(crate) map_port: bool,
    /// The proxy of the last `--proxy`, which holds no credentials.
    pub(crate) proxy: Option<ProxyChoice>,
    /// Where the numbers are served, by the last `--metrics`.
    pub(crate) metrics: Option<MetricsAt>,
    /// How many lanes the data plane has, by the last `--lanes`.
    pub(crate) lanes: Option<LaneCount>,
}

/// A runner's enrolment at a coordinator.
#[derive(Debug)]
pub(crate) struct Enrolment {
    /// Its identifier there.
    pub(crate) runner: RunnerId,
    /// Its name there.
    pub(crate) name: Label,
    /// Its provider there; `None` if it was enrolled before that was remembered.
    pub(crate) provider: Option<Label>,
    /// Its credential.
    pub(crate) credential: Credential,
    /// The coordinator's URLs, one at least: the first that answers is used.
    pub(crate) coordinators: Vec<Url>,
    /// The key that the coordinator has.
    pub(crate) fingerprint: Fingerprint,
}

impl Enrolment {
    /// The URLs, for people.
    pub(crate) fn shown(&self) -> String {
        self.coordinators.iter().map(Url::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// The file, version 1.
#[derive(Serialize, Deserialize)]
struct File {
    version: u32,
    private_key: Zeroizing<String>,
    #[serde(default)]
    listen: Option<u16>,
    /// Those that are addresses, for agents that know no others.
    #[serde(default)]
    endpoints: Vec<SocketAddr>,
    /// All of them, if there are others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    all_endpoints: Vec<Endpoint>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    map_port: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    proxy: Option<ProxyChoice>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metrics: Option<MetricsAt>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lanes: Option<LaneCount>,
    #[serde(default)]
    enrolment: Option<FileEnrolment>,
}

#[derive(Serialize, Deserialize)]
struct FileEnrolment {
    runner: RunnerId,
    name: Label,
    #[serde(default)]
    provider: Option<Label>,
    credential: Zeroizing<String>,
    /// The first, for agents that know only one.
    coordinator: Url,
    /// All of them, if there are more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    coordinators: Vec<Url>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// A new identity, with a new key.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub(crate) fn new() -> Result<Self, Refusal> {
        let mut bytes = Zeroizing::new([0; 32]);
        getrandom::fill(&mut *bytes).map_err(|e| Refusal::bare(format!("the system gives no randomness: {e}")))?;
        let private_key = PrivateKey::from_bytes(*bytes);
        Ok(Self {
            private_key,
            enrolment: None,
            listen: None,
            endpoints: vec![],
            map_port: false,
            proxy: None,
            metrics: None,
            lanes: None,
        })
    }

    /// The identity in a state directory; a new one, which isn't stored yet, if there is none.
    ///
    /// # Errors
    /// If it can't be read, or the system has no randomness.
    pub(crate) fn load_or_new(state: &StateDir) -> Result<Self, Refusal> {
        Self::load(state)?.map_or_else(Self::new, Ok)
    }

    /// Reads the identity in a state directory, if there is one.
    ///
    /// # Errors
    /// If it can't be read. It is never replaced: without it this machine would be another runner.
    pub(crate) fn load(state: &StateDir) -> Result<Option<Self>, Refusal> {
        let Some(file) = state.read::<File>(FILE)? else { return Ok(None) };
        let path = state.path().join(FILE);
        let damaged = |what: &str| Refusal::bare(format!("{} is damaged: {what}", path.display()));
        if file.version != 1 {
            return Err(Refusal::new(
                format!("{} is of version {}, and this agent knows version 1", path.display(), file.version),
                "it was written by a later mesh-node: use that one",
            ));
        }
        let private_key = PrivateKey::from_file_text(&file.private_key).map_err(|e| damaged(&e.to_string()))?;
        let enrolment = match file.enrolment {
            Some(FileEnrolment { runner, name, provider, credential, coordinator, coordinators, fingerprint }) => {
                let credential = Credential::from_str(&credential).map_err(|e| damaged(&e.to_string()))?;
                // An agent that knows only one may have changed it.
                let all = if coordinators.first() == Some(&coordinator) { coordinators } else { vec![coordinator] };
                Some(Enrolment { runner, name, provider, credential, coordinators: all, fingerprint })
            }
            None => None,
        };
        let File { listen, endpoints, all_endpoints, map_port, proxy, metrics, lanes, .. } = file;
        // An agent that knows only addresses may have changed them.
        let endpoints = if !all_endpoints.is_empty() && addresses(&all_endpoints) == endpoints {
            all_endpoints
        } else {
            endpoints.into_iter().map(Endpoint::At).collect()
        };
        Ok(Some(Self { private_key, enrolment, listen, endpoints, map_port, proxy, metrics, lanes }))
    }

    /// Writes it, unless the file has the same content already.
    ///
    /// # Errors
    /// If it can't be written.
    pub(crate) fn save(&self, state: &StateDir) -> Result<(), Refusal> {
        state.write_changed(FILE, &self.file()).map_err(|e| {
            Refusal::new(
                format!("cannot write {}: {e}", state.path().join(FILE).display()),
                "make room on the disk, or make it writable; or choose another directory with --state DIR",
            )
        })
    }

    /// Whether the file has the same content.
    pub(crate) fn is_saved(&self, state: &StateDir) -> bool {
        state.holds(FILE, &self.file()).unwrap_or(false)
    }

    fn file(&self) -> File {
        let enrolment = self.enrolment.as_ref().and_then(|e| {
            Some(FileEnrolment {
                runner: e.runner,
                name: e.name.clone(),
                provider: e.provider.clone(),
                credential: e.credential.to_text(),
                coordinator: e.coordinators.first()?.clone(),
                coordinators: if e.coordinators.len() > 1 { e.coordinators.clone() } else { vec![] },
                fingerprint: e.fingerprint,
            })
        });
        let addresses = addresses(&self.endpoints);
        let has_others = addresses.len() < self.endpoints.len();
        File {
            version: 1,
            private_key: Zeroizing::new(self.private_key.to_file_text()),
            listen: self.listen,
            endpoints: addresses,
            all_endpoints: if has_others { self.endpoints.clone() } else { vec![] },
            map_port: self.map_port,
            proxy: self.proxy.clone(),
            metrics: self.metrics,
            lanes: self.lanes,
            enrolment,
        }
    }
}

/// Those among endpoints that are addresses.
fn addresses(endpoints: &[Endpoint]) -> Vec<SocketAddr> {
    let addresses = endpoints.iter().filter_map(|endpoint| match endpoint {
        Endpoint::At(address) => Some(*address),
        Endpoint::Name(_) | Endpoint::Seen(_) => None,
    });
    addresses.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use mesh_proto::Secret;

    use super::*;
    use crate::state::tests::Scratch;

    #[test]
    fn an_identity_is_read_back_and_only_its_owner_reads_it() {
        let scratch = Scratch::new("identity");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        assert!(Identity::load(&state).unwrap().is_none());
        let mut identity = Identity::new().unwrap();
        identity.save(&state).unwrap();
        assert!(Identity::load(&state).unwrap().unwrap().enrolment.is_none());
        identity.enrolment = Some(Enrolment {
            runner: RunnerId(7),
            name: "a".parse().unwrap(),
            provider: Some("aws".parse().unwrap()),
            credential: Credential { runner: RunnerId(7), secret: Secret::from_bytes([3; 32]) },
            coordinators: vec!["https://c:7443".parse().unwrap()],
            fingerprint: Fingerprint([1; 32]),
        });
        identity.listen = Some(0);
        identity.proxy = Some("@/etc/proxy".parse().unwrap());
        identity.metrics = Some("127.0.0.1:9744".parse().unwrap());
        identity.lanes = Some("4".parse().unwrap());
        identity.save(&state).unwrap();
        let read = Identity::load(&state).unwrap().unwrap();
        let enrolment = read.enrolment.as_ref().unwrap();
        assert_eq!(read.private_key.public(), identity.private_key.public());
        assert_eq!((enrolment.runner, &*enrolment.name, read.listen), (RunnerId(7), "a", Some(0)));
        assert_eq!(enrolment.provider.as_deref(), Some("aws"));
        assert_eq!((&read.proxy, read.metrics, read.lanes), (&identity.proxy, identity.metrics, identity.lanes));
        let mode = std::fs::metadata(scratch.0.join(FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
        let debug = format!("{read:?}");
        assert!(!debug.contains(&identity.private_key.to_file_text()) && !debug.contains("AwMD"), "{debug}");
    }

    #[test]
    fn what_is_there_already_is_not_written_and_one_url_is_written_as_before() {
        let scratch = Scratch::new("unchanged");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        let mut identity = Identity::new().unwrap();
        let urls = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Url>>();
        identity.enrolment = Some(Enrolment {
            runner: RunnerId(7),
            name: "a".parse().unwrap(),
            provider: None,
            credential: Credential { runner: RunnerId(7), secret: Secret::from_bytes([3; 32]) },
            coordinators: urls(&["https://c:7443"]),
            fingerprint: Fingerprint([1; 32]),
        });
        identity.save(&state).unwrap();
        let text = || std::fs::read_to_string(scratch.0.join(FILE)).unwrap();
        assert!(!text().contains("coordinators"), "{}", text());
        // This prevents every write.
        let obstacle = scratch.0.join(format!("{FILE}.next"));
        std::fs::create_dir(&obstacle).unwrap();
        Identity::load(&state).unwrap().unwrap().save(&state).unwrap();
        identity.enrolment.as_mut().unwrap().coordinators = urls(&["https://c:7443", "https://d:7443"]);
        assert!(identity.save(&state).unwrap_err().error.contains("cannot write"));
        std::fs::remove_dir(&obstacle).unwrap();
        identity.save(&state).unwrap();
        let read = || Identity::load(&state).unwrap().unwrap().enrolment.unwrap().coordinators;
        assert_eq!(read(), urls(&["https://c:7443", "https://d:7443"]));
        // As an agent of the previous version writes it after `join` with another URL.
        let changed = text().replace(r#""coordinator":"https://c:7443""#, r#""coordinator":"https://e:7443""#);
        std::fs::write(scratch.0.join(FILE), changed).unwrap();
        assert_eq!(read(), urls(&["https://e:7443"]));
    }

    #[test]
    fn names_stand_beside_what_older_agents_read_and_what_those_change_counts() {
        let scratch = Scratch::new("names");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        let text = || std::fs::read_to_string(scratch.0.join(FILE)).unwrap();
        let read = || Identity::load(&state).unwrap().unwrap();
        let all = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Endpoint>>();
        let mut identity = Identity::new().unwrap();
        identity.endpoints = all(&["192.0.2.1:1"]);
        identity.save(&state).unwrap();
        assert!(text().contains(r#""endpoints":["192.0.2.1:1"]"#), "{}", text());
        assert!(!text().contains("all_endpoints") && !text().contains("map_port"), "{}", text());
        assert_eq!(read().endpoints, identity.endpoints);
        identity.endpoints = all(&["runner.example.net:1", "192.0.2.1:1", "auto:2"]);
        identity.map_port = true;
        identity.save(&state).unwrap();
        // As an agent of version 0.2 declares the field.
        #[derive(Deserialize)]
        struct Older {
            endpoints: Vec<SocketAddr>,
        }
        let older: Older = serde_json::from_str(&text()).unwrap();
        assert_eq!(older.endpoints, ["192.0.2.1:1".parse().unwrap()]);
        assert_eq!((read().endpoints, read().map_port), (identity.endpoints.clone(), true));
        let changed = text().replace(r#""endpoints":["192.0.2.1:1"]"#, r#""endpoints":["192.0.2.9:1"]"#);
        std::fs::write(scratch.0.join(FILE), changed).unwrap();
        assert_eq!(read().endpoints, all(&["192.0.2.9:1"]));
        identity.endpoints = all(&["runner.example.net:1"]);
        identity.save(&state).unwrap();
        assert_eq!(read().endpoints, identity.endpoints);
        identity.endpoints = vec![];
        identity.save(&state).unwrap();
        assert_eq!(read().endpoints, []);
    }

    #[test]
    fn a_damaged_identity_is_refused_and_kept() {
        let scratch = Scratch::new("damaged-identity");
        let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
        for (text, why) in [
            ("{", "is damaged"),
            (r#"{"version":1,"private_key":"AAAA"}"#, "not a key"),
            (r#"{"version":2,"private_key":"AAAA"}"#, "version 2"),
        ] {
            std::fs::write(scratch.0.join(FILE), text).unwrap();
            let error = Identity::load(&state).unwrap_err();
            assert!(error.error.contains(why) && !error.error.contains("AAAA"), "{error}");
            assert_eq!(std::fs::read_to_string(scratch.0.join(FILE)).unwrap(), text);
        }
    }
}
