//! What services call, by the hour.

use mesh_proto::ServiceId;
use serde::{Deserialize, Serialize};

use crate::UnixSeconds;

/// What a service has called in the last days, as runners have reported it. It grants and takes nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calls {
    /// The caller.
    pub caller: ServiceId,
    /// What it has called, by identifier.
    pub callees: Vec<Callee>,
}

/// A service that was called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Callee {
    /// The service.
    pub callee: ServiceId,
    /// When a call of it was noted first.
    pub first: UnixSeconds,
    /// When it was last in use.
    pub last: UnixSeconds,
    /// The hours in which anything passed, in order. Only the last [`crate::limits::HOURS`] count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hours: Vec<Hour>,
}

/// What passed in an hour. Both ends report the same connections, unless one of them can't be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "HourOnDisk", from = "HourOnDisk")]
pub struct Hour {
    /// The hours since 1970-01-01 00:00 UTC.
    pub hour: u64,
    /// What the callers' runners have reported.
    pub by_callers: Passed,
    /// What the callees' runners have reported.
    pub by_callees: Passed,
}

/// What passed from one service to another one.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Passed {
    /// Connections that were accepted.
    pub opened: u64,
    /// Bytes of TCP payload, both ways.
    pub bytes: u64,
}

impl Passed {
    /// Both together. Counts come from runners: a sum has a limit.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self { opened: self.opened.saturating_add(other.opened), bytes: self.bytes.saturating_add(other.bytes) }
    }

    /// What has passed since `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self { opened: self.opened.saturating_sub(before.opened), bytes: self.bytes.saturating_sub(before.bytes) }
    }
}

impl Hour {
    /// What passed, by the end that has reported more.
    #[must_use]
    pub fn passed(&self) -> Passed {
        let Self { by_callers: callers, by_callees: callees, .. } = self;
        Passed { opened: callers.opened.max(callees.opened), bytes: callers.bytes.max(callees.bytes) }
    }
}

/// What runners have reported of two services since it was noted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted {
    /// The caller.
    pub caller: ServiceId,
    /// The callee.
    pub callee: ServiceId,
    /// When it was last in use.
    pub used: UnixSeconds,
    /// What passed, and in which hour.
    pub hour: Hour,
}

/// The hour of a time.
#[must_use]
pub const fn hour_of(at: UnixSeconds) -> u64 {
    at.0 / 3600
}

type HourOnDisk = (u64, u64, u64, u64, u64);

impl From<Hour> for HourOnDisk {
    fn from(Hour { hour, by_callers, by_callees }: Hour) -> Self {
        (hour, by_callers.opened, by_callers.bytes, by_callees.opened, by_callees.bytes)
    }
}

impl From<HourOnDisk> for Hour {
    fn from((hour, opened, bytes, opened_there, bytes_there): HourOnDisk) -> Self {
        let (by_callers, by_callees) = (Passed { opened, bytes }, Passed { opened: opened_there, bytes: bytes_there });
        Self { hour, by_callers, by_callees }
    }
}
