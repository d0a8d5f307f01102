//! The messages between an agent and the coordinator: enrolment over HTTPS, then a WebSocket with JSON texts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    Abilities, Delta, Epoch, InstanceId, Label, Proof, PublicKey, Range, Release, Revision, RunnerId, ServicePath,
    TokenId, View,
    relay::{Nat, Relay, RelayCredential, Relayed},
    telemetry::Telemetry,
};

/// The version of these messages. Another version is refused with what to upgrade.
pub const PROTOCOL: u32 = 1;

/// A refused HTTP request or question. The agent's own socket uses the same shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// What happened, and where.
    #[serde(deserialize_with = "words::plain")]
    pub error: String,
    /// What to try next.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "words::plain_or_none")]
    pub hint: Option<String>,
}

impl Refusal {
    /// A refusal with a hint.
    pub fn new(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: error.into(), hint: Some(hint.into()) }
    }

    /// A refusal without a hint.
    pub fn bare(error: impl Into<String>) -> Self {
        Self { error: error.into(), hint: None }
    }
}

/// `GET /v1/info`: what an agent needs to know before it enrols.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Info {
    /// The coordinator's [`PROTOCOL`].
    pub protocol: u32,
    /// The key against which runners prove their own keys.
    pub enrol_key: PublicKey,
    /// The range of overlay addresses, which the agent compares with the machine's routes.
    pub range: Range,
}

/// `POST /v1/enrol`: makes a machine a runner. The same public key always gets the same runner and a new credential,
/// so a lost answer does no harm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrol {
    /// The whole join token.
    pub token: String,
    /// The runner's name.
    pub name: Label,
    /// The runner's provider.
    pub provider: Label,
    /// The runner's WireGuard key.
    pub public_key: PublicKey,
    /// The proof that it holds the private key: [`crate::PrivateKey::prove`] for [`enrol_purpose`].
    pub proof: Proof,
    /// Whether to take the name over from the runner that has it.
    #[serde(default)]
    pub replace: bool,
}

/// The purpose of an enrolment's proof.
#[must_use]
pub fn enrol_purpose(token: TokenId) -> Vec<u8> {
    format!("enrol {token}").into_bytes()
}

/// The answer to [`Enrol`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrolled {
    /// The runner's identifier.
    pub runner: RunnerId,
    /// The whole credential for the stream.
    pub credential: String,
}

/// An instance that an agent has, as reported at the beginning of a stream. The coordinator ends the runner's
/// instances that are not reported, and adopts reported ones that it doesn't know, as after a restore from a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The instance.
    pub instance: InstanceId,
    /// Its service.
    pub service: ServicePath,
    /// Its address.
    pub address: Ipv4Addr,
    /// Whether it only calls.
    #[serde(default)]
    pub client: bool,
    /// Whether it gets no new connections.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
    /// The release that it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Release>,
}

/// A message from the agent. The first one is [`Up::Hello`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Up {
    /// Begins a stream.
    Hello {
        /// The agent's [`PROTOCOL`].
        protocol: u32,
        /// The agent's version, for `nodes`.
        version: String,
        /// The view that it has.
        have: Option<Have>,
        /// Its endpoints, as far as it knows.
        endpoints: Vec<SocketAddr>,
        /// Its UDP port. Unless `endpoints_only`, peers also try it at the address that the coordinator sees.
        port: u16,
        /// Whether the operator has set the endpoints, so that peers try no others.
        #[serde(default)]
        endpoints_only: bool,
        /// Its instances.
        instances: Vec<Held>,
        /// The agent's process, a random number drawn at its start. It distinguishes a copy of the machine from the
        /// machine itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<u64>,
        /// Whether this process was refused as a copy before. Then the first machine has precedence.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        refused: bool,
        /// What the agent can do beyond version 0.2.
        #[serde(default, skip_serializing_if = "Abilities::is_none")]
        can: Abilities,
        /// Its addresses as relays see them, which a NAT may have made.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reflexive: Vec<SocketAddr>,
        /// Its addresses at relays.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        relayed: Vec<Relayed>,
        /// What is between it and the outside, as far as it knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nat: Option<Nat>,
    },
    /// The agent has applied the view of this revision.
    Applied {
        /// The revision, of the current epoch.
        revision: Revision,
    },
    /// The agent's view can't be continued. It needs a snapshot.
    Resync,
    /// The agent's endpoints have changed.
    Endpoints {
        /// All its endpoints.
        endpoints: Vec<SocketAddr>,
        /// All its addresses as relays see them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reflexive: Vec<SocketAddr>,
        /// All its addresses at relays.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        relayed: Vec<Relayed>,
        /// What is between it and the outside, as far as it knows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nat: Option<Nat>,
    },
    /// A question or request. [`Down::Answer`] has the same number.
    Ask {
        /// A number that the agent uses once per stream.
        request: u64,
        /// The question.
        ask: Ask,
    },
    /// The answer to [`Down::Ping`].
    Pong,
    /// What passed since the last report. Only sent while [`Down::Telemetry`] asks for it.
    Telemetry(Telemetry),
    /// What came of the [`Down::Probe`] with the same number.
    Probed {
        /// The number.
        number: u64,
        /// Whether a connection was answered, and why, or a refusal.
        result: Result<Tried, Refusal>,
    },
}

/// What came of a connection that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tried {
    /// Whether it was answered.
    pub allowed: bool,
    /// The steps that led there.
    pub steps: Vec<Step>,
}

/// The view that an agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// Its epoch.
    pub epoch: Epoch,
    /// Its revision.
    pub revision: Revision,
}

/// A question or request of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// Creates an instance on this runner.
    Attach {
        /// Its service.
        service: ServicePath,
        /// Whether it is never a destination.
        #[serde(default)]
        client: bool,
        /// The release that it runs. Coordinators of version 0.2 and older leave it out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        release: Option<Release>,
    },
    /// Ends an instance.
    Detach {
        /// The instance.
        instance: InstanceId,
    },
    /// Ends new connections to an instance. Open ones stay.
    Drain {
        /// The instance.
        instance: InstanceId,
    },
    /// Allows new connections to a drained instance.
    Undrain {
        /// The instance.
        instance: InstanceId,
    },
    /// Removes this runner with its instances. Its credential is no longer valid.
    Leave,
    /// Answered when every affected runner has applied this revision, or after two seconds.
    Settle {
        /// The revision, of the current epoch.
        revision: Revision,
    },
    /// The view that an instance of this service would have: for `env` and `hosts` before one runs.
    Lookup {
        /// The service.
        service: ServicePath,
    },
    /// Whether a connection is allowed and why: for `why`, if the runner's own view doesn't hold both ends.
    Why {
        /// The caller.
        caller: ServicePath,
        /// The callee.
        callee: ServicePath,
        /// The callee's port.
        port: u16,
    },
}

/// The answer to an [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Ask::Attach`]: views of this revision and later ones contain the instance.
    Attached {
        /// The new instance.
        instance: InstanceId,
        /// Its address.
        address: Ipv4Addr,
        /// The commit that created it.
        revision: Revision,
    },
    /// To [`Ask::Detach`].
    Detached {
        /// The commit that ended it.
        revision: Revision,
    },
    /// To [`Ask::Drain`].
    Drained {
        /// The commit that changed it.
        revision: Revision,
    },
    /// To [`Ask::Undrain`].
    Undrained {
        /// The commit that changed it.
        revision: Revision,
    },
    /// To [`Ask::Leave`]; the coordinator then ends the stream.
    Left,
    /// To [`Ask::Settle`].
    Settled {
        /// The runners that have not applied it in time.
        pending: Vec<Label>,
    },
    /// To [`Ask::Lookup`]: the view of a runner with one instance of the service and nothing else.
    Found {
        /// The view.
        view: View,
    },
    /// To [`Ask::Why`].
    Why {
        /// Whether the connection may be opened.
        allowed: bool,
        /// The steps of the explanation.
        steps: Vec<Step>,
    },
}

/// A step of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Step {
    /// The step: `names`, `rule`, `runner`, `release`, `path` or `verdict`.
    pub step: String,
    /// Whether this step allows the connection.
    pub ok: bool,
    /// The finding, in a word that stays the same; empty from a coordinator of version 0.1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// The finding, in words.
    #[serde(deserialize_with = "words::plain")]
    pub detail: String,
}

/// The offloads that the coordinator can switch off for a runner, in case a kernel corrupts packets with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Switches {
    /// TCP super-packets on TUN devices, both ways.
    pub tun_gso: bool,
    /// `UDP_SEGMENT` on send.
    pub udp_gso: bool,
    /// `UDP_GRO` on receive.
    pub udp_gro: bool,
}

impl Default for Switches {
    fn default() -> Self {
        Self { tun_gso: true, udp_gso: true, udp_gro: true }
    }
}

/// Why an agent is refused a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its machine is a copy of another, connected one.
    Copy,
    /// A reason that this version doesn't know.
    #[serde(other)]
    Other,
}

/// A message from the coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Down {
    /// The stream has begun. A view or delta follows at once if the agent's view isn't current; any other message
    /// means that it is.
    Welcome {
        /// The address from which the coordinator sees the runner, without mapping (RFC 4291 §2.5.5.2).
        seen_from: IpAddr,
    },
    /// The whole view, which replaces the agent's.
    Snapshot {
        /// The view.
        view: View,
    },
    /// The changes of the view.
    Delta(Delta),
    /// The offloads.
    Switches(Switches),
    /// All relays, and what the runner logs in with at them. Sent after [`Down::Welcome`] and whenever they change, only
    /// to agents with [`crate::Ability::Relays`].
    Relays {
        /// The relays, without those that are no more.
        relays: Vec<Relay>,
        /// At most one for each relay. A runner can't use a relay without.
        credentials: Vec<RelayCredential>,
    },
    /// How often the agent reports what passes. Sent after [`Down::Welcome`] and whenever it changes, only to agents with
    /// [`crate::Ability::Telemetry`].
    Telemetry {
        /// The seconds between two reports; zero: none.
        seconds: u32,
        /// Whether refused connections are told with their addresses and ports.
        refusals: bool,
    },
    /// Where coordinators of this mesh are now, beside those that the agent was told of when it joined. All have the key
    /// that the agent has pinned. Sent after [`Down::Welcome`] and whenever they change, only to agents with
    /// [`crate::Ability::Coordinators`].
    Coordinators {
        /// Their URLs, at most [`crate::token::MAX_URLS`].
        urls: Vec<String>,
    },
    /// A connection is to be tried from an instance of the caller on this runner, and closed again. [`Up::Probed`] has
    /// the same number. Only sent to agents with [`crate::Ability::Probes`].
    Probe {
        /// A number that the coordinator uses once per stream.
        number: u64,
        /// The service that opens it.
        caller: ServicePath,
        /// The service that accepts it.
        callee: ServicePath,
        /// The TCP port.
        port: u16,
    },
    /// The agent is refused, and the coordinator then ends the stream. Only sent to agents that report their process.
    Refused {
        /// The reason.
        cause: Cause,
        /// The reason in words, with a hint.
        refusal: Refusal,
    },
    /// A heartbeat, sent every two seconds. Either side drops a stream that was silent for three intervals.
    Ping,
    /// The answer to the [`Up::Ask`] with the same number.
    Answer {
        /// The number.
        request: u64,
        /// The answer, or a refusal.
        result: Result<Answer, Refusal>,
    },
}

mod words;

#[cfg(test)]
mod tests;
