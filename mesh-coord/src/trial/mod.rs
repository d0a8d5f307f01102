//! A TURN server is tried before it is a relay of the mesh: two allocations by its secret, a datagram from one to the
//! other, and no peer that isn't an address of its own. Runners use nothing else of it.

mod turn;
mod wire;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use mesh_link::{CarrierError, Via};
use mesh_proto::{
    RelayId, RunnerId,
    relay::{Place, RelaySecret, wire::RelayPublic},
    token::Fingerprint,
};
use tokio::{net::lookup_host, time::timeout};

use self::{
    turn::{Error, Turn},
    wire::{At, Wire},
};

/// How long one place may take.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long a credential of the trial is good, in seconds. Clocks may be apart.
const TTL: u64 = 600;
/// How often the datagram between the allocations is sent, and how long each is waited for.
const DATAGRAMS: usize = 4;
const WAIT: Duration = Duration::from_millis(500);

/// Why a TURN server is no relay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failed {
    /// The name has no address.
    #[error("the name in {place} can't be resolved: {why}")]
    Name { place: Place, why: String },
    /// Nothing came back.
    #[error("no answer comes by {} from {at}", .at.protocol())]
    Silent { at: At },
    /// There is no connection with it, or it has another key.
    #[error("{why}")]
    NotReached { at: At, why: String },
    /// TLS without a fingerprint.
    #[error("{place} can't be tried: its key isn't known")]
    NoKey { place: Place },
    /// It speaks another language, or can't be sent to.
    #[error("{at} is no TURN server: {why}")]
    NotTurn { at: At, why: String },
    /// 401: another secret.
    #[error("{at} refuses the secret (401)")]
    Secret { at: At },
    /// No allocation.
    #[error("{at} gives no address to relay from (error {code})")]
    Allocate { at: At, code: u16 },
    /// 403: its own address is denied.
    #[error("{at} doesn't relay between addresses of its own ({relayed}): error {code}")]
    Own { at: At, relayed: IpAddr, code: u16 },
    /// Allowed, but no datagram arrived.
    #[error("{at} takes datagrams between addresses of its own ({relayed}), but none arrives")]
    Lost { at: At, relayed: IpAddr },
    /// It relays to anybody.
    #[error("{at} is an open relay: it would send to {peer} for everybody with a credential")]
    Open { at: At, peer: IpAddr },
}

impl Failed {
    /// What to try next.
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::Name { .. } => "give an address, or a name that the coordinator's machine resolves".to_owned(),
            Self::Silent { at } | Self::NotReached { at: at @ At::Tcp(_), .. } => format!(
                "is it running, and does a firewall let {} through to that port, also from the coordinator's machine?",
                at.protocol()
            ),
            Self::NotReached { .. } | Self::NoKey { .. } => {
                "--fingerprint is that of its certificate's key: `openssl x509 -pubkey -noout -in CERTIFICATE | openssl pkey \
                 -pubin -outform der | openssl dgst -sha256 -binary | basenc --base64url`"
                    .to_owned()
            }
            Self::NotTurn { .. } => "is it running? give the host and port of a TURN server (--turn HOST:3478)".to_owned(),
            Self::Secret { .. } => {
                "its configuration needs `use-auth-secret` and `static-auth-secret=` with what is in the file of --secret; \
                 both machines' clocks have to be right"
                    .to_owned()
            }
            Self::Allocate { code: 486, .. } => "its configuration needs `user-quota=8` or more, or no line with it".to_owned(),
            Self::Allocate { .. } => "its log says why".to_owned(),
            Self::Own { relayed, .. } => format!(
                "its configuration lacks the line `allowed-peer-ip={relayed}`: `mesh-coord relay coturn NAME` prints a whole one"
            ),
            Self::Lost { relayed, .. } => format!(
                "behind a 1:1 NAT a TURN server doesn't reach {relayed}, which is its own: give that address to an interface \
                 of its machine, or run `mesh-coord relay` there"
            ),
            Self::Open { .. } => {
                "its configuration lacks the lines `denied-peer-ip=0.0.0.0-255.255.255.255` and \
                 `denied-peer-ip=::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff`: `mesh-coord relay coturn NAME` prints a whole one"
                    .to_owned()
            }
        }
    }
}

/// Tries a relay at each of its places; where a name has several addresses, at the first that answers.
///
/// # Errors
/// If it doesn't do at one of them what runners need, or does more.
pub(crate) async fn run(public: &RelayPublic, secret: &RelaySecret) -> Result<(), Failed> {
    for place in &public.udp {
        by_udp(place, secret).await?;
    }
    for place in &public.tcp {
        at(At::Tcp(place.clone()), None, secret).await?;
    }
    for place in &public.tls {
        let key = public.fingerprint.ok_or_else(|| Failed::NoKey { place: place.clone() })?;
        at(At::Tls(place.clone()), Some(key), secret).await?;
    }
    Ok(())
}

async fn by_udp(place: &Place, secret: &RelaySecret) -> Result<(), Failed> {
    let found = lookup_host((place.host(), place.port())).await;
    let found = found.map_err(|error| Failed::Name { place: place.clone(), why: error.to_string() })?;
    let mut failed = Failed::Name { place: place.clone(), why: "it has no address".to_owned() };
    for address in found.take(4) {
        match at(At::Udp(address), None, secret).await {
            // A machine may lack IPv6. Anything else is said by the relay itself.
            Err(error @ (Failed::Silent { .. } | Failed::NotTurn { .. })) => failed = error,
            tried => return tried,
        }
    }
    Err(failed)
}

async fn at(at: At, key: Option<Fingerprint>, secret: &RelaySecret) -> Result<(), Failed> {
    timeout(PATIENCE, one(&at, key, secret)).await.unwrap_or(Err(Failed::Silent { at }))
}

async fn one(at: &At, key: Option<Fingerprint>, secret: &RelaySecret) -> Result<(), Failed> {
    let not_allocated = |code| match code {
        401 => Failed::Secret { at: at.clone() },
        code => Failed::Allocate { at: at.clone(), code },
    };
    let mut sides = Vec::with_capacity(2);
    // No runner has these numbers.
    for side in [u64::MAX, u64::MAX - 1] {
        let until = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs()) + TTL;
        let credential = secret.credential(RunnerId(side), RelayId(u64::MAX), until);
        let mut turn = Turn::new(open(at, key).await?, credential);
        let relayed = turn.allocate().await.map_err(|error| failed(at, error, not_allocated))?;
        sides.push((turn, relayed));
    }
    let passed = between(at, &mut sides).await;
    for (turn, _) in &mut sides {
        turn.release().await;
    }
    passed
}

async fn open(at: &At, key: Option<Fingerprint>) -> Result<Wire, Failed> {
    let not_reached = |error: CarrierError| Failed::NotReached { at: at.clone(), why: error.to_string() };
    match (at, key) {
        (At::Udp(address), _) => {
            let wire = Wire::datagrams(*address).await;
            wire.map_err(|error| Failed::NotTurn { at: at.clone(), why: error.to_string() })
        }
        (At::Tcp(place), _) => Wire::stream(place, Via::Tcp).await.map_err(not_reached),
        (At::Tls(place), Some(key)) => Wire::stream(place, Via::Tls(key)).await.map_err(not_reached),
        (At::Tls(place), None) => Err(Failed::NoKey { place: place.clone() }),
    }
}

fn failed(at: &At, error: Error, refused: impl Fn(u16) -> Failed) -> Failed {
    match error {
        Error::Silent => Failed::Silent { at: at.clone() },
        Error::NotTurn(why) => Failed::NotTurn { at: at.clone(), why },
        Error::Refused(code) => refused(code),
    }
}

/// A datagram from one allocation to the other, and a peer that must be refused.
async fn between(at: &At, sides: &mut [(Turn, SocketAddr)]) -> Result<(), Failed> {
    let [(one, one_at), (other, other_at)] = sides else { return Ok(()) };
    let own = |relayed: IpAddr| move |code| Failed::Own { at: at.clone(), relayed, code };
    one.permit(other_at.ip()).await.map_err(|error| failed(at, error, own(other_at.ip())))?;
    other.permit(one_at.ip()).await.map_err(|error| failed(at, error, own(one_at.ip())))?;
    let mut arrived = false;
    for _ in 0..DATAGRAMS {
        one.send(*other_at, b"mesh tries this relay").await;
        if other.receives(b"mesh tries this relay", WAIT).await {
            arrived = true;
            break;
        }
    }
    if !arrived {
        return Err(Failed::Lost { at: at.clone(), relayed: other_at.ip() });
    }
    // Addresses that are no relay's: a private one, and one for documentation (RFC 5737).
    let strangers: [IpAddr; 3] = match other_at {
        SocketAddr::V4(_) => [[127, 0, 0, 1], [10, 0, 0, 1], [192, 0, 2, 1]].map(|ip| Ipv4Addr::from(ip).into()),
        SocketAddr::V6(_) => ["::1", "fd00::1", "2001:db8::1"].map(|ip| ip.parse().unwrap_or(other_at.ip())),
    };
    for peer in strangers.into_iter().filter(|peer| *peer != other_at.ip()) {
        match one.permit(peer).await {
            Ok(()) => return Err(Failed::Open { at: at.clone(), peer }),
            Err(Error::Refused(_)) => {}
            Err(error) => return Err(failed(at, error, own(peer))),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
