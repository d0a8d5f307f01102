//! A flow: its ends, its phase, and where its packets go.

use std::time::Instant;

use super::{
    attempt::Attempt,
    end::{End, Location, Phase, Role, Target},
    loads::Assigned,
    pins::Pin,
};
use crate::index::{DeploymentIx, PairIx, PoolIx, ServiceIx};

pub(crate) struct Flow {
    pub(super) pin: Pin,
    /// When the latest packet passed.
    pub(super) since: Instant,
    /// Distinguishes the flows that a slot holds one after another.
    pub(super) generation: u64,
    /// `None` if the current map doesn't allow the flow.
    pub(super) resolved: Option<Resolved>,
    pub(super) attempt: Option<Box<Attempt>>,
    /// The end that the flow counts for: the caller, or the end that claims it, until the other end acknowledges it.
    pub(super) payer: Role,
    /// The sequence number behind the last byte seen from each end.
    pub(super) sent: [Option<u32>; 2],
    /// The receiver of the RST that ended the flow.
    pub(super) rst_receiver: Option<RstReceiver>,
    /// The flow is remembered although its time is over.
    pub(super) held: bool,
    /// The pair of services that its bytes are counted for.
    pub(super) pair: PairIx,
    /// The lanes of what each end sends, if that is local.
    pub(super) lanes: [Assigned; 2],
}

/// The receiver of a RST that ended a flow. An ACK in flight may have advanced the sequence number that it accepts, so
/// that it ignores the RST and goes on (RFC 5961).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RstReceiver {
    pub(super) role: Role,
    /// It accepts the RST if that arrives.
    pub(super) accepts: bool,
}

/// A flow in the current map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resolved {
    /// The services of the caller and of the callee.
    pub(crate) services: [ServiceIx; 2],
    /// Those of the called service's instances that the caller prefers.
    pub(crate) preferred: Option<PoolIx>,
    /// Where the caller and the callee are.
    pub(crate) targets: [Target; 2],
    /// The deployments of the caller and of the callee.
    pub(crate) deployments: [DeploymentIx; 2],
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
            rst_receiver: None,
            held: false,
            pair: PairIx::OTHER,
            lanes: [Assigned::Undecided; 2],
        }
    }

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

    pub(crate) const fn location(&self, role: Role) -> Location {
        match role {
            Role::Caller => self.pin.caller_location,
            Role::Callee => self.pin.callee_location,
        }
    }

    /// The last acknowledgment number from an end: the sequence number that it expects next.
    pub(crate) const fn ack(&self, role: Role) -> Option<u32> {
        self.pin.progress.acks[role as usize]
    }

    /// Where the packets for an end go.
    #[inline]
    pub(crate) fn target(&self, role: Role) -> Option<Target> {
        Some(self.resolved?.targets[role as usize])
    }

    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether an end may still hold on to the flow.
    pub(super) const fn may_stand(&self) -> bool {
        let doubtful = match self.rst_receiver {
            Some(receiver) => !receiver.accepts,
            None => false,
        };
        self.pin.phase.stands() || doubtful
    }
}
