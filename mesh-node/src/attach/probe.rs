//! Opens a connection from within a namespace and reports its outcome.

use std::{
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use super::{AttachError, Namespace, error::At, link, namespace::within, netlink::Netlink};

/// How long an answer may take: a SYN is retransmitted after one second and after three.
const PATIENCE: Duration = Duration::from_secs(4);

/// The outcome of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probed {
    /// It was opened, and is closed again.
    Answered,
    /// It was refused with this error, and a packet had left by `mesh0` before.
    Refused(io::ErrorKind),
    /// It was refused, and no packet had left by `mesh0`: probably by the namespace's own firewall.
    RefusedWithin(io::ErrorKind),
    /// No packet has left by `mesh0`.
    Stayed,
    /// There was no answer.
    Unanswered,
}

/// How often the calling thread's namespace has reported an unreachable destination (`OutDestUnreachs` of proc(5),
/// "net/snmp"): a container's firewall reports one to the container itself.
fn refusals() -> Option<u64> {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Icmp: "));
    let at = lines.next()?.split(' ').position(|name| name == "OutDestUnreachs")?;
    lines.next()?.split(' ').nth(at)?.parse().ok()
}

/// Opens a connection from a namespace. It takes [`PATIENCE`] at most.
///
/// # Errors
/// If `mesh0` isn't there.
pub(crate) fn probe(ns: &Namespace, to: (Ipv4Addr, u16)) -> Result<Probed, AttachError> {
    within(ns, || {
        let sent = || -> Result<u64, AttachError> {
            let mut netlink = Netlink::open().at("opening a netlink socket")?;
            link::sent(&mut netlink, link::NAME).at("looking for mesh0")
        };
        let (before, refused_before) = (sent()?, refusals());
        let result = TcpStream::connect_timeout(&SocketAddr::from(to), PATIENCE);
        let left = sent()? != before;
        Ok(match (result, left) {
            (Ok(_), _) => Probed::Answered,
            (Err(error), true) if error.kind() == io::ErrorKind::TimedOut => Probed::Unanswered,
            (Err(error), false) if error.kind() == io::ErrorKind::TimedOut && refusals() != refused_before => {
                // A rule about the whole range takes the refusal as well, which goes to an address of the range.
                Probed::RefusedWithin(io::ErrorKind::ConnectionRefused)
            }
            (Err(error), false) if error.kind() == io::ErrorKind::TimedOut => Probed::Stayed,
            (Err(error), true) => Probed::Refused(error.kind()),
            (Err(error), false) => Probed::RefusedWithin(error.kind()),
        })
    })
}
