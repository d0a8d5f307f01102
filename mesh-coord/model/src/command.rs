//! What the coordinator may be asked to do.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use mesh_proto::{
    InstanceId, Label, Ports, PublicKey, RunnerId, Secret, SecretHash, ServicePath, TokenId,
    message::{Held, Switches},
};
use serde::{Deserialize, Serialize};

use crate::{
    declare::{File, Pattern},
    record::By,
};

/// Something to decide on.
#[derive(Debug, Clone)]
pub enum Command {
    /// An administrator's order.
    Admin {
        /// The administrator: at the socket, or from [`crate::State::authenticate_admin`].
        by: Admin,
        /// What.
        what: AdminCommand,
    },
    /// An administrator's wish for a token: [`crate::Outcome::TokenCreated`].
    CreateToken {
        /// Who asks.
        by: Admin,
        /// What for.
        token: NewToken,
        /// The hash of its secret, which the coordinator has drawn.
        secret: SecretHash,
    },
    /// An administrator was refused something; for the audit: [`crate::Outcome::Noted`].
    Refused {
        /// Who.
        by: Admin,
        /// What they wanted, in a word.
        action: String,
        /// On what, and why not.
        detail: String,
    },
    /// A runner's wish.
    Runner {
        /// Which runner: from [`crate::State::authenticate_runner`].
        by: RunnerId,
        /// What.
        what: RunnerCommand,
    },
    /// A machine that wants to be a runner.
    Enrol(Enrolment),
    /// The coordinator's own: this runner is silent. Others are preferred to it from now on, until its next stream
    /// begins: [`crate::Outcome::Noted`].
    Silent(RunnerId),
    /// The coordinator's own: this runner was silent for [`crate::limits::EPHEMERAL`] seconds. If it is ephemeral it
    /// is removed: [`crate::Outcome::Noted`].
    Expire(RunnerId),
}

/// An administrator of the mesh, or of one team's part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// By what right.
    pub via: Via,
    /// Only this team's deployments, tokens and runners.
    pub team: Option<Label>,
}

/// How an administrator is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Via {
    /// They reached the coordinator's own socket.
    Socket {
        /// Their user id there.
        uid: u32,
    },
    /// They hold this admin token.
    Token(TokenId),
}

impl Admin {
    /// An administrator at the coordinator's own socket: not bound to a team.
    #[must_use]
    pub const fn socket(uid: u32) -> Self {
        Self { via: Via::Socket { uid }, team: None }
    }

    /// Whether what belongs to `team` is theirs to see and to change.
    #[must_use]
    pub fn rules(&self, team: &Label) -> bool {
        self.team.as_ref().is_none_or(|own| own == team)
    }
}

impl From<Via> for By {
    fn from(via: Via) -> Self {
        match via {
            Via::Socket { uid } => Self::Socket { uid },
            Via::Token(id) => Self::Token(id),
        }
    }
}

/// An administrator's order. Serialised, it is the body of an admin request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum AdminCommand {
    /// Makes deployments as files say: [`crate::Outcome::Planned`].
    Apply {
        /// All of them are carried out, or none.
        files: Vec<File>,
        /// Change nothing, only say what would be.
        #[serde(default)]
        dry_run: bool,
        /// Also remove services that have instances.
        #[serde(default)]
        force: bool,
        /// Whether services that the files no longer declare may be removed. `None`: from a program that knows nothing of this, and
        /// sees to it by itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prune: Option<bool>,
    },
    /// Deletes a deployment, and takes its name off all trust lists: [`crate::Outcome::Deleted`].
    Delete {
        /// Which.
        deployment: Label,
        /// Also where it has instances.
        #[serde(default)]
        force: bool,
    },
    /// Changes who may call a deployment: [`crate::Outcome::Trusted`].
    Trust {
        /// Who is called.
        deployment: Label,
        /// How.
        change: TrustChange,
    },
    /// Ends a token: [`crate::Outcome::TokenRevoked`].
    RevokeToken {
        /// Which.
        token: TokenId,
        /// Remove the runners that it enrolled, too.
        #[serde(default)]
        with_nodes: bool,
    },
    /// Removes a runner for good: [`crate::Outcome::NodeRemoved`].
    RemoveNode {
        /// Which.
        name: Label,
        /// Also where it has instances.
        #[serde(default)]
        force: bool,
    },
    /// No new connections to an instance from now on: [`crate::Outcome::InstanceDrained`].
    Drain {
        /// Which.
        instance: InstanceId,
    },
    /// New connections to an instance that was drained: [`crate::Outcome::InstanceDrained`].
    Undrain {
        /// Which.
        instance: InstanceId,
    },
    /// No new connections to what a runner hosts and will host: [`crate::Outcome::NodeDrained`].
    DrainNode {
        /// Which.
        name: Label,
    },
    /// New connections to a runner that was drained: [`crate::Outcome::NodeDrained`].
    UndrainNode {
        /// Which.
        name: Label,
    },
    /// Switches an offload: [`crate::Outcome::Switched`]. It is on where the mesh's switch and the runner's own are.
    Switch {
        /// Which.
        offload: Offload,
        /// On, or off.
        on: bool,
        /// Of this runner only; `None`: the mesh's switch.
        node: Option<Label>,
    },
}

/// An offload that can be switched off, should a kernel turn out to corrupt packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Offload {
    /// TCP super-packets on TUN devices, both ways.
    TunGso,
    /// `UDP_SEGMENT` on send.
    UdpGso,
    /// `UDP_GRO` on receive.
    UdpGro,
}

impl Offload {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::TunGso, Self::UdpGso, Self::UdpGro];

    /// As it is written.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TunGso => "tun-gso",
            Self::UdpGso => "udp-gso",
            Self::UdpGro => "udp-gro",
        }
    }

    /// Its place among the switches.
    pub const fn of(self, switches: &mut Switches) -> &mut bool {
        match self {
            Self::TunGso => &mut switches.tun_gso,
            Self::UdpGso => &mut switches.udp_gso,
            Self::UdpGro => &mut switches.udp_gro,
        }
    }
}

/// How a deployment's trust is to change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum TrustChange {
    /// Lets deployments call. What they could call before they still can.
    Add {
        /// Which deployments; they need not exist yet.
        callers: BTreeSet<Label>,
        /// Which services; `None`: those that `expose` says.
        services: Option<Vec<Pattern>>,
        /// On which ports.
        ports: Ports,
    },
    /// Takes the right away: with services or ports given, just the entry that says so; without, all of theirs.
    Remove {
        /// From which deployments.
        callers: BTreeSet<Label>,
        /// The services of the entry.
        services: Option<Vec<Pattern>>,
        /// The ports of the entry.
        ports: Ports,
    },
    /// No deployment may call any more.
    Clear,
}

/// A token to be made. Serialised, it is the body of a request for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewToken {
    /// What it is for.
    pub purpose: NewPurpose,
    /// How long it is good, in seconds.
    pub ttl: u64,
    /// The runners that it enrols are removed after [`crate::limits::EPHEMERAL`] seconds of silence.
    #[serde(default)]
    pub ephemeral: bool,
    /// What people call it; the audit names it.
    #[serde(default)]
    pub name: Option<String>,
}

/// What a new token is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "for", rename_all = "kebab-case")]
pub enum NewPurpose {
    /// To enrol runners that may host anything.
    JoinAny {
        /// How many.
        uses: u32,
    },
    /// To enrol runners that may host the deployments of these teams.
    JoinTeams {
        /// Which teams.
        teams: BTreeSet<Label>,
        /// How many runners.
        uses: u32,
    },
    /// To enrol runners that may host these deployments.
    JoinDeployments {
        /// Which deployments; they must exist.
        deployments: BTreeSet<Label>,
        /// How many runners.
        uses: u32,
    },
    /// To administer from afar.
    Admin {
        /// Only what is this team's.
        team: Option<Label>,
    },
}

/// A runner's wish.
#[derive(Debug, Clone)]
pub enum RunnerCommand {
    /// Its stream begins: [`crate::Outcome::Welcomed`]. No change where nothing is new.
    Hello {
        /// The agent's version.
        version: String,
        /// Where it may be reached, as it says.
        endpoints: Vec<SocketAddr>,
        /// Where the coordinator sees it, with the UDP port that it told; `None`: only its own endpoints are to be tried.
        seen: Option<SocketAddr>,
        /// The instances that it holds.
        instances: Vec<Held>,
    },
    /// Its endpoints are these now: [`crate::Outcome::Noted`].
    Endpoints {
        /// All that it knows of.
        endpoints: Vec<SocketAddr>,
    },
    /// A new instance: [`crate::Outcome::Attached`].
    Attach {
        /// Of which service.
        service: ServicePath,
        /// One that is never a destination.
        client: bool,
    },
    /// The end of an instance: [`crate::Outcome::Detached`]. One that isn't there, or not on this runner, is no error.
    Detach {
        /// Which.
        instance: InstanceId,
    },
    /// No new connections to an instance from now on: [`crate::Outcome::Drained`]. Again, it changes nothing.
    Drain {
        /// Which.
        instance: InstanceId,
    },
    /// New connections to an instance that was drained: [`crate::Outcome::Undrained`].
    Undrain {
        /// Which.
        instance: InstanceId,
    },
    /// It leaves the mesh for good, with its instances: [`crate::Outcome::Left`].
    Leave,
    /// A newer stream with its credential took the place of a standing one; for the audit: [`crate::Outcome::Noted`].
    TakenOver {
        /// Where the newer one comes from.
        from: IpAddr,
    },
    /// A copy of its machine showed its credential and was refused; for the audit: [`crate::Outcome::Noted`].
    CopyRefused {
        /// Where the first one is, in words.
        first: String,
        /// Where the copy comes from.
        from: IpAddr,
    },
}

/// A machine that wants to be a runner: [`crate::Outcome::Enrolled`].
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The join token that it shows.
    pub token: TokenId,
    /// That token's secret, as shown.
    pub secret: Secret,
    /// The name that it wants.
    pub name: Label,
    /// Its provider.
    pub provider: Label,
    /// Its WireGuard key.
    pub public_key: PublicKey,
    /// Whether it has proved that it holds the private half: [`mesh_proto::PrivateKey::verify`].
    pub proved: bool,
    /// Take the name over from the runner that has it, and remove that one.
    pub replace: bool,
    /// The hash of the new credential's secret, which the coordinator has drawn.
    pub credential: SecretHash,
}
