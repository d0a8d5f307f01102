//! Waits until the coordinator that systemd has started carries out commands, as `/readyz` says it.

use std::time::Duration;

use anyhow::Result;
use mesh_process::systemd::State;
use mesh_proto::message::Refusal;
use tokio::time::{Instant, sleep};

use super::{
    super::{
        client::Reach,
        output::{Refused, note},
    },
    unit::{UNIT, asked},
};
use crate::api::Overview;

/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The time from an answer to the next question.
const PAUSE: Duration = Duration::from_millis(200);

/// Waits for it, 30 s at most.
pub(super) async fn wait(reach: &Reach) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = reach.get::<Overview>("overview").await;
        let is_over = Instant::now() >= end || (answer.is_err() && asked(UNIT.state())? == State::Failed);
        let why = match answer {
            Ok(overview) if overview.ready => return Ok(()),
            Ok(overview) => {
                overview.needs.first().map_or_else(|| "it is not ready".to_owned(), |need| need.text.clone())
            }
            Err(error) => format!("{error:#}"),
        };
        if is_over {
            return Err(not_ready(&why));
        }
        sleep(PAUSE).await;
    }
}

/// The error, after what the journal has of the unit.
fn not_ready(why: &str) -> anyhow::Error {
    if let Some(lines) = UNIT.last_lines() {
        note(&lines);
    }
    Refused(Refusal::new(
        format!("systemd has started the coordinator, and it carries out no commands: {why}"),
        "put right what its log says, and try again; `mesh-coord init --undo` takes out what was written",
    ))
    .into()
}
