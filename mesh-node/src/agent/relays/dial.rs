//! Connections with relays that no datagram reaches, for the data plane.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mesh_link::{Carrier, CarrierError, Proxies, Via, carrier};
use mesh_proto::{RelayId, relay::Relay};
use tokio::time::sleep;

use super::Names;
use crate::dataplane::Dataplane;

/// How much later the second kind of connection is tried (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to relays.
#[derive(Debug, Clone)]
pub(in crate::agent) struct Dialer {
    names: Names,
    proxies: Proxies,
    dataplane: Arc<Dataplane>,
    /// What became of the latest attempt at each relay.
    latest: Arc<Mutex<BTreeMap<RelayId, Kind>>>,
}

/// A kind of connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Tls,
}

/// Whether a relay takes connections of any kind.
pub(super) fn is_possible(relay: &Relay) -> bool {
    !relay.public.tcp.is_empty() || by_tls(relay).is_some()
}

/// TLS is used with a relay only whose key is known.
fn by_tls(relay: &Relay) -> Option<Via> {
    relay.public.fingerprint.filter(|_| !relay.public.tls.is_empty()).map(Via::Tls)
}

impl Dialer {
    pub(in crate::agent) fn new(names: Names, proxies: Proxies, dataplane: Arc<Dataplane>) -> Self {
        Self { names, proxies, dataplane, latest: Arc::default() }
    }

    /// Connects to a relay, and hands the connection to the data plane.
    pub(in crate::agent) async fn dial(&self, id: RelayId) {
        let Some(relay) = self.names.relay(id) else { return self.dataplane.connected(id, None) };
        // What passes a connection's beginning need not pass all of it: the kinds take turns.
        let last = self.latest().get(&id).copied();
        let first = if last == Some(Kind::Tcp) { Kind::Tls } else { Kind::Tcp };
        match connect(&relay, first, &self.proxies).await {
            Ok((carrier, kind)) => {
                self.latest().insert(id, kind);
                let by = carrier.proxy.as_deref().unwrap_or("none");
                tracing::info!(relay = %relay.name, place = %carrier.place, proxy = %by, "no datagrams pass: connected to the relay");
                self.dataplane.connected(id, Some(carrier));
            }
            Err(error) => {
                tracing::debug!(relay = %relay.name, hint = error.hint(), "{error}");
                self.dataplane.connected(id, None);
            }
        }
    }

    /// What the latest connection with a relay was made by.
    pub(super) fn transport(&self, id: RelayId) -> &'static str {
        match self.latest().get(&id) {
            Some(Kind::Tls) => "tls",
            Some(Kind::Tcp) | None => "tcp",
        }
    }

    fn latest(&self) -> std::sync::MutexGuard<'_, BTreeMap<RelayId, Kind>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first kind of connection that works, the second tried 250 ms after the first.
async fn connect(relay: &Relay, first: Kind, proxies: &Proxies) -> Result<(Carrier, Kind), CarrierError> {
    let tcp = async { carrier(&relay.public.tcp, Via::Tcp, proxies).await.map(|carrier| (carrier, Kind::Tcp)) };
    let Some(via) = by_tls(relay) else { return tcp.await };
    let tls = async { carrier(&relay.public.tls, via, proxies).await.map(|carrier| (carrier, Kind::Tls)) };
    if relay.public.tcp.is_empty() {
        return tls.await;
    }
    match first {
        Kind::Tcp => either(tcp, tls).await,
        Kind::Tls => either(tls, tcp).await,
    }
}

/// The first that works. If neither does, the error of the second.
async fn either<T, E>(
    first: impl Future<Output = Result<T, E>>,
    second: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let (mut first, mut second) = (std::pin::pin!(first), std::pin::pin!(second));
    tokio::select! {
        made = &mut first => match made {
            Ok(made) => return Ok(made),
            Err(_) => return second.await,
        },
        () = sleep(STAGGER) => {}
    }
    tokio::select! {
        made = &mut first => match made {
            Ok(made) => Ok(made),
            Err(_) => second.await,
        },
        made = &mut second => match made {
            Ok(made) => Ok(made),
            Err(error) => first.await.map_err(|_| error),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_that_works_is_used_and_neither_is_waited_for_in_vain() {
        let late = |ms: u64, result: Result<u8, u8>| async move {
            sleep(Duration::from_millis(ms)).await;
            result
        };
        assert_eq!(either(ready(Ok::<_, u8>(1)), pending()).await, Ok(1));
        assert_eq!(either(ready(Err(1)), ready(Ok(2))).await, Ok(2));
        assert_eq!(either(pending(), ready(Ok::<_, u8>(2))).await, Ok(2));
        assert_eq!(either(late(300, Ok(1)), late(300, Ok(2))).await, Ok(1));
        assert_eq!(either(late(300, Err(1)), late(300, Ok(2))).await, Ok(2));
        assert_eq!(either(late(600, Ok(1)), ready(Err(2))).await, Ok(1));
        assert_eq!(either(late(600, Err(1)), ready(Err(2))).await, Err(2));
    }
}
