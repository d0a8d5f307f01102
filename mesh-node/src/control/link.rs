//! Stream after stream: opens one, serves it until it ends, waits, opens the next.

use std::{sync::Arc, time::Duration};

use mesh_proto::RunnerId;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_tungstenite::WebSocketStream;

use super::{
    Intent, LocalState, SessionState, Target, Trouble,
    backoff::{pauses, random},
    open::open,
    round::Round,
    session::{self, Ended, SessionEnd},
};
use crate::hint::Hint as _;

/// How long a stream has to last before its end is worth a quick attempt. (Two agents with one identity end each other's.)
const STEADY: Duration = Duration::from_secs(10);
/// How often a runner that the coordinator doesn't know tries again.
const UNKNOWN_INTERVAL: Duration = Duration::from_secs(30);
/// How often a refused agent tries again. A copy is refused as long as the first machine is connected.
const REFUSED_INTERVAL: Duration = Duration::from_secs(30);

pub(super) async fn keep(state: SessionState, target: Target, mut local: LocalState) {
    let mut backoff = pauses();
    let mut reported = false;
    let mut round = Round::default();
    while !state.link.is_closed() && *state.queue.intent.borrow() != Intent::End {
        round.know(state.known(&target));
        let wait = match open(&target, round.urls(random)).await {
            Ok((stream, url)) => {
                let began = Instant::now();
                let Ended { why: end, welcomed } = attend(stream, target.runner, &state, &mut local).await;
                if let SessionEnd::Refused(refusal) = end {
                    round.all_failed();
                    report(&state, Trouble::Refused(refusal), &mut reported);
                    REFUSED_INTERVAL
                } else {
                    if began.elapsed() > STEADY {
                        backoff.reset();
                        round.lost(&url, random);
                    }
                    let others_are_left = round.failed(&url);
                    reported &= !welcomed;
                    if matches!(end, SessionEnd::Renewed) {
                        continue;
                    }
                    // The next attempt is made at once, and is told what this means.
                    if !matches!(&end, SessionEnd::ClosedBecause(why) if why == session::REMOVED) {
                        report(&state, Trouble::Ended { url, end }, &mut reported);
                    }
                    if others_are_left {
                        continue;
                    }
                    backoff.next_spread(random())
                }
            }
            Err((trouble @ Trouble::Unknown(_), _)) => {
                round.all_failed();
                state.link.send_modify(|link| link.unknown = true);
                report(&state, trouble, &mut reported);
                UNKNOWN_INTERVAL
            }
            Err((trouble, url)) => {
                report(&state, trouble, &mut reported);
                match url {
                    Some(url) if round.failed(&url) => continue,
                    Some(_) => {}
                    None => round.all_failed(),
                }
                backoff.next_spread(random())
            }
        };
        let _ = timeout(wait, state.queue.bell.notified()).await;
    }
}

/// Publishes the trouble: in `status` always; in the log once for each absence of the coordinator, and again when the reason
/// changes.
fn report(state: &SessionState, trouble: Trouble, reported: &mut bool) {
    if *state.queue.intent.borrow() != Intent::Stay {
        return;
    }
    let is_new = state.link.borrow().trouble.as_ref().is_none_or(|old| old.refusal() != trouble.refusal());
    if !*reported || is_new {
        let hint = trouble.hint().unwrap_or_default();
        if state.link.borrow().unknown {
            tracing::warn!(hint, "cut off from all other runners: {trouble}");
        } else {
            tracing::warn!(hint, "no coordinator, everything continues with the last map: {trouble}");
        }
        *reported = true;
    }
    state.link.send_modify(|link| link.trouble = Some(Arc::new(trouble)));
}

/// Serves one stream.
pub(super) async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
    stream: WebSocketStream<S>,
    runner: RunnerId,
    state: &SessionState,
    local: &mut LocalState,
) -> Ended {
    let ended = session::serve(stream, runner, state, local).await;
    state.queue.close();
    state.link.send_modify(|link| (link.connected, link.synced) = (false, false));
    ended
}
