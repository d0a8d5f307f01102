//! How a stream ends, and when silence ends it: the same for runners and relays.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message};
use tokio::sync::watch;

use crate::{coordinator::Failure, metrics::Closed, rate::Busy};

/// How often the other side is pinged.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(2);
/// How long it may send or read nothing.
pub(super) const SILENCE: Duration = Duration::from_secs(6);
/// The close code for a policy violation (RFC 6455 §7.4.1).
const POLICY: u16 = 1008;
const GOING_AWAY: u16 = 1001;
/// The longest reason of a close frame, in bytes.
const LONGEST: usize = 123;

/// Why a stream ends: for the log, and for the other side if it can still be sent.
pub(super) struct End {
    code: u16,
    pub(super) why: String,
    /// How it is counted.
    pub(super) counted: Closed,
}

impl End {
    pub(super) fn refused(why: impl Into<String>) -> Self {
        Self { code: POLICY, why: why.into(), counted: Closed::Protocol }
    }

    pub(super) fn lost(why: impl Into<String>) -> Self {
        Self { code: GOING_AWAY, why: why.into(), counted: Closed::Ended }
    }

    /// The same, counted otherwise.
    pub(super) fn counted(self, counted: Closed) -> Self {
        Self { counted, ..self }
    }

    /// Returns once the coordinator has lost its database and others may have it.
    pub(super) async fn once_cut_off(mut is_cut_off: watch::Receiver<bool>) -> Self {
        // The coordinator outlives its streams.
        let _ = is_cut_off.wait_for(|is_cut_off| *is_cut_off).await;
        Self::lost("this coordinator has lost its database: another one may have it")
    }

    pub(super) fn no_place() -> Self {
        Self::lost("the coordinator has no place for it any more").counted(Closed::NoPlace)
    }

    /// The message that tells a relay.
    pub(super) fn close(self) -> Message {
        let (code, reason) = self.said();
        Message::Close(Some(CloseFrame { code, reason: reason.into() }))
    }

    /// The code and the reason of the frame that tells the other side.
    pub(super) fn said(mut self) -> (u16, String) {
        self.why.truncate(self.why.floor_char_boundary(LONGEST));
        (self.code, self.why)
    }
}

impl From<Busy> for End {
    fn from(busy: Busy) -> Self {
        Self::lost(busy.to_string())
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => Self::refused(refusal.to_string()),
            Failure::Ending => Self::lost(failure.to_string()).counted(Closed::Shutdown),
            other => Self::lost(other.to_string()),
        }
    }
}
