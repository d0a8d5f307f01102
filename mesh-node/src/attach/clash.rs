//! Whether a namespace uses addresses of the range for something else.

use std::{io, net::Ipv4Addr};

use mesh_proto::Range;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};

use super::{link, namespace::interface, netlink::Netlink, routes};

/// What overlaps the range, in words. Default routes don't count, nor do `mesh0` and what came with it.
pub(super) fn find(netlink: &mut Netlink, range: Range) -> io::Result<Option<String>> {
    let mesh = link::find(netlink, link::NAME)?.filter(link::Link::is_ours).map(|link| link.index);
    for (index, address, prefix) in routes::addresses(netlink)? {
        if Some(index) != mesh && range.overlaps(address, prefix) {
            return Ok(Some(format!("{address}/{prefix} is an address of {}", interface(index))));
        }
    }
    let overlapping = |route: &&RouteMessage| {
        let (destination, prefix) = routes::destination(route);
        // 0.0.0.0/1 and 128.0.0.0/1 are how VPN clients write a default route.
        prefix > 1
            && range.overlaps(destination, prefix)
            && route.header.protocol != routes::PROTOCOL
            && (oif(route).is_none() || oif(route) != mesh)
    };
    Ok(routes::dump(netlink)?.iter().find(overlapping).map(describe))
}

fn describe(route: &RouteMessage) -> String {
    let (destination, prefix) = routes::destination(route);
    let gateway: Option<Ipv4Addr> = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(rtnetlink::packet_route::route::RouteAddress::Inet(gateway)) => Some(*gateway),
        _ => None,
    });
    let table = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let mut text = format!("{destination}/{prefix} is routed");
    match route.header.kind {
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => {
            text.push_str(" nowhere");
        }
        _ => {}
    }
    if let Some(gateway) = gateway {
        text.push_str(&format!(" via {gateway}"));
    }
    if let Some(index) = oif(route) {
        text.push_str(&format!(" to {}", interface(index)));
    }
    match table.unwrap_or_else(|| route.header.table.into()) {
        254 => {}
        255 => text.push_str(" (table local)"),
        table => text.push_str(&format!(" (table {table})")),
    }
    text
}

fn oif(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}
