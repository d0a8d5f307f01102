//! Detects other uses of the range's addresses in a namespace.

use std::{io, net::Ipv4Addr, ops::ControlFlow};

use mesh_proto::Range;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteType};

use super::{link, namespace::interface, netlink::Netlink, routes};

/// Another use of the range's addresses, in words. A route to more than the range, such as a default route or
/// 100.64.0.0/10, is no clash: the more specific one wins. `mesh0` and its routes are ignored.
pub(super) fn find(netlink: &mut Netlink, range: Range) -> io::Result<Option<String>> {
    let mesh = link::find(netlink, link::NAME)?.filter(link::Link::is_ours).map(|link| link.index);
    let of_range = |index, address, prefix| {
        (Some(index) != mesh && range.contains(address))
            .then(|| format!("{address}/{prefix} is an address of {}", interface(index)))
    };
    if let Some(clash) = routes::find_address(netlink, of_range)? {
        return Ok(Some(clash));
    }
    let clashes = |route: &RouteMessage| {
        let (destination, prefix) = routes::destination(route);
        prefix >= range.prefix()
            && range.contains(destination)
            && route.header.protocol != routes::PROTOCOL
            && (oif(route).is_none() || oif(route) != mesh)
    };
    netlink.gather(routes::request(None, None), |found, answer| match routes::read(answer) {
        Some(route) if clashes(&route) => {
            *found = Some(describe(&route));
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    })
}

/// Logs a warning if this machine's routes clash with the range. A running mesh goes on; the warning is for the
/// operator who added such a route.
pub(crate) async fn warn_of_clash(range: Range) {
    if let Ok(Ok(Some(clash))) = tokio::task::spawn_blocking(move || super::clash(range)).await {
        tracing::warn!(%range, "this machine's routes clash with the mesh's range: {clash}");
    }
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
