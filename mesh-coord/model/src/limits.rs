//! How much of everything there may be. The bounds are far above what a mesh of a thousand runners needs; they keep a
//! mistake or an attacker from filling the coordinator or its runners.

use std::ops::RangeInclusive;

/// How long a freed address rests, in seconds, unless the record [`crate::record::Meta`] says otherwise.
pub const QUARANTINE: u64 = 600;
/// MTUs of `mesh0`, in bytes: from IPv4's minimum to what a jumbo frame has room for.
pub const MTU: RangeInclusive<u16> = 576..=8920;
/// Entries of the audit that are kept of administrators, and as many of runners.
pub const AUDIT: usize = 10_000;
/// Entries of the audit that are kept of what administrators were refused.
pub const AUDIT_REFUSED: usize = 1000;
/// What administrators of one team are refused within an hour and that is noted.
pub const REFUSALS_NOTED: usize = 60;
/// Characters of the reason that are noted.
pub const REFUSED_DETAIL: usize = 500;
/// Entries of the audit about one runner that enrols again, within an hour.
pub const ENROLMENTS_NOTED: usize = 4;
/// Entries of the audit about one runner that begins to host services, within an hour.
pub const HOSTING_NOTED: usize = 100;
/// One of so many places is the operator's: no team's administrators can take it.
pub const OPERATORS_PART: usize = 16;
/// How many times as many addresses as are left a team may have, where there are several.
pub const ADDRESSES_SHARE: usize = 8;
/// Entries of the audit about streams of one runner that took over from another one, in an hour.
pub const TAKEOVERS_NOTED: usize = 10;
/// Removed runners that are kept.
pub const REMOVED_RUNNERS: usize = 1000;
/// Runners that are not removed.
pub const RUNNERS: usize = 10_000;
/// Tokens that are good for something.
pub const TOKENS: usize = 10_000;
/// Tokens that are kept although they are good for nothing any more and have no runners.
pub const DEAD_TOKENS: usize = 2000;
/// Bytes of a token's name.
pub const TOKEN_NAME: usize = 64;
/// How long a token is kept after it expired, in seconds, so that its holder hears why it is refused.
pub const DEAD_TOKEN: u64 = 30 * 86_400;
/// How long a token may be good, in seconds.
pub const TTL: RangeInclusive<u64> = 1..=10 * 365 * 86_400;
/// How long before its making a token may be shown, in seconds: the clock is corrected now and then.
pub const TOKEN_EARLY: u64 = 60;
/// How many runners one token may enrol.
pub const USES: RangeInclusive<u32> = 1..=100_000;
/// Deployments.
pub const DEPLOYMENTS: usize = 10_000;
/// Files in one `apply`.
pub const FILES: usize = 1024;
/// Services of a deployment.
pub const SERVICES: usize = 4096;
/// Services, where teams' own administrators ask for more.
pub const ALL_SERVICES: usize = 65_536;
/// Bytes of all aliases, of the names in `ist` and of the patterns in `expose`, where teams' own administrators ask for more.
pub const ALL_NAMES: usize = 16 << 20;
/// Entries, patterns and ports of all trust lists, where teams' own administrators ask for more.
pub const ALL_TRUST: usize = 65_536;
/// Instances of a service.
pub const INSTANCES_OF_SERVICE: usize = 256;
/// Instances of a service on one runner: no runner alone can have them all.
pub const INSTANCES_OF_SERVICE_ON_RUNNER: usize = 64;
/// Instances on a runner.
pub const INSTANCES_ON_RUNNER: usize = 4096;
/// Aliases of a service; entries of its `ist`; names in one of these.
pub const NAMES: usize = 256;
/// Entries of a deployment's trust list.
pub const TRUST: usize = 1024;
/// Patterns in an `expose` or in one entry of a trust list, and ports in one entry.
pub const PATTERNS: usize = 256;
/// Patterns and ports in all entries of a trust list together.
pub const TRUST_NAMES: usize = 4096;
/// What it may take to work out who may call a deployment: names held against patterns with `*`, and services opened to
/// callers on ports. As much as 64 such patterns over 4,096 services.
pub const TRUST_WORK: usize = 1 << 18;
/// What it may take for all deployments of a team, where the team's own administrators ask for more.
pub const TRUST_WORK_OF_TEAM: usize = 1 << 20;
/// Names of teams or deployments in a token's scope.
pub const SCOPE: usize = 256;
/// Endpoints of a runner.
pub const ENDPOINTS: usize = 16;
/// How long an ephemeral runner is silent before it is removed, in seconds: longer than a machine takes to start.
pub const EPHEMERAL: u64 = 600;
/// Bytes of an agent's version.
pub const VERSION: usize = 64;
/// Bytes of a deployment file's name.
pub const FILE_NAME: usize = 4096;
/// Freed instance addresses that gather before one of them is used again while there are fresh ones.
pub const INSTANCE_ADDRESSES_RESTING: usize = 4096;
/// How far beyond the next number an instance may be that a runner brings back after a restore from a backup.
pub const ADOPT_AHEAD: u64 = 1 << 32;
/// Names that a hint is sought among.
pub const CANDIDATES: usize = 1000;
