//! The messages between an agent and the coordinator: enrolment over HTTPS, then one WebSocket of JSON texts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{Delta, Epoch, InstanceId, Label, Proof, PublicKey, Range, Revision, RunnerId, ServicePath, TokenId, View};

/// The version of everything in this module. Another one is refused, with what to upgrade.
pub const PROTOCOL: u32 = 1;

/// How an HTTP request or a question was refused. The same shape everywhere, on the agent's own socket as well.
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
    /// A refusal that says what to try next.
    pub fn new(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { error: error.into(), hint: Some(hint.into()) }
    }

    /// A refusal with nothing to try.
    pub fn bare(error: impl Into<String>) -> Self {
        Self { error: error.into(), hint: None }
    }
}

/// `GET /v1/info`: what an agent must know before it enrols.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Info {
    /// The coordinator's [`PROTOCOL`].
    pub protocol: u32,
    /// The key against which a runner proves that it holds its own.
    pub enrol_key: PublicKey,
    /// The range of overlay addresses, to be compared with the machine's routes.
    pub range: Range,
}

/// `POST /v1/enrol`: makes a machine a runner. Asked again with the same public key it gives the same runner, and a new
/// credential, so that a lost answer does no harm.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrol {
    /// The join token, whole.
    pub token: String,
    /// The runner's name.
    pub name: Label,
    /// The runner's provider.
    pub provider: Label,
    /// The runner's WireGuard key.
    pub public_key: PublicKey,
    /// That it holds the private half: [`crate::PrivateKey::prove`] for [`enrol_purpose`].
    pub proof: Proof,
    /// Take the name over from the runner that has it.
    #[serde(default)]
    pub replace: bool,
}

/// What an enrolment's proof is bound to.
#[must_use]
pub fn enrol_purpose(token: TokenId) -> Vec<u8> {
    format!("enrol {token}").into_bytes()
}

/// The answer to [`Enrol`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrolled {
    /// The runner's identifier.
    pub runner: RunnerId,
    /// The credential for the stream, whole.
    pub credential: String,
}

/// An instance that an agent holds, as it tells the coordinator when a stream begins. The coordinator ends those of the
/// runner that are not told, and takes in those that it doesn't know (it may have been restored from a backup).
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
    /// Whether it takes no new connections any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub draining: bool,
}

/// What an agent says. The first is [`Up::Hello`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Up {
    /// Begins a stream.
    Hello {
        /// The agent's [`PROTOCOL`].
        protocol: u32,
        /// The agent's version, for `nodes`.
        version: String,
        /// The view that it has, if any.
        have: Option<Have>,
        /// Where it may be reached, as far as it knows.
        endpoints: Vec<SocketAddr>,
        /// Its UDP port: reached at the address from which the coordinator sees it, too, unless `endpoints_only`.
        port: u16,
        /// The operator has given the endpoints: no other is to be tried.
        #[serde(default)]
        endpoints_only: bool,
        /// The instances that it holds.
        instances: Vec<Held>,
        /// The agent's process, drawn by lot at its start: tells a copy of the machine from the machine itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        process: Option<u64>,
        /// This process was refused as a copy before: the first machine goes before it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        refused: bool,
    },
    /// The view of this revision is in force.
    Applied {
        /// Of the current epoch.
        revision: Revision,
    },
    /// The view that it has can't be continued: send a snapshot.
    Resync,
    /// The runner's addresses have changed.
    Endpoints {
        /// All of them.
        endpoints: Vec<SocketAddr>,
    },
    /// A question or a wish; answered by [`Down::Answer`] with the same number.
    Ask {
        /// Chosen by the agent, once a stream.
        request: u64,
        /// What.
        ask: Ask,
    },
    /// The answer to [`Down::Ping`].
    Pong,
}

/// The view that an agent has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Have {
    /// Of which epoch.
    pub epoch: Epoch,
    /// Of which revision.
    pub revision: Revision,
}

/// What an agent may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// A new instance on this runner.
    Attach {
        /// Of which service.
        service: ServicePath,
        /// One that is never a destination.
        #[serde(default)]
        client: bool,
    },
    /// The end of an instance.
    Detach {
        /// Which.
        instance: InstanceId,
    },
    /// No new connections to an instance from now on; those that stand stay.
    Drain {
        /// Which.
        instance: InstanceId,
    },
    /// New connections to an instance that was drained.
    Undrain {
        /// Which.
        instance: InstanceId,
    },
    /// The end of this runner: it and its instances are removed, and its credential is good for nothing any more.
    Leave,
    /// Answered when every runner concerned has applied this revision, or after two seconds.
    Settle {
        /// Of the current epoch.
        revision: Revision,
    },
    /// What an instance of this service would be given: for `env` and `hosts` before one runs.
    Lookup {
        /// Which service.
        service: ServicePath,
    },
    /// Why a connection is allowed or not: for `why`, where the runner's own view doesn't hold both ends.
    Why {
        /// Who calls.
        caller: ServicePath,
        /// Whom.
        callee: ServicePath,
        /// On which port.
        port: u16,
    },
}

/// Answers to [`Ask`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Ask::Attach`]: the instance is in the views of this revision and later.
    Attached {
        /// The new instance.
        instance: InstanceId,
        /// Its own address.
        address: Ipv4Addr,
        /// The commit that made it.
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
    /// To [`Ask::Lookup`]: the view that a runner with one instance of the service, and nothing else, would have.
    Found {
        /// That view.
        view: View,
    },
    /// To [`Ask::Why`].
    Why {
        /// Whether the connection may be opened.
        allowed: bool,
        /// How that came about.
        steps: Vec<Step>,
    },
}

/// A step of an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which: `names`, `rule`, `runner`, `path` or `verdict`.
    pub step: String,
    /// Whether nothing in this step stands in the way.
    pub ok: bool,
    /// What was found, in a word that stays the same; empty from a coordinator of version 0.1.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// In words.
    #[serde(deserialize_with = "words::plain")]
    pub detail: String,
}

/// Offloads that the coordinator can switch off for a runner, should a kernel turn out to corrupt packets.
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

/// Why an agent gets no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its machine is a copy of another one, which is connected.
    Copy,
    /// One that this version doesn't know.
    #[serde(other)]
    Other,
}

/// What the coordinator says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum Down {
    /// The stream has begun: the address from which the coordinator sees the runner. A view or delta follows at once if the
    /// agent's view isn't current; whatever else comes next says that it is.
    Welcome {
        /// Without mapping (RFC 4291 §2.5.5.2).
        seen_from: IpAddr,
    },
    /// The whole view: forget the one that you have.
    Snapshot {
        /// It.
        view: View,
    },
    /// What has changed.
    Delta(Delta),
    /// The offloads.
    Switches(Switches),
    /// No stream for this agent; the coordinator then ends it. Only to agents that told their process.
    Refused {
        /// For which reason.
        cause: Cause,
        /// In words, with what to do.
        refusal: Refusal,
    },
    /// Still there? Sent every two seconds; either side drops a stream that was silent for three such intervals.
    Ping,
    /// To [`Up::Ask`] of the same number.
    Answer {
        /// Which question.
        request: u64,
        /// The answer, or why there is none.
        result: Result<Answer, Refusal>,
    },
}

mod words;

#[cfg(test)]
mod tests;
