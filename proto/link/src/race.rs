//! Tries the addresses of all places until one works (RFC 8305, "Happy Eyeballs"), so that an unreachable address costs
//! a quarter of a second instead of the connection.

use std::{collections::VecDeque, fmt::Write as _, io, net::SocketAddr, time::Duration};

use tokio::{
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until, timeout},
};

use crate::place::Place;

/// After this long without an answer from one address, the next one is tried in addition (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// A failed address is tried again after this long while other attempts are running, because the coordinator may be
/// restarting.
const AGAIN: Duration = Duration::from_secs(1);
/// How long one address, or the resolver, may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);
/// The most addresses of one place that are tried.
const MOST: usize = 16;

/// A failed address.
#[derive(Debug)]
pub(crate) struct Failed<E> {
    /// The index of its place.
    pub(crate) place: usize,
    /// The address; `None` if the name has none.
    pub(crate) address: Option<SocketAddr>,
    /// The reason.
    pub(crate) why: Why<E>,
}

#[derive(Debug)]
pub(crate) enum Why<E> {
    /// The name has no address, the connection failed, or nothing arrived within [`LIMIT`].
    System(io::Error),
    /// The attempt's own error.
    Attempt(E),
}

/// The end of an attempt: its result and the index of its place, or its failure and whether it was the address's first
/// attempt.
type Ended<T, E> = Result<(T, usize), (Failed<E>, bool)>;

/// Makes the attempt at every address until one succeeds. Returns the result and the index of the place.
///
/// # Errors
/// All failures, if none succeeds.
pub(crate) async fn race<T, E, A, F>(places: &[Place], attempt: A) -> Result<(T, usize), Vec<Failed<E>>>
where
    T: Send + 'static,
    E: Send + 'static,
    A: Fn(usize, SocketAddr) -> F,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let (mut resolving, mut running) = (JoinSet::new(), JoinSet::<Ended<T, E>>::new());
    for (index, place) in places.iter().map(|place| (place.host().to_owned(), place.port())).enumerate() {
        resolving.spawn(async move { (index, resolve(place).await) });
    }
    let (mut waiting, mut again, mut failures) = (VecDeque::new(), VecDeque::new(), Vec::new());
    let (mut due, mut first_tries) = (Instant::now(), 0_usize);
    let start = |(place, address): (usize, SocketAddr), first: bool, running: &mut JoinSet<Ended<T, E>>| {
        let attempt = timeout(LIMIT, attempt(place, address));
        running.spawn(async move {
            let failed = |why| (Failed { place, address: Some(address), why }, first);
            match attempt.await {
                Ok(Ok(won)) => Ok((won, place)),
                Ok(Err(error)) => Err(failed(Why::Attempt(error))),
                Err(_) => Err(failed(Why::System(slow()))),
            }
        });
    };
    loop {
        let retry = again.front().map_or(due, |(when, _)| *when);
        tokio::select! {
            Some(ended) = running.join_next(), if !running.is_empty() => match flat(ended) {
                Ok(Ok(won)) => return Ok(won),
                Ok(Err((failed, first))) => {
                    first_tries -= usize::from(first);
                    if let Some(address) = failed.address {
                        again.push_back((Instant::now() + AGAIN, (failed.place, address)));
                    }
                    note(&mut failures, failed);
                    due = Instant::now();
                }
                Err(error) => failures.push(Failed { place: 0, address: None, why: Why::System(error) }),
            },
            Some(resolved) = resolving.join_next(), if !resolving.is_empty() => match flat(resolved) {
                Ok((place, Ok(addresses))) => waiting.extend(addresses.into_iter().map(|address| (place, address))),
                Ok((place, Err(error))) => failures.push(Failed { place, address: None, why: Why::System(error) }),
                Err(error) => failures.push(Failed { place: 0, address: None, why: Why::System(error) }),
            },
            () = sleep_until(due), if !waiting.is_empty() => {
                if let Some(next) = waiting.pop_front() {
                    first_tries += 1;
                    start(next, true, &mut running);
                }
                due = Instant::now() + STAGGER;
            }
            () = sleep_until(retry), if first_tries > 0 && !again.is_empty() => {
                if let Some((_, next)) = again.pop_front() {
                    start(next, false, &mut running);
                }
            }
            else => return Err(failures),
        }
    }
}

/// The last failure of each address.
fn note<E>(failures: &mut Vec<Failed<E>>, failed: Failed<E>) {
    failures
        .retain(|before| before.address.is_none() || (before.place, before.address) != (failed.place, failed.address));
    failures.push(failed);
}

fn flat<T>(ended: Result<T, JoinError>) -> io::Result<T> {
    ended.map_err(io::Error::other)
}

fn slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", LIMIT.as_secs()))
}

async fn resolve((host, port): (String, u16)) -> io::Result<Vec<SocketAddr>> {
    let found = timeout(LIMIT, tokio::net::lookup_host((host, port))).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, format!("the name was not resolved within {} s", LIMIT.as_secs()))
    })??;
    let mut addresses: Vec<SocketAddr> = found.collect();
    let mut seen = std::collections::HashSet::new();
    addresses.retain(|address| seen.insert(*address));
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(interleaved(addresses))
}

/// Alternates the address families, each in the order that the resolver prefers (RFC 8305 §4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|a| a.is_ipv6() == first_is_v6);
    let (mut first, mut second, mut mixed) = (first.into_iter(), second.into_iter(), Vec::new());
    while mixed.len() < MOST {
        let before = mixed.len();
        mixed.extend(first.next());
        mixed.extend(second.next());
        if mixed.len() == before {
            break;
        }
    }
    mixed
}

/// The failures in words.
pub(crate) fn words<E: std::fmt::Display>(failures: &[Failed<E>]) -> String {
    let mut text = String::new();
    for Failed { address, why, .. } in failures {
        let separator = if text.is_empty() { "" } else { "; " };
        let place = address.filter(|_| failures.len() > 1).map(|address| format!("{address}: ")).unwrap_or_default();
        let why: &dyn std::fmt::Display = match why {
            Why::System(error) => error,
            Why::Attempt(error) => error,
        };
        let _ = write!(text, "{separator}{place}{why}");
    }
    text
}

#[cfg(test)]
mod tests;
