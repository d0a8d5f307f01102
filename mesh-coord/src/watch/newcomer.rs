//! Two machines with one identity: a copy of a machine that is a runner. The one that was there first is kept, as long as
//! it answers; behind an agent that has started anew no process is left that answers.

use std::{net::IpAddr, time::Duration};

use mesh_model::{Command, RunnerCommand};
use mesh_proto::{RunnerId, message::Refusal};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};
use tracing::warn;

use super::{Peer, Sessions};
use crate::coordinator::{Coordinator, Core, Failure};

/// How long the agent that was there first may take to answer.
const PROBE: Duration = Duration::from_secs(3);
/// For how long after its last stream it is waited for, before an agent that was refused as a copy may take its place.
const PREFERENCE: Duration = Duration::from_secs(60);

/// What is known when a stream wants to begin.
enum First {
    /// No other process is in its way.
    Clear,
    /// Another process was there a moment ago, and the newcomer was refused as its copy.
    Gone(Option<Peer>),
    /// Another process has a stream.
    There { number: u64, peer: Peer, asked: u64, answered: watch::Receiver<u64> },
}

/// Whether the newcomer's stream may begin. `refused`: it says that it was refused as a copy before.
pub(super) async fn admit(
    coordinator: &Coordinator,
    runner: RunnerId,
    newcomer: Peer,
    refused: bool,
) -> Result<Result<(), Refusal>, Failure> {
    let look = move |core: &mut Core| core.sessions.first(runner, newcomer, refused, Instant::now());
    let first = match coordinator.visit(look).await? {
        First::Clear => return Ok(Ok(())),
        First::Gone(last) => last,
        First::There { number, peer, asked, mut answered } => {
            let outcome = timeout(PROBE, async { answered.wait_for(|answer| *answer >= asked).await.map(drop) }).await;
            let (there, ended) = (matches!(outcome, Ok(Ok(()))), matches!(outcome, Ok(Err(_))));
            if !there {
                if ended {
                    // It has ended already, and that has not been noted yet.
                    coordinator.visit(move |core| core.sessions.close(runner, number, None)).await?;
                }
                return Ok(Ok(()));
            }
            Some(peer)
        }
    };
    refuse(coordinator, runner, newcomer.from, first.map(|peer| peer.from), refused).await.map(Err)
}

async fn refuse(
    coordinator: &Coordinator,
    runner: RunnerId,
    from: IpAddr,
    first: Option<IpAddr>,
    again: bool,
) -> Result<Refusal, Failure> {
    let known = coordinator.visit(move |core| core.state.runner(runner).cloned()).await?;
    let (name, provider) = known.map(|known| (known.name.to_string(), known.provider.to_string())).unwrap_or_default();
    let first = first.map_or_else(|| "an address not known".to_owned(), |first| first.to_string());
    // The same copy comes again and again.
    if !again {
        let hint = "delete the copy's state directory, and join it with a new token; if the copy is the one to keep, stop \
                    the first";
        warn!(%runner, name, provider, first, copy = %from, hint, "two machines use one identity: the copy is refused");
    }
    let what = RunnerCommand::CopyRefused { first: first.clone(), from };
    match coordinator.submit(Command::Runner { by: runner, what }).await {
        Ok(_) | Err(Failure::Store(_)) => {}
        Err(failure) => return Err(failure),
    }
    Ok(Refusal::new(
        format!(
            "this machine ({from}) is a copy of the runner `{name}` ({runner}, provider {provider}), which is connected \
             from {first}"
        ),
        "stop this agent, delete its state directory, and join with a new token; the other machine goes on undisturbed",
    ))
}

impl Sessions {
    /// Which process is in the newcomer's way; one that has a stream is asked whether it is there.
    fn first(&mut self, runner: RunnerId, newcomer: Peer, refused: bool, now: Instant) -> First {
        let started = self.started;
        let Some(presence) = self.runners.get_mut(&runner) else { return First::Clear };
        if newcomer.process.is_none() {
            return First::Clear;
        }
        match &presence.session {
            Some(session) if session.peer.process.is_none() || session.peer.process == newcomer.process => First::Clear,
            Some(session) => {
                session.probe.send_modify(|asked| *asked += 1);
                let asked = *session.probe.borrow();
                First::There { number: session.number, peer: session.peer, asked, answered: session.answered.clone() }
            }
            None => {
                let since = presence.ended.unwrap_or(started).max(started);
                let other = presence.last.is_none_or(|last| last.process != newcomer.process);
                if refused && other && now.saturating_duration_since(since) < PREFERENCE {
                    First::Gone(presence.last)
                } else {
                    First::Clear
                }
            }
        }
    }
}
