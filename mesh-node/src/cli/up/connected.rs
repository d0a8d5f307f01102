//! Waits until the agent that systemd has started is connected and has its view.

use std::{
    thread,
    time::{Duration, Instant},
};

use mesh_process::systemd::State;

use super::{super::status::Check, Context, Failure, UpError, note};
use crate::{
    local::{self, ClientError, LinkState, Request},
    setup::AGENT,
};

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The time from an answer to the next question.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits for it, 30 s at most.
pub(super) fn wait(context: &Context) -> Result<local::Status, Failure> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = context.agent().within(ANSWER).ask::<local::Status>(&Request::Status, &[]);
        let is_over = Instant::now() >= end;
        match answer {
            Ok(status) if is_connected(&status) => return Ok(status),
            Ok(status) if is_over || status.map.state == Some(LinkState::Refused) => {
                return Err(told(not_connected(&status)));
            }
            Err(error) if is_over || AGENT.state()? == State::Failed => return Err(told(no_answer(&error))),
            _ => thread::sleep(PAUSE),
        }
    }
}

fn is_connected(status: &local::Status) -> bool {
    status.map.connected && status.map.revision.is_some()
}

/// In the words of `status --check`.
fn not_connected(status: &local::Status) -> UpError {
    let why = Check::of(status).problems.into_iter().map(|problem| problem.text).collect::<Vec<_>>().join("; ");
    UpError::NotConnected { why, hint: status.coordinator.hint.clone() }
}

fn no_answer(error: &ClientError) -> UpError {
    UpError::NoAnswer { why: error.to_string() }
}

/// The error, after what the journal has of the unit.
fn told(error: UpError) -> Failure {
    if let Some(lines) = AGENT.last_lines() {
        note(&lines);
    }
    error.into()
}
