//! Limits. They are far above what a mesh of a thousand runners needs, and keep a mistake or an attacker from filling
//! the coordinator or its runners.

use std::ops::RangeInclusive;

use crate::UnixSeconds;

/// The quarantine of freed addresses, in seconds, unless [`crate::record::Meta`] has another.
pub const QUARANTINE: u64 = 600;
/// How much longer it is where several coordinators serve, whose running times can differ for a moment.
pub const SKEW: u64 = 30;
/// The MTU of `mesh0`, in bytes: from IPv4's minimum to what fits a jumbo frame.
pub const MTU: RangeInclusive<u16> = 576..=8920;
/// Audit entries that are kept of administrators, and as many of runners.
pub const AUDIT: usize = 10_000;
/// Audit entries that are kept of refusals.
pub const AUDIT_REFUSED: usize = 1000;
/// Refusals of one team's administrators that are noted within an hour.
pub const REFUSALS_NOTED: usize = 60;
/// Characters of a refusal's reason that are noted.
pub const REFUSED_DETAIL: usize = 500;
/// Audit entries about one runner's repeated enrolments, within an hour.
pub const ENROLMENTS_NOTED: usize = 4;
/// Audit entries about services that one runner begins to host, within an hour.
pub const HOSTING_NOTED: usize = 100;
/// One of this many places is reserved for the operator.
pub const OPERATORS_PART: usize = 16;
/// A team may have this many times as many addresses as are left, if there are several teams.
pub const ADDRESSES_SHARE: usize = 8;
/// Audit entries about one runner's replaced streams, within an hour.
pub const TAKEOVERS_NOTED: usize = 10;
/// Removed runners that are kept and shown.
pub const REMOVED_RUNNERS: usize = 1000;
/// Removed runners that are kept while their credentials for relays may be good, so that relays hear of them.
pub const REVOKED_RUNNERS: usize = 10_000;
/// Removed runners that one removal deletes.
pub const FORGOTTEN_AT_ONCE: usize = 16;
/// Runners, without removed ones.
pub const RUNNERS: usize = 10_000;
/// Valid tokens.
pub const TOKENS: usize = 10_000;
/// Invalid tokens without runners that are kept.
pub const DEAD_TOKENS: usize = 2000;
/// Bytes of a token's name.
pub const TOKEN_NAME: usize = 64;
/// How long an expired token is kept, in seconds, so that its holder learns why it is refused.
pub const DEAD_TOKEN: u64 = 30 * 86_400;
/// The lifetime of a token, in seconds.
pub const TTL: RangeInclusive<u64> = 1..=10 * 365 * 86_400;
/// How long before its creation a token may be used, in seconds, because clocks are corrected now and then.
pub const TOKEN_EARLY: u64 = 60;
/// Runners that one token may enrol.
pub const USES: RangeInclusive<u32> = 1..=100_000;
/// Deployments.
pub const DEPLOYMENTS: usize = 10_000;
/// Files in one `apply`.
pub const FILES: usize = 1024;
/// Services of a deployment.
pub const SERVICES: usize = 4096;
/// All services, for requests of teams' administrators.
pub const ALL_SERVICES: usize = 65_536;
/// Bytes of all aliases, names in `ist` and patterns in `expose`, for requests of teams' administrators.
pub const ALL_NAMES: usize = 16 << 20;
/// Entries, patterns and ports of all trust lists, for requests of teams' administrators.
pub const ALL_TRUST: usize = 65_536;
/// Instances of a service.
pub const INSTANCES_OF_SERVICE: usize = 256;
/// Instances of a service on one runner, so that no runner can have them all.
pub const INSTANCES_OF_SERVICE_ON_RUNNER: usize = 64;
/// Instances on a runner.
pub const INSTANCES_ON_RUNNER: usize = 4096;
/// Aliases of a service, entries of its `ist`, and names in such an entry.
pub const NAMES: usize = 256;
/// Entries of a deployment's trust list.
pub const TRUST: usize = 1024;
/// Patterns in an `expose` or in an entry of a trust list, and ports in such an entry.
pub const PATTERNS: usize = 256;
/// Patterns and ports in a whole trust list.
pub const TRUST_NAMES: usize = 4096;
/// The work of resolving who may call a deployment: names compared with wildcard patterns, and services opened to
/// callers on ports. This is as much as 64 wildcard patterns over 4,096 services.
pub const TRUST_WORK: usize = 1 << 18;
/// The same for all deployments of a team, for requests of teams' administrators.
pub const TRUST_WORK_OF_TEAM: usize = 1 << 20;
/// Teams or deployments in a token's scope.
pub const SCOPE: usize = 256;
/// Endpoints of a runner.
pub const ENDPOINTS: usize = mesh_proto::endpoint::MAX_ENDPOINTS;
/// Reflexive addresses of a runner.
pub const REFLEXIVE: usize = mesh_proto::relay::MAX_REFLEXIVE;
/// Relayed addresses of a runner.
pub const RELAYED: usize = mesh_proto::relay::MAX_RELAYED;
/// Relays of the mesh.
pub const RELAYS: usize = mesh_proto::relay::MAX_RELAYS;
/// Addresses of a relay for one transport.
pub const PLACES: usize = mesh_proto::relay::MAX_PLACES;
/// How long a credential for a relay can be good, in seconds. It is renewed at half.
pub const RELAY_CREDENTIAL: u64 = 7 * 86_400;
/// Whether a runner that was removed then may still hold such a credential.
pub(crate) fn may_hold_credentials(removed: UnixSeconds, now: UnixSeconds) -> bool {
    removed.plus(RELAY_CREDENTIAL) > now
}
/// How long an ephemeral runner is silent before it is removed, in seconds: longer than a machine takes to boot.
pub const EPHEMERAL: u64 = 600;
/// Bytes of an agent's version.
pub const VERSION: usize = 64;
/// Bytes of a deployment file's name.
pub const FILE_NAME: usize = 4096;
/// Freed instance addresses that gather before they are reused while fresh ones are left.
pub const INSTANCE_ADDRESSES_RESTING: usize = 4096;
/// How far the number of an instance that a runner brings back may be beyond the next number.
pub const ADOPT_AHEAD: u64 = 1 << 32;
/// Services that a service has called, as far as that is kept in the records.
pub const CALLEES: usize = 256;
/// The same for all services together. Above it, the teams with most of them lose the oldest.
pub const CALLS: usize = 20_000;
/// How long that is kept after the last call, in seconds.
pub const CALLS_KEPT: u64 = 30 * 86_400;
/// Of how many hours it is kept what passed in each.
pub const HOURS: u64 = 24;
/// For how long after its last call a service counts as in use, in seconds.
pub const IN_USE: u64 = 86_400;
/// Entries of each list in the effect of a command.
pub const EFFECT: usize = 1000;
/// Expectations in one call of `apply`.
pub const EXPECTATIONS: usize = 10_000;
/// Names that are compared for a hint.
pub const CANDIDATES: usize = 1000;
