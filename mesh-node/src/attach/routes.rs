//! Addresses and routes of an attached namespace.
//!
//! The routes that decide are in a table of our own, which [`super::rules`] selects before all others, so that changes
//! to the main table don't affect the mesh. The main table has a copy, for programs that read it, and for the moment in
//! which another program has deleted our rules.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    ops::ControlFlow,
};

use mesh_proto::Range;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::netlink::{Exists, Netlink};

/// The origin of our routes and rules for the kernel (`rtm_protocol`): `m` for mesh, which no other program uses.
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(b'm');

/// Our routing table: `mesh` in ASCII, which no other program uses.
pub(super) const TABLE: u32 = u32::from_be_bytes(*b"mesh");

/// The main table.
const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;

/// Which interface the route applies to.
const TABLES: [u32; 2] = [TABLE, MAIN];

/// The highest metric, behind every other route.
const LAST: u32 = u32::MAX;

/// The most addresses, and routes of our own table, that are read at a time. We make two and four.
const MOST: usize = 64;

/// A route of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Route {
    table: u32,
    destination: (Ipv4Addr, u8),
    kind: RouteType,
    metric: u32,
    oif: Option<u32>,
    source: Option<Ipv4Addr>,
}

/// Adds a route behind all others that refuses the range, so that nothing leaves by another interface when `mesh0` is
/// missing.
pub(super) fn bar(netlink: &mut Netlink, range: Range) -> io::Result<()> {
    barriers(range).iter().try_for_each(|route| netlink.make(route.message(), Exists::Replace))
}

/// Sets the interface's addresses, and routes the range to it. Connections leave from the first address.
pub(super) fn lead(netlink: &mut Netlink, index: u32, range: Range, addresses: [Ipv4Addr; 2]) -> io::Result<()> {
    let present = addresses_of(netlink, index)?;
    for address in addresses {
        netlink.make(RouteNetlinkMessage::NewAddress(address_message(index, address)), Exists::Replace)?;
    }
    for route in leading(index, range, addresses) {
        netlink.make(route.message(), Exists::Replace)?;
    }
    // Only now: deleting an address also deletes the routes with it as their preferred source.
    for old in present.into_iter().filter(|old| !addresses.contains(old)) {
        netlink.delete(RouteNetlinkMessage::DelAddress(address_message(index, old)))?;
    }
    Ok(())
}

/// Restores what is missing of [`bar`] and [`lead`]. Returns whether anything was missing.
pub(super) fn mend(netlink: &mut Netlink, index: u32, range: Range, addresses: [Ipv4Addr; 2]) -> io::Result<Missing> {
    let mut missing = Missing::default();
    let present = addresses_of(netlink, index)?;
    for address in addresses.into_iter().filter(|address| !present.contains(address)) {
        netlink.make(RouteNetlinkMessage::NewAddress(address_message(index, address)), Exists::Replace)?;
        missing.addresses = true;
    }
    let (barriers, leading) = (barriers(range), leading(index, range, addresses));
    let (ours, copies): (Vec<_>, Vec<_>) = barriers.iter().chain(&leading).partition(|route| route.table == TABLE);
    let present = routes_of(netlink, TABLE, None)?;
    for route in ours.iter().filter(|route| !present.iter().any(|found| Route::read(found) == ***route)) {
        netlink.make(route.message(), Exists::Replace)?;
        missing.routes = true;
    }
    let leads_elsewhere = |found: &RouteMessage| {
        let route = Route::read(found);
        !ours.contains(&&route) && matches!(route.kind, RouteType::Unicast | RouteType::Local)
    };
    for foreign in present.into_iter().filter(leads_elsewhere) {
        // A changed route of ours is replaced by now.
        netlink.delete(RouteNetlinkMessage::DelRoute(foreign))?;
        missing.routes = true;
    }
    for route in copies {
        missing.routes |= netlink.ensure(route.message())?;
    }
    Ok(missing)
}

/// What was missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Missing {
    pub(super) addresses: bool,
    pub(super) routes: bool,
}

/// Deletes our routes, except those for the range, the interface and the addresses in `keep`.
pub(super) fn remove(netlink: &mut Netlink, keep: Option<(Range, u32, [Ipv4Addr; 2])>) -> io::Result<()> {
    let kept = keep.map(|(range, index, addresses)| [barriers(range), leading(index, range, addresses)].concat());
    let is_old = |route: &RouteMessage| !kept.iter().flatten().any(|kept| *kept == Route::read(route));
    for table in TABLES {
        let ours = routes_of(netlink, table, Some(PROTOCOL))?;
        let old = ours.into_iter().filter(is_old);
        old.map(RouteNetlinkMessage::DelRoute).try_for_each(|route| netlink.delete(route))?;
    }
    Ok(())
}

/// Asks for the IPv4 routes of a table, or of an origin, if given.
pub(super) fn request(table: Option<u32>, protocol: Option<RouteProtocol>) -> RouteNetlinkMessage {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    request.header.protocol = protocol.unwrap_or(RouteProtocol::Unspec);
    request.attributes.extend(table.map(RouteAttribute::Table));
    RouteNetlinkMessage::GetRoute(request)
}

/// The IPv4 route in a message, if there is one.
pub(super) fn read(message: RouteNetlinkMessage) -> Option<RouteMessage> {
    match message {
        RouteNetlinkMessage::NewRoute(r) if r.header.address_family == AddressFamily::Inet => Some(r),
        _ => None,
    }
}

/// The first IPv4 address for which `what` returns something, by interface, address and prefix.
pub(super) fn find_address<T>(
    netlink: &mut Netlink,
    what: impl Fn(u32, Ipv4Addr, u8) -> Option<T>,
) -> io::Result<Option<T>> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    netlink.gather(RouteNetlinkMessage::GetAddress(request), |found, answer| {
        *found = address(&answer).and_then(|(index, address, prefix)| what(index, address, prefix));
        if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
}

/// The destination of a route.
pub(super) fn destination(route: &RouteMessage) -> (Ipv4Addr, u8) {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    });
    (address.unwrap_or(Ipv4Addr::UNSPECIFIED), route.header.destination_prefix_length)
}

/// The table of a route.
pub(super) fn table(route: &RouteMessage) -> u32 {
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    table.unwrap_or_else(|| route.header.table.into())
}

/// The routes of a table, of an origin if given, up to the limit.
fn routes_of(netlink: &mut Netlink, of: u32, protocol: Option<RouteProtocol>) -> io::Result<Vec<RouteMessage>> {
    let is_asked_for =
        |route: &RouteMessage| table(route) == of && protocol.is_none_or(|protocol| route.header.protocol == protocol);
    let found = netlink.gather(request(Some(of), protocol), |found: &mut Vec<_>, answer| {
        found.extend(read(answer).filter(is_asked_for));
        enough(found)
    });
    match found {
        // There is no such table.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        other => other,
    }
}

fn enough<T>(found: &[T]) -> ControlFlow<()> {
    if found.len() < MOST { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

fn address(message: &RouteNetlinkMessage) -> Option<(u32, Ipv4Addr, u8)> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return None };
    // IFA_LOCAL is the address; IFA_ADDRESS is the peer's on a point-to-point interface.
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some((message.header.index, local, message.header.prefix_len))
}

fn addresses_of(netlink: &mut Netlink, index: u32) -> io::Result<Vec<Ipv4Addr>> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    request.header.index = index;
    netlink.gather(RouteNetlinkMessage::GetAddress(request), |found: &mut Vec<_>, answer| {
        found.extend(address(&answer).filter(|(of, ..)| *of == index).map(|(_, address, _)| address));
        enough(found)
    })
}

fn address_message(index: u32, address: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.index = index;
    message.header.prefix_len = 32;
    message.attributes.push(AddressAttribute::Local(IpAddr::V4(address)));
    message.attributes.push(AddressAttribute::Address(IpAddr::V4(address)));
    message
}

/// The routes that refuse the range.
fn barriers(range: Range) -> Vec<Route> {
    let route = |table| Route {
        table,
        destination: (range.first(), range.prefix()),
        kind: RouteType::Unreachable,
        metric: LAST,
        oif: None,
        source: None,
    };
    TABLES.map(route).into()
}

/// The routes that lead the range to `mesh0`, and the two addresses to the namespace itself.
fn leading(index: u32, range: Range, addresses: [Ipv4Addr; 2]) -> Vec<Route> {
    let [instance, _] = addresses;
    let own = addresses.map(|address| Route {
        table: TABLE,
        destination: (address, 32),
        kind: RouteType::Local,
        metric: 0,
        oif: Some(index),
        source: None,
    });
    let range = TABLES.map(|table| Route {
        table,
        destination: (range.first(), range.prefix()),
        kind: RouteType::Unicast,
        metric: 0,
        oif: Some(index),
        source: Some(instance),
    });
    own.into_iter().chain(range).collect()
}

impl Route {
    fn message(&self) -> RouteNetlinkMessage {
        let (address, prefix) = self.destination;
        let mut route = RouteMessage::default();
        route.header.address_family = AddressFamily::Inet;
        route.header.destination_prefix_length = prefix;
        route.header.table = u8::try_from(self.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
        route.header.protocol = PROTOCOL;
        route.header.kind = self.kind;
        route.header.scope = match self.kind {
            RouteType::Local => RouteScope::Host,
            RouteType::Unicast => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        route.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(address)));
        route.attributes.push(RouteAttribute::Table(self.table));
        route.attributes.extend((self.metric != 0).then_some(RouteAttribute::Priority(self.metric)));
        route.attributes.extend(self.oif.map(RouteAttribute::Oif));
        route.attributes.extend(self.source.map(|source| RouteAttribute::PrefSource(RouteAddress::Inet(source))));
        RouteNetlinkMessage::NewRoute(route)
    }

    fn read(message: &RouteMessage) -> Self {
        let mut route = Self {
            table: table(message),
            destination: destination(message),
            kind: message.header.kind,
            metric: 0,
            oif: None,
            source: None,
        };
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Priority(metric) => route.metric = *metric,
                RouteAttribute::Oif(index) => route.oif = Some(*index),
                RouteAttribute::PrefSource(RouteAddress::Inet(source)) => route.source = Some(*source),
                _ => {}
            }
        }
        // The kernel also reports a source address for routes without one.
        if route.kind == RouteType::Local {
            route.source = None;
        }
        route
    }
}
