//! The router that leads out of this machine's network.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
};

use mesh_process::interfaces::default_routes;

/// The way to the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Way {
    /// The router's address on this side.
    pub(super) router: Ipv4Addr,
    /// This machine's address on that network.
    pub(super) own: Ipv4Addr,
}

/// The way at this moment. IPv6 needs none: firewalls pass answers, and there is no translation.
pub(super) fn way() -> Option<Way> {
    let router = router(&fs::read_to_string("/proc/net/route").unwrap_or_default())?;
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent: this asks for the route.
    socket.connect((router, crab_nat::GATEWAY_PORT)).ok()?;
    match socket.local_addr() {
        Ok(SocketAddr::V4(own)) => Some(Way { router, own: *own.ip() }),
        _ => None,
    }
}

/// The router of the default route that counts.
fn router(routes: &str) -> Option<Ipv4Addr> {
    let least = default_routes(routes).filter(|route| route.router.is_some()).min_by_key(|route| route.metric);
    least.and_then(|route| route.router)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_router_is_that_of_the_default_route_with_the_least_metric() {
        let routes = |lines: &[&str]| router(&[&["Iface Destination Gateway Flags"], lines].concat().join("\n"));
        let lan = "eth0 0001A8C0 00000000 0001 0 0 100 00FFFFFF 0 0 0";
        let far = "wlan0 00000000 0102A8C0 0003 0 0 600 00000000 0 0 0";
        let near = "eth0 00000000 0101A8C0 0003 0 0 100 00000000 0 0 0";
        let ppp = "ppp0 00000000 00000000 0001 0 0 0 00000000 0 0 0";
        assert_eq!(routes(&[lan]), None);
        assert_eq!(routes(&[lan, far]), Some(Ipv4Addr::new(192, 168, 2, 1)));
        assert_eq!(routes(&[lan, far, near, ppp]), Some(Ipv4Addr::new(192, 168, 1, 1)));
        assert_eq!(routes(&["garbage", "a b c d e f g h"]), None);
    }
}
