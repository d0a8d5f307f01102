//! The commands of administrators, of runners and of the coordinator itself.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use mesh_proto::{
    Abilities, InstanceId, Label, Ports, PublicKey, RelayId, Release, Revision, RunnerId, Secret, SecretHash,
    ServicePath, TokenId,
    message::{Held, Switches},
    relay::wire::RelayPublic,
};
use serde::{Deserialize, Serialize};

use crate::{
    Role,
    declare::{Expect, File, Pattern},
    record::{By, MemberId, Noted, Outside, Owes, SecretHandle, Session, StreamKey},
};

/// A command to decide on.
#[derive(Debug, Clone)]
pub enum Command {
    /// An administrator's command.
    Admin {
        /// The administrator: at the socket, or from [`crate::State::authenticate_admin`].
        by: Admin,
        /// What to do.
        what: AdminCommand,
    },
    /// [`AdminCommand::Apply`], with the expectations of the files: [`crate::Outcome::Planned`].
    Apply {
        /// The administrator.
        by: Admin,
        /// What to do.
        what: Apply,
    },
    /// A request for a token: [`crate::Outcome::TokenCreated`].
    CreateToken {
        /// The administrator.
        by: Admin,
        /// The token to make.
        token: NewToken,
        /// The hash of its secret, which the coordinator drew.
        secret: SecretHash,
    },
    /// An administrator was refused; recorded in the audit: [`crate::Outcome::Noted`].
    Refused {
        /// The administrator.
        by: Admin,
        /// The refused action, in a word.
        action: String,
        /// Its object, and the reason.
        detail: String,
    },
    /// A runner's request.
    Runner {
        /// The runner, from [`crate::State::authenticate_runner`].
        by: RunnerId,
        /// What to do.
        what: RunnerCommand,
    },
    /// The same by one of its streams, where several coordinators serve. Refused once a newer one has begun.
    Streamed {
        /// The runner.
        by: RunnerId,
        /// The stream.
        stream: StreamKey,
        /// What to do.
        what: RunnerCommand,
    },
    /// A runner's stream begins, where several coordinators serve; earlier ones end: [`crate::Outcome::Noted`].
    Begin {
        /// The stream.
        session: Session,
        /// The coordinators that may have an earlier one. If another process of the agent's has it, the audit notes
        /// that.
        living: BTreeSet<MemberId>,
    },
    /// By a coordinator, of runners' streams that it has, or whose coordinator is gone: [`crate::Outcome::Noted`].
    Owing(Vec<Owing>),
    /// By the coordinator: what its runners have reported of calls since the last time: [`crate::Outcome::Noted`].
    NoteCalls(Vec<Noted>),
    /// A machine asks to become a runner.
    Enrol(Enrolment),
    /// A relay, which the coordinator has tried: [`crate::Outcome::RelayAdded`].
    AddRelay {
        /// The administrator.
        by: Admin,
        /// The relay.
        relay: NewRelay,
        /// Where its secret is.
        secret: SecretHandle,
    },
    /// A process asks to become a relay of the mesh.
    EnrolRelay(RelayEnrolment),
    /// An own relay's stream begins: [`crate::Outcome::Noted`]. If it reports nothing new, nothing changes.
    RelayHello {
        /// The relay, from [`crate::State::authenticate_relay`].
        by: RelayId,
        /// Its version.
        version: String,
        /// Where runners reach it.
        public: RelayPublic,
    },
    /// By the coordinator: these runners are silent. Other runners are preferred until their next streams begin:
    /// [`crate::Outcome::Noted`].
    Silent {
        /// The runners. Those that are silent already or don't exist any more don't count.
        runners: BTreeSet<RunnerId>,
        /// For how many seconds marking them was held back because they were so many, which the audit notes.
        held_back: Option<u64>,
    },
    /// By the coordinator: this runner was silent for [`crate::limits::EPHEMERAL`] seconds. An ephemeral runner is
    /// removed: [`crate::Outcome::Noted`].
    Expire(RunnerId),
    /// By the coordinator: this runner has seen a later revision of the database than there is, so the database was put
    /// back to an earlier state. Recorded in the audit: [`crate::Outcome::Noted`].
    PutBack {
        /// The runner.
        runner: RunnerId,
        /// The revision that it has seen.
        seen: Revision,
    },
}

/// What the runner of a stream may still act on, where several coordinators serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owing {
    /// The runner.
    pub runner: RunnerId,
    /// The stream. If it isn't the newest one, nothing changes.
    pub stream: StreamKey,
    /// All of it.
    pub owes: Owes,
    /// Whether the stream has ended.
    pub ended: bool,
}

/// An administrator of the mesh, or of one team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// How it was authenticated.
    pub via: Via,
    /// The team whose deployments, tokens and runners it is limited to.
    pub team: Option<Label>,
    /// What it may do there.
    pub role: Role,
}

/// How an administrator is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Via {
    /// By its user id at the coordinator's own socket.
    Socket {
        /// The user id.
        uid: u32,
    },
    /// By this admin token.
    Token(TokenId),
}

impl Admin {
    /// An administrator at the coordinator's own socket, not limited to a team.
    #[must_use]
    pub const fn socket(uid: u32) -> Self {
        Self { via: Via::Socket { uid }, team: None, role: Role::Admin }
    }

    /// Whether it may see and change what belongs to `team`.
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

/// Creates and changes deployments as files declare, if all that the files expect holds then.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Apply {
    /// The files, applied together or not at all.
    pub files: Vec<File>,
    /// What has to hold afterwards.
    #[serde(default)]
    pub expect: Vec<Expect>,
    /// Only report what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// Also remove services that have instances.
    #[serde(default)]
    pub force: bool,
    /// Whether services that the files no longer declare may be removed.
    #[serde(default)]
    pub prune: bool,
}

/// An administrator's command. Serialised, it is the body of an admin request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum AdminCommand {
    /// Creates and changes deployments as files declare: [`crate::Outcome::Planned`].
    Apply {
        /// The files, applied together or not at all.
        files: Vec<File>,
        /// Only report what would change.
        #[serde(default)]
        dry_run: bool,
        /// Also remove services that have instances.
        #[serde(default)]
        force: bool,
        /// Whether services that the files no longer declare may be removed. `None`: the client is older than this
        /// field and asked the operator itself.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prune: Option<bool>,
    },
    /// Deletes a deployment, and removes its name from all trust lists: [`crate::Outcome::Deleted`].
    Delete {
        /// The deployment.
        deployment: Label,
        /// Also if it has instances.
        #[serde(default)]
        force: bool,
    },
    /// Changes who may call a deployment: [`crate::Outcome::Trusted`].
    Trust {
        /// The called deployment.
        deployment: Label,
        /// The change.
        change: TrustChange,
    },
    /// Ends a token: [`crate::Outcome::TokenRevoked`].
    RevokeToken {
        /// The token.
        token: TokenId,
        /// Also remove the runners that it enrolled.
        #[serde(default)]
        with_nodes: bool,
    },
    /// Removes a runner for good: [`crate::Outcome::NodeRemoved`].
    RemoveNode {
        /// The name.
        name: Label,
        /// Also if it has instances.
        #[serde(default)]
        force: bool,
    },
    /// Removes a relay. Runners leave it at once: [`crate::Outcome::RelayRemoved`].
    RemoveRelay {
        /// The name.
        name: Label,
    },
    /// Ends new connections to an instance: [`crate::Outcome::InstanceDrained`].
    Drain {
        /// The instance.
        instance: InstanceId,
    },
    /// Allows new connections to a drained instance: [`crate::Outcome::InstanceDrained`].
    Undrain {
        /// The instance.
        instance: InstanceId,
    },
    /// Ends new connections to all that a runner hosts and will host: [`crate::Outcome::NodeDrained`].
    DrainNode {
        /// The name.
        name: Label,
    },
    /// Allows new connections to a drained runner: [`crate::Outcome::NodeDrained`].
    UndrainNode {
        /// The name.
        name: Label,
    },
    /// Switches an offload: [`crate::Outcome::Switched`]. It is on where the mesh's switch and the runner's own are
    /// both on.
    Switch {
        /// The offload.
        offload: Offload,
        /// On, or off.
        on: bool,
        /// The runner; `None`: the whole mesh.
        node: Option<Label>,
    },
}

/// An offload that can be switched off, in case a kernel corrupts packets with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
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

    /// Its name in commands.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TunGso => "tun-gso",
            Self::UdpGso => "udp-gso",
            Self::UdpGro => "udp-gro",
        }
    }

    /// Its field among the switches.
    pub const fn of(self, switches: &mut Switches) -> &mut bool {
        match self {
            Self::TunGso => &mut switches.tun_gso,
            Self::UdpGso => &mut switches.udp_gso,
            Self::UdpGro => &mut switches.udp_gro,
        }
    }
}

/// A change of a deployment's trust.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum TrustChange {
    /// Trusts deployments, in addition to what they may call already.
    Add {
        /// The calling deployments, which need not exist yet.
        callers: BTreeSet<Label>,
        /// The services; `None`: those of the callee's `expose`.
        services: Option<Vec<Pattern>>,
        /// The ports.
        ports: Ports,
    },
    /// Removes trust: with services or ports exactly that entry, without all entries of these callers.
    Remove {
        /// The calling deployments.
        callers: BTreeSet<Label>,
        /// The services of the entry.
        services: Option<Vec<Pattern>>,
        /// The ports of the entry.
        ports: Ports,
    },
    /// Removes all entries.
    Clear,
}

/// A token to make. Serialised, it is the body of a request for one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = TokenWish))]
pub struct NewToken {
    /// Its purpose.
    pub purpose: NewPurpose,
    /// How long it is valid, in seconds.
    pub ttl: u64,
    /// Whether its runners are removed after [`crate::limits::EPHEMERAL`] seconds of silence.
    #[serde(default)]
    pub ephemeral: bool,
    /// A name for people, also shown in the audit.
    #[serde(default)]
    pub name: Option<String>,
}

/// The purpose of a new token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(tag = "for", rename_all = "kebab-case")]
pub enum NewPurpose {
    /// To enrol runners that may host any deployment.
    JoinAny {
        /// The number of runners.
        uses: u32,
    },
    /// To enrol runners that may host the deployments of these teams.
    JoinTeams {
        /// The teams.
        teams: BTreeSet<Label>,
        /// The number of runners.
        uses: u32,
    },
    /// To enrol runners that may host these deployments.
    JoinDeployments {
        /// The deployments, which must exist.
        deployments: BTreeSet<Label>,
        /// The number of runners.
        uses: u32,
    },
    /// To administer over the network, with all rights.
    Admin {
        /// The team that it is limited to.
        team: Option<Label>,
    },
    /// To administer over the network, with a role. A coordinator of before roles refuses it.
    Role {
        /// The role.
        role: Role,
        /// The team that it is limited to.
        team: Option<Label>,
    },
    /// To enrol one relay.
    Relay {
        /// Its name.
        name: Label,
    },
}

/// A TURN server that is there, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = RelayWish))]
pub struct NewRelay {
    /// Its name.
    pub name: Label,
    /// Where it is.
    #[serde(flatten)]
    pub public: RelayPublic,
}

/// A process asks to become a relay: [`crate::Outcome::RelayEnrolled`].
#[derive(Debug, Clone)]
pub struct RelayEnrolment {
    /// The relay token that it presents.
    pub token: TokenId,
    /// The token's secret, as presented.
    pub secret: Secret,
    /// Where runners reach it.
    pub public: RelayPublic,
    /// The hash of the new credential's secret, which the coordinator drew.
    pub credential: SecretHash,
    /// Where the relay's own secret is.
    pub handle: SecretHandle,
}

/// A request from a runner.
#[derive(Debug, Clone)]
pub enum RunnerCommand {
    /// Its stream begins: [`crate::Outcome::Welcomed`]. If it reports nothing new, nothing changes.
    Hello {
        /// The agent's version.
        version: String,
        /// What its agent can do.
        can: Abilities,
        /// The endpoints that it reports.
        endpoints: Vec<SocketAddr>,
        /// Its address as the coordinator sees it, with the UDP port that it reports. `None`: peers use its own
        /// endpoints only.
        seen: Option<SocketAddr>,
        /// What it tells of its addresses outside.
        outside: Outside,
        /// The instances that it has.
        instances: Vec<Held>,
    },
    /// Its endpoints have changed: [`crate::Outcome::Noted`].
    Endpoints {
        /// All its endpoints.
        endpoints: Vec<SocketAddr>,
        /// What it tells of its addresses outside.
        outside: Outside,
    },
    /// A new instance: [`crate::Outcome::Attached`].
    Attach {
        /// The service.
        service: ServicePath,
        /// Whether it is never a destination.
        client: bool,
        /// The release that it runs.
        release: Option<Release>,
    },
    /// Ends an instance: [`crate::Outcome::Detached`]. An unknown instance, or another runner's, is no error.
    Detach {
        /// The instance.
        instance: InstanceId,
    },
    /// Ends new connections to an instance: [`crate::Outcome::Drained`]. A second time, nothing changes.
    Drain {
        /// The instance.
        instance: InstanceId,
    },
    /// Allows new connections to a drained instance: [`crate::Outcome::Undrained`].
    Undrain {
        /// The instance.
        instance: InstanceId,
    },
    /// It leaves the mesh for good, and its instances end: [`crate::Outcome::Left`].
    Leave,
    /// A newer stream with its credential replaced an open one; recorded in the audit: [`crate::Outcome::Noted`].
    TakenOver {
        /// The address of the newer stream.
        from: IpAddr,
    },
    /// A copy of its machine presented its credential and was refused; recorded in the audit:
    /// [`crate::Outcome::Noted`].
    CopyRefused {
        /// Where the first machine is, in words.
        first: String,
        /// The address of the copy.
        from: IpAddr,
    },
}

/// A machine asks to become a runner: [`crate::Outcome::Enrolled`].
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The join token that it presents.
    pub token: TokenId,
    /// The token's secret, as presented.
    pub secret: Secret,
    /// The name that it asks for.
    pub name: Label,
    /// Its provider.
    pub provider: Label,
    /// Its WireGuard key.
    pub public_key: PublicKey,
    /// Whether it has proved that it holds the private key: [`mesh_proto::PrivateKey::verify`].
    pub proved: bool,
    /// Take the name over from the runner that has it, which is removed.
    pub replace: bool,
    /// The hash of the new credential's secret, which the coordinator drew.
    pub credential: SecretHash,
}
