//! Refuses copies of machines: see [`mesh_sessions::Predecessor`].

use std::{net::IpAddr, time::Duration};

use mesh_model::{Command, RunnerCommand};
use mesh_proto::{RunnerId, message::Refusal};
use mesh_sessions::{Peer, Predecessor, StreamId};
use tokio::time::{Instant, timeout};
use tracing::warn;

use crate::{
    coordinator::{Coordinator, Core, Failure},
    peers::{Probe, Probed},
};

/// How long the first agent has to answer.
const PROBE: Duration = Duration::from_secs(3);

/// Whether the newcomer's stream may begin. `refused`: the newcomer reports that it was refused as a copy before.
pub(super) async fn admit(
    coordinator: &Coordinator,
    runner: RunnerId,
    newcomer: Peer,
    refused: bool,
) -> Result<Result<(), Refusal>, Failure> {
    let now = Instant::now().into_std();
    let look = move |core: &mut Core| core.sessions.predecessor(runner, newcomer, refused, now);
    let first = match coordinator.visit(look).await? {
        Predecessor::None => return Ok(Ok(())),
        Predecessor::JustLeft(last) => last,
        Predecessor::Connected(stream, peer) if answers(coordinator, stream).await? => Some(peer),
        Predecessor::Elsewhere(stream, peer) => {
            let what = Probe { runner, number: stream.number };
            let probed = coordinator.peers.ask::<Probed>(stream.member, "probe", what, PROBE + PROBE).await;
            match probed.and_then(|probed| probed.from) {
                Some(from) => Some(Peer { from, ..peer }),
                None => return Ok(Ok(())),
            }
        }
        Predecessor::Connected(..) => return Ok(Ok(())),
    };
    refuse(coordinator, runner, newcomer.from, first.map(|peer| peer.from), refused).await.map(Err)
}

/// Where the agent of the stream with this number is, if it answers: another coordinator asks.
pub(crate) async fn probe(coordinator: &Coordinator, Probe { runner, number }: Probe) -> Result<Probed, Failure> {
    let here = coordinator.visit(move |core| core.sessions.here(runner, number)).await?;
    let Some((stream, peer)) = here else { return Ok(Probed { from: None }) };
    Ok(Probed { from: answers(coordinator, stream).await?.then_some(peer.from) })
}

/// Whether the agent of a connected stream answers.
async fn answers(coordinator: &Coordinator, stream: StreamId) -> Result<bool, Failure> {
    let Some((asked, mut answered)) = coordinator.visit(move |core| core.links.probe(stream)).await? else {
        return Ok(false);
    };
    match timeout(PROBE, async { answered.wait_for(|answer| *answer >= asked).await.map(drop) }).await {
        Ok(Ok(())) => Ok(true),
        Ok(Err(_)) => {
            // Its task has ended without reporting it yet.
            coordinator.visit(move |core| core.close(stream, None)).await?;
            Ok(false)
        }
        Err(_) => Ok(false),
    }
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
    // A copy tries again and again, and one line is enough.
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
