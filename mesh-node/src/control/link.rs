//! Stream after stream: opens one, serves it until it ends, waits, opens the next.

use std::time::Duration;

use mesh_proto::{RunnerId, message::Refusal};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, timeout},
};
use tokio_tungstenite::WebSocketStream;

use super::{
    Intent, Keeper, Ourselves, Target,
    backoff::{Backoff, random},
    open::{OpenError, open},
    session::{self, Ended},
};

/// How long a stream has to last before its end is worth a quick attempt. (Two agents with one identity end each other's.)
const STEADY: Duration = Duration::from_secs(10);
/// How often a runner that the coordinator doesn't know asks whether it does by now.
const UNKNOWN_INTERVAL: Duration = Duration::from_secs(30);
/// How often an agent that is refused asks whether it still is: a copy, for as long as the first machine is there.
const REFUSED_INTERVAL: Duration = Duration::from_secs(30);

pub(super) async fn keep(keeper: Keeper, target: Target, mut ourselves: Ourselves) {
    let mut backoff = Backoff::default();
    let mut silent = false;
    while !keeper.link.is_closed() && *keeper.desk.intent.borrow() != Intent::End {
        let wait = match open(&target).await {
            Ok((stream, url)) => {
                let began = Instant::now();
                let ended = attend(stream, target.runner, &keeper, &mut ourselves).await;
                if let Some(trouble) = ended.refused {
                    report(&keeper, trouble, &mut silent);
                    let _ = timeout(REFUSED_INTERVAL, keeper.desk.bell.notified()).await;
                    continue;
                }
                if began.elapsed() > STEADY {
                    backoff.reset();
                }
                silent &= !ended.welcomed;
                let trouble =
                    Refusal::new(format!("the stream to {url} ended: {}", ended.why), "it is opened again by itself");
                report(&keeper, trouble, &mut silent);
                backoff.next(random())
            }
            Err(OpenError::Away(trouble)) => {
                report(&keeper, trouble, &mut silent);
                backoff.next(random())
            }
            Err(OpenError::Unknown(trouble)) => {
                keeper.link.send_modify(|link| link.unknown = true);
                report(&keeper, trouble, &mut silent);
                UNKNOWN_INTERVAL
            }
        };
        let _ = timeout(wait, keeper.desk.bell.notified()).await;
    }
}

/// Makes the trouble known: in `status` always, in the log once for each time that the coordinator is away, and again
/// if the reason becomes another one.
fn report(keeper: &Keeper, trouble: Refusal, silent: &mut bool) {
    if *keeper.desk.intent.borrow() != Intent::Stay {
        return;
    }
    let news = keeper.link.borrow().trouble.as_ref() != Some(&trouble);
    if !*silent || news {
        let hint = trouble.hint.as_deref().unwrap_or_default();
        if keeper.link.borrow().unknown {
            tracing::warn!(hint, "cut off from all other runners: {trouble}");
        } else {
            tracing::warn!(hint, "no coordinator, everything goes on with the last map: {trouble}");
        }
        *silent = true;
    }
    keeper.link.send_modify(|link| link.trouble = Some(trouble));
}

/// Serves one stream.
pub(super) async fn attend<S: AsyncRead + AsyncWrite + Unpin>(
    stream: WebSocketStream<S>,
    runner: RunnerId,
    keeper: &Keeper,
    ourselves: &mut Ourselves,
) -> Ended {
    let ended = session::serve(stream, runner, keeper, ourselves).await;
    keeper.desk.close();
    keeper.link.send_modify(|link| (link.connected, link.synced) = (false, false));
    ended
}
