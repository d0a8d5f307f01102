//! Puts `mesh0` into an instance's network namespace, and removes it.
//!
//! Everything here blocks (call it by `spawn_blocking`) and uses netlink in short-lived threads inside the namespaces.
//! The caller's own namespace doesn't change. Every operation can be repeated.

mod clash;
mod connections;
mod error;
mod events;
#[cfg(test)]
pub(crate) mod lab;
mod link;
mod mark;
mod mend;
mod namespace;
mod netlink;
mod probe;
mod routes;
mod rules;

use std::{
    fs, io,
    net::Ipv4Addr,
    os::fd::OwnedFd,
    sync::atomic::{AtomicU32, Ordering},
};

use mesh_lifecycle::{Birthplace, Mark};
use mesh_proto::Range;

pub(crate) use self::{
    clash::warn_of_clash,
    error::AttachError,
    events::{Events, News, number},
    mark::draw as draw_mark,
    mend::mend,
    namespace::{Namespace, Staging},
    probe::{Probed, probe},
    rules::Seen,
};
use self::{error::At, link::Link, namespace::within, netlink::Netlink};
use crate::sys::tun::{self, Tun};

/// The configuration of `mesh0`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Addressing {
    /// The instance's address, which is the source of its connections.
    pub(crate) instance: Ipv4Addr,
    /// The address of its service.
    pub(crate) service: Ipv4Addr,
    /// The range of overlay addresses.
    pub(crate) range: Range,
    /// The MTU in bytes.
    pub(crate) mtu: u16,
    /// The mark; `None`: it doesn't change.
    pub(crate) mark: Option<Mark>,
}

/// A `mesh0` in its namespace, down and without addresses. Dropping it deletes it, which takes as long as making it.
#[derive(Debug, Default)]
pub(crate) struct Prepared(Option<Tun>);

/// An attached namespace.
#[derive(Debug)]
pub(crate) struct Made {
    /// The TUN's queue, non-blocking.
    pub(crate) queue: OwnedFd,
    /// The rules of other programs in the namespace.
    pub(crate) seen: Seen,
}

/// Makes a `mesh0` before its configuration is known. If an earlier agent has left one, this does nothing.
///
/// A queue that was opened in a namespace keeps it alive (`sk_alloc` in `tun_chr_open`, drivers/net/tun.c), which one
/// from staging doesn't. But when an interface changes namespaces, the kernel waits for all processors (`rcu_barrier`
/// in `__dev_change_net_namespace`, net/core/dev.c), which takes some 20 ms.
///
/// # Errors
/// If the namespace is the machine's own or has another `mesh0`, or if a step fails.
pub(crate) fn prepare(staging: &Staging, ns: &Namespace, at: Birthplace) -> Result<Prepared, AttachError> {
    match (attachable(ns)?, at) {
        (Some(_left), _) => Ok(Prepared(None)),
        (None, Birthplace::Staging) => bring(staging, ns, &in_staging()).map(|tun| Prepared(Some(tun))),
        (None, Birthplace::There) => within(ns, || furnish(Tun::open(link::NAME))).map(|tun| Prepared(Some(tun))),
    }
}

/// Makes `mesh0` with its addresses, routes and rules. On return everything is in place; on failure everything is as
/// before. A `mesh0` of an earlier agent is taken over.
///
/// # Errors
/// # Errors
/// If the namespace uses addresses of the range otherwise, or if a step fails.
pub(crate) fn create(
    staging: &Staging,
    ns: &Namespace,
    a: &Addressing,
    prepared: Prepared,
) -> Result<Made, AttachError> {
    sound(a)?;
    if let Some(what) = clash_in(ns, a.range)? {
        return Err(AttachError::Clash(what));
    }
    establish(staging, ns, a, prepared).inspect_err(|error| {
        // Another program may have made something there meanwhile, which stays.
        if matches!(error, AttachError::Foreign { .. } | AttachError::Served) {
            return;
        }
        if let Err(error) = remove(ns) {
            tracing::warn!(%error, "a namespace could not be restored after a failed attach");
        }
    })
}

/// After a restart of the agent: takes over the `mesh0` of the earlier one, or makes one if there is none. Connections
/// survive. If this fails, the range stays barred.
///
/// # Errors
/// As for [`create`], except for clashes.
pub(crate) fn recover(staging: &Staging, ns: &Namespace, a: &Addressing) -> Result<Made, AttachError> {
    if ns.is_host() {
        return Err(AttachError::Host);
    }
    establish(staging, ns, a, Prepared(None))
}

/// Whether the namespace has the `mesh0` of an attachment: one that an agent made and that has this mark. The `mesh0`
/// of an earlier version has no mark; then any that an agent made is accepted.
///
/// # Errors
/// If the interfaces can't be listed.
pub(crate) fn holds(ns: &Namespace, mark: Option<Mark>) -> Result<bool, AttachError> {
    within(ns, || {
        let mut netlink = Netlink::open().at("opening a netlink socket")?;
        let link = link::find(&mut netlink, link::NAME).at("looking for mesh0")?;
        Ok(link.is_some_and(|link| link.is_ours() && mark.is_none_or(|mark| link.bears(mark))))
    })
}

/// Changes the addresses, the range or the MTU of an attached namespace.
///
/// # Errors
/// If it isn't attached, or a step fails.
pub(crate) fn readdress(ns: &Namespace, a: &Addressing) -> Result<(), AttachError> {
    sound(a)?;
    within(ns, || {
        let mut netlink = Netlink::open().at("opening a netlink socket")?;
        let link = mesh0(&mut netlink)?;
        bar(&mut netlink, a)?;
        link::set(&mut netlink, link.index, a.mtu, a.mark).at("setting the MTU of mesh0")?;
        lead(&mut netlink, link.index, a)
    })
}

/// Removes everything that [`create`] made, except that lo stays up. Does nothing if there is nothing.
///
/// # Errors
/// If a step fails.
pub(crate) fn remove(ns: &Namespace) -> Result<(), AttachError> {
    within(ns, || {
        let mut netlink = Netlink::open().at("opening a netlink socket")?;
        delete(&mut netlink)?;
        routes::remove(&mut netlink, None).at("deleting the routes of the range")?;
        rules::remove(&mut netlink).at("deleting the policy rules")
    })
}

/// Ends the namespace's connections from or to these addresses. `mesh0` should still be there, so that the other ends
/// notice. Returns how many there were.
///
/// # Errors
/// If the kernel can't end them. Then those that the engine has reset have ended, and others may remain.
pub(crate) fn end_connections(ns: &Namespace, addresses: &[Ipv4Addr]) -> Result<usize, AttachError> {
    within(ns, || connections::destroy(addresses).at("ending the connections"))
}

/// Removes `mesh0` and leaves the range barred, for a namespace whose instance has ended.
///
/// # Errors
/// If a step fails.
pub(crate) fn withdraw(ns: &Namespace) -> Result<(), AttachError> {
    within(ns, || delete(&mut Netlink::open().at("opening a netlink socket")?))
}

/// A live route or address in the agent's own namespace that uses addresses of the range, in words. Routes to more than
/// the range don't count.
///
/// # Errors
/// If they can't be read.
pub(crate) fn clash(range: Range) -> Result<Option<String>, AttachError> {
    clash_in(&Namespace::host()?, range)
}

/// A live route or address in another namespace, except for `mesh0` and its routes. ([`create`] checks this itself.)
///
/// # Errors
/// If they can't be read.
pub(crate) fn clash_in(ns: &Namespace, range: Range) -> Result<Option<String>, AttachError> {
    within(ns, || {
        let mut netlink = Netlink::open().at("opening a netlink socket")?;
        clash::find(&mut netlink, range).at("reading addresses and routes")
    })
}

/// Whether the configuration is valid. A hostile coordinator, or one with a damaged database, could send anything.
fn sound(a: &Addressing) -> Result<(), AttachError> {
    /// The least MTU that every IPv4 host accepts (RFC 791), and the least that a coordinator allows.
    const LEAST_MTU: u16 = 576;
    if a.mtu < LEAST_MTU {
        return Err(AttachError::Mtu(a.mtu));
    }
    let foreign = [a.instance, a.service]
        .into_iter()
        .find(|address| !a.range.contains(*address) || *address == a.range.first() || *address == a.range.last());
    foreign.map_or(Ok(()), |address| Err(AttachError::Address { address, range: a.range }))
}

/// Whether the namespace may be attached: it isn't the machine's, and has no `mesh0` but one of an earlier agent, which
/// is returned.
fn attachable(ns: &Namespace) -> Result<Option<Link>, AttachError> {
    if ns.is_host() {
        return Err(AttachError::Host);
    }
    within(ns, || {
        let mut netlink = Netlink::open().at("opening a netlink socket")?;
        left(&mut netlink)
    })
}

/// The `mesh0` of an earlier agent, if there is one.
fn left(netlink: &mut Netlink) -> Result<Option<Link>, AttachError> {
    match link::find(netlink, link::NAME).at("looking for mesh0")? {
        Some(link) if !link.is_ours() => Err(AttachError::Foreign { what: link.describe() }),
        Some(link) if link.served => Err(AttachError::Served),
        found => Ok(found),
    }
}

/// Deletes `mesh0`, if it is there and an agent made it.
fn delete(netlink: &mut Netlink) -> Result<(), AttachError> {
    let link = link::find(netlink, link::NAME).at("looking for mesh0")?;
    link.filter(Link::is_ours).map_or(Ok(()), |link| link::delete(netlink, link.index).at("deleting mesh0"))
}

/// Uses the prepared `mesh0`, takes one over or makes one, and configures everything.
fn establish(staging: &Staging, ns: &Namespace, a: &Addressing, prepared: Prepared) -> Result<Made, AttachError> {
    let (Prepared(prepared), name) = (prepared, in_staging());
    let seen = within(ns, || {
        let mut netlink = Netlink::open().at("opening a netlink socket")?;
        let left = if prepared.is_none() { left(&mut netlink)? } else { None };
        // First: from here on packets for the range leave by mesh0 or not at all.
        let seen = bar(&mut netlink, a)?;
        if let Some(link) = left {
            link::move_to(&mut netlink, link.index, staging, &name).at("taking mesh0 out")?;
        }
        Ok(seen)
    })?;
    let tun = prepared.map_or_else(|| bring(staging, ns, &name), Ok)?;
    within(ns, || {
        let mut netlink = Netlink::open().at("opening a netlink socket")?;
        let link = mesh0(&mut netlink)?;
        link::set(&mut netlink, link.index, a.mtu, a.mark).at("setting the MTU of mesh0")?;
        without_ipv6(&mut netlink, link.index);
        let lo = link::find(&mut netlink, "lo").and_then(present).at("looking for lo")?;
        link::up(&mut netlink, lo.index).at("putting lo up")?;
        link::up(&mut netlink, link.index).at("putting mesh0 up")?;
        lead(&mut netlink, link.index, a)
    })?;
    // Last: an earlier failure leaves no device behind.
    tun.set_persistent(true).at("making mesh0 persistent")?;
    Ok(Made { queue: tun.into_queue(), seen })
}

/// A unique name for a device in the staging namespace, where several may be at a time.
fn in_staging() -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("tun{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Brings the TUN device of that name, which is in the staging namespace or is made, into a namespace as `mesh0`.
fn bring(staging: &Staging, ns: &Namespace, name: &str) -> Result<Tun, AttachError> {
    within(staging, || {
        let mut netlink = Netlink::open().at("opening a netlink socket")?;
        let tun = open(&mut netlink, name)?;
        let link = link::find(&mut netlink, name).and_then(present).at("looking for the new TUN device")?;
        link::move_to(&mut netlink, link.index, ns, link::NAME).at("moving mesh0 into the namespace")?;
        Ok(tun)
    })
}

/// Opens the TUN device of that name in the staging namespace of this thread: the one that was moved there, or a new
/// one.
fn open(netlink: &mut Netlink, name: &str) -> Result<Tun, AttachError> {
    let tun = match Tun::open(name) {
        // Another program, or an agent that makes them otherwise, made it: it can't be used.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let link = link::find(netlink, name).and_then(present).at("looking for the former TUN device")?;
            link::delete(netlink, link.index).at("deleting a TUN device of another kind")?;
            Tun::open(name)
        }
        other => other,
    };
    furnish(tun)
}

/// Configures an opened TUN device.
fn furnish(tun: io::Result<Tun>) -> Result<Tun, AttachError> {
    let tun = tun.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => AttachError::NoTun(error),
        Some(libc::EBUSY) => AttachError::Served,
        _ => AttachError::Step { doing: "opening a TUN device", source: error },
    })?;
    // The device isn't persistent until everything is done: a failure leaves no device behind.
    tun.set_persistent(false).at("taking over a TUN device")?;
    // A user namespace that doesn't know our owner has only the agent's own user.
    tun.set_owner(link::OWNER)
        .or_else(|_| tun.set_owner(nix::unistd::geteuid().as_raw()))
        .at("setting the owner of the TUN device")?;
    if !tun::set_offloads(&tun, true).at("setting the offloads of the TUN device")? {
        tracing::warn!("this kernel has no TUN offloads: traffic of instances here will be several times slower");
    }
    Ok(tun)
}

/// Bars the range on every interface, in both directions. (A socket that a program binds to another interface by
/// `SO_BINDTODEVICE` bypasses all routing: `ip_route_output_key_hash_rcu` of net/ipv4/route.c.)
fn bar(netlink: &mut Netlink, a: &Addressing) -> Result<Seen, AttachError> {
    let mut seen = Seen::default();
    routes::bar(netlink, a.range).at("adding the unreachable route")?;
    rules::apply(netlink, a.range, &mut seen).at("adding the policy rules")?;
    Ok(seen)
}

/// Opens the range on `mesh0`, and releases another range that the namespace had before.
fn lead(netlink: &mut Netlink, index: u32, a: &Addressing) -> Result<(), AttachError> {
    let addresses = [a.instance, a.service];
    routes::lead(netlink, index, a.range, addresses).at("setting the addresses and the route of mesh0")?;
    routes::remove(netlink, Some((a.range, index, addresses))).at("deleting the routes of a former range")
}

/// Switches IPv6 off on `mesh0`, as far as possible: the overlay doesn't use it. It works by sysctl of this thread's
/// namespace; if /proc/sys is read-only, at least no address is assigned.
fn without_ipv6(netlink: &mut Netlink, index: u32) {
    let switched = fs::write(format!("/proc/sys/net/ipv6/conf/{}/disable_ipv6", link::NAME), "1");
    let settled = match switched {
        Err(error) if error.kind() != io::ErrorKind::NotFound => link::without_ipv6_addresses(netlink, index),
        _ => Ok(()),
    };
    if let Err(error) = settled {
        tracing::debug!(%error, "IPv6 stays enabled on mesh0; its packets are dropped");
    }
}

fn mesh0(netlink: &mut Netlink) -> Result<Link, AttachError> {
    link::find(netlink, link::NAME).and_then(present).at("looking for mesh0")
}

fn present(link: Option<Link>) -> io::Result<Link> {
    link.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it is gone"))
}

#[cfg(test)]
mod tests;
