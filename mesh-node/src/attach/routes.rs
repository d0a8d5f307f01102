//! Addresses and routes of an attached namespace.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use mesh_proto::Range;
use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::netlink::{Exists, Netlink};

/// Who made a route or rule, in the kernel's books (`rtm_protocol`): us. `m` for mesh; nobody else has this number.
pub(super) const PROTOCOL: RouteProtocol = RouteProtocol::Other(b'm');

/// The last metric that there is: behind every other route.
const LAST: u32 = u32::MAX;

/// Puts a route behind all others that refuses the range, so that nothing leaves by another interface for want of
/// `mesh0`.
pub(super) fn bar(netlink: &mut Netlink, range: Range) -> io::Result<()> {
    let mut route = route(range);
    route.header.kind = RouteType::Unreachable;
    route.attributes.push(RouteAttribute::Priority(LAST));
    netlink.make(RouteNetlinkMessage::NewRoute(route), Exists::Replace)
}

/// Gives the interface these addresses and no others, and leads the range to it; connections go out from the first.
pub(super) fn lead(netlink: &mut Netlink, index: u32, range: Range, addresses: [Ipv4Addr; 2]) -> io::Result<()> {
    let present = addresses_of(netlink, index)?;
    for address in addresses {
        netlink.make(RouteNetlinkMessage::NewAddress(address_message(index, address)), Exists::Replace)?;
    }
    let mut route = route(range);
    route.header.kind = RouteType::Unicast;
    route.header.scope = RouteScope::Link;
    route.attributes.push(RouteAttribute::Oif(index));
    route.attributes.push(RouteAttribute::PrefSource(RouteAddress::Inet(addresses[0])));
    netlink.make(RouteNetlinkMessage::NewRoute(route), Exists::Replace)?;
    // Only now: with an address go the routes that prefer it as their source.
    for old in present.into_iter().filter(|old| !addresses.contains(old)) {
        netlink.delete(RouteNetlinkMessage::DelAddress(address_message(index, old)))?;
    }
    Ok(())
}

/// Deletes our routes, but for those to `keep`.
pub(super) fn remove(netlink: &mut Netlink, keep: Option<Range>) -> io::Result<()> {
    for route in dump(netlink)? {
        let kept = keep.is_some_and(|range| destination(&route) == (range.first(), range.prefix()));
        if route.header.protocol == PROTOCOL && !kept {
            netlink.delete(RouteNetlinkMessage::DelRoute(route))?;
        }
    }
    Ok(())
}

/// All IPv4 routes, of all tables.
pub(super) fn dump(netlink: &mut Netlink) -> io::Result<Vec<RouteMessage>> {
    let mut request = RouteMessage::default();
    request.header.address_family = AddressFamily::Inet;
    let answers = netlink.dump(RouteNetlinkMessage::GetRoute(request))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(r) if r.header.address_family == AddressFamily::Inet => Some(r),
            _ => None,
        })
        .collect())
}

/// All IPv4 addresses: of which interface, with which prefix.
pub(super) fn addresses(netlink: &mut Netlink) -> io::Result<Vec<(u32, Ipv4Addr, u8)>> {
    let mut request = AddressMessage::default();
    request.header.family = AddressFamily::Inet;
    let answers = netlink.dump(RouteNetlinkMessage::GetAddress(request))?;
    Ok(answers
        .iter()
        .filter_map(|answer| {
            let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
            // IFA_LOCAL is the address; IFA_ADDRESS is the other end's on a point-to-point interface.
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
                _ => None,
            })?;
            Some((message.header.index, local, message.header.prefix_len))
        })
        .collect())
}

/// Where a route leads.
pub(super) fn destination(route: &RouteMessage) -> (Ipv4Addr, u8) {
    let address = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
        _ => None,
    });
    (address.unwrap_or(Ipv4Addr::UNSPECIFIED), route.header.destination_prefix_length)
}

fn addresses_of(netlink: &mut Netlink, index: u32) -> io::Result<Vec<Ipv4Addr>> {
    let all = addresses(netlink)?;
    Ok(all.into_iter().filter(|(of, ..)| *of == index).map(|(_, address, _)| address).collect())
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

fn route(range: Range) -> RouteMessage {
    let mut route = RouteMessage::default();
    route.header.address_family = AddressFamily::Inet;
    route.header.destination_prefix_length = range.prefix();
    route.header.table = RouteHeader::RT_TABLE_MAIN;
    route.header.protocol = PROTOCOL;
    route.attributes.push(RouteAttribute::Destination(RouteAddress::Inet(range.first())));
    route
}
