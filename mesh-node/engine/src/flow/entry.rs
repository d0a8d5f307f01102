//! One flow: who its ends are, how far it has come, and where its packets go.

use std::{net::Ipv4Addr, time::Instant};

use mesh_proto::{InstanceId, RunnerId};

use super::{attempt::Attempt, pins::Pin};

/// One end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct End {
    pub(crate) address: Ipv4Addr,
    pub(crate) port: u16,
}

/// Who of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Caller = 0,
    Callee = 1,
}

impl Role {
    pub(crate) const BOTH: [Self; 2] = [Self::Caller, Self::Callee];

    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Caller => Self::Callee,
            Self::Callee => Self::Caller,
        }
    }
}

/// Where an end of a flow is, by what outlives a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Seat {
    /// At this instance, on this runner.
    Here(InstanceId),
    /// On another runner.
    There(RunnerId),
}

impl Seat {
    /// The identifier's number.
    pub(crate) const fn number(self) -> u64 {
        match self {
            Self::Here(instance) => instance.0,
            Self::There(runner) => runner.0,
        }
    }
}

/// The same by the current map: an index of the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Way {
    Instance(u32),
    Runner(u32),
}

/// How far a flow has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A SYN has passed.
    Opening = 1,
    /// A SYN-ACK has passed: it is never moved from now on.
    Open = 2,
    /// Ended by its ends: both FINs have passed, or a RST.
    Ended = 3,
    /// Ended by us: the end that goes on is told so.
    Reset = 4,
    /// One end has spoken for it, and the other one not yet. An engine that has just started follows such a one for a
    /// while, and leaves it to none.
    Claimed = 5,
}

impl Phase {
    pub(crate) const fn stands(self) -> bool {
        matches!(self, Self::Opening | Self::Open | Self::Claimed)
    }
}

/// A flow.
pub(crate) struct Flow {
    pub(super) pin: Pin,
    /// The latest packet's time.
    pub(super) since: Instant,
    /// Tells apart the flows that a slot holds one after another.
    pub(super) generation: u64,
    /// The service that is called, and the ways to the caller and the callee, in the current map. `None` before the first.
    pub(super) resolved: Option<Resolved>,
    pub(super) attempt: Option<Box<Attempt>>,
    /// Whom it counts for: the caller, but until the other end has acknowledged it, the end that has spoken for it.
    pub(super) payer: Role,
    /// Behind the last octet that an end has sent, as far as it was seen.
    pub(super) sent: [Option<u32>; 2],
    /// It has ended by a RST, but one end may not have had that, or not have taken it.
    pub(super) goes_on: Option<GoesOn>,
    /// It is not forgotten yet though it has ended long ago.
    pub(super) held: bool,
}

/// The end of a flow for which a RST was that seemed to end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct GoesOn {
    pub(super) role: Role,
    /// It takes the RST if that arrives.
    pub(super) surely_not: bool,
}

/// A flow in the current map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolved {
    pub(crate) service: u32,
    pub(crate) ways: [Way; 2],
    /// The deployments of the caller and of the callee.
    pub(crate) deployments: [u32; 2],
}

impl Flow {
    pub(crate) const fn phase(&self) -> Phase {
        self.pin.phase
    }

    pub(crate) const fn isn(&self) -> u32 {
        self.pin.isn
    }

    pub(crate) const fn end(&self, role: Role) -> End {
        match role {
            Role::Caller => self.pin.caller,
            Role::Callee => self.pin.callee,
        }
    }

    pub(crate) const fn seat(&self, role: Role) -> Seat {
        match role {
            Role::Caller => self.pin.caller_seat,
            Role::Callee => self.pin.callee_seat,
        }
    }

    /// The last acknowledgment number from an end: the sequence number that it expects next.
    pub(crate) const fn ack(&self, role: Role) -> Option<u32> {
        self.pin.acks[role as usize]
    }

    /// Where the packets for an end go.
    #[inline]
    pub(crate) fn way(&self, role: Role) -> Option<Way> {
        Some(self.resolved?.ways[role as usize])
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether an end may still hold on to it.
    pub(super) const fn may_stand(&self) -> bool {
        let doubtful = match self.goes_on {
            Some(end) => !end.surely_not,
            None => false,
        };
        self.pin.phase.stands() || doubtful
    }
}

/// A flow to be followed.
pub(crate) struct New {
    pub(crate) phase: Phase,
    pub(crate) caller: End,
    pub(crate) callee: End,
    pub(crate) caller_is: InstanceId,
    pub(crate) caller_seat: Seat,
    pub(crate) callee_seat: Seat,
    pub(crate) isn: u32,
    pub(crate) resolved: Resolved,
    pub(crate) payer: Role,
}

impl Flow {
    pub(super) const fn new(pin: Pin, payer: Role, generation: u64, now: Instant) -> Self {
        Self {
            pin,
            since: now,
            generation,
            resolved: None,
            attempt: None,
            payer,
            sent: [None, None],
            goes_on: None,
            held: false,
        }
    }
}
