//! What a relay can see: WireGuard in TURN, by runners that it knows by a pseudonym. No name, no address of the mesh, nothing
//! that the services say.

use std::net::{IpAddr, SocketAddr};

use mesh_netns_tests::{Capture, Nat, Turn, isolated, packet::protocol, traffic::ping};

use crate::reach::{Lab, Pair, Path};

const TEXT: &[u8] = b"what the services say to each other";

/// What a datagram at a relay is.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A request, an answer, or an indication without data.
    Stun,
    /// WireGuard (a type from 1 to 4, then three zeros) in ChannelData or in an indication.
    WireGuard,
    Other,
}

fn judge(datagram: &[u8]) -> Seen {
    let is_wireguard = |data: &[u8]| matches!(data, [1..=4, 0, 0, 0, ..]);
    match datagram {
        [0x40..=0x4f, _, _, _, data @ ..] if is_wireguard(data) => Seen::WireGuard,
        [kind @ 0..=1, method, _, _, 0x21, 0x12, 0xa4, 0x42, rest @ ..] if rest.len() >= 12 => {
            match (*kind == 0 && matches!(method, 0x16 | 0x17), data_of(&rest[12..])) {
                (false, None) => Seen::Stun,
                (true, Some(data)) if is_wireguard(data) => Seen::WireGuard,
                _ => Seen::Other,
            }
        }
        _ => Seen::Other,
    }
}

/// The attribute DATA (RFC 8656, section 18.4) among a message's attributes.
fn data_of(mut attributes: &[u8]) -> Option<&[u8]> {
    while let [a, b, c, d, rest @ ..] = attributes {
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        if (*a, *b) == (0, 0x13) {
            return rest.get(..length);
        }
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn is_blind(turn: Turn) {
    let lab = Lab::new(turn);
    let capture = Capture::interface(lab.relay.namespace(), "eth0");
    let pair = Pair::new(&lab, [Nat::Symmetric, Nat::Symmetric]);
    let mut stream = pair.app.connect(pair.db.service_address, 7).expect("a connection");
    for _ in 0..20 {
        ping(&mut stream, TEXT).expect("an echo");
    }
    pair.wait_path(Path::Relay);
    let frames = capture.frames();
    let mut carried = 0;
    let coordinator: SocketAddr = lab.coordinator.url(false).trim_start_matches("https://").parse().expect("a place");
    let runners = pair.sites.each_ref().map(|site| IpAddr::from(site.router.outside()));
    for frame in frames.iter().filter(|frame| frame.ethertype == 0x0800) {
        let seen = mesh_netns_tests::packet::Seen::parse(&frame.bytes).expect("IPv4");
        let ends = [IpAddr::from(seen.source), seen.destination.into()];
        // A relay of the mesh is told of removed runners.
        if turn == Turn::Enrolled && ends.contains(&coordinator.ip()) {
            assert_eq!(seen.protocol, protocol::TCP, "{seen:?}");
            continue;
        }
        assert!(ends.iter().any(|end| runners.contains(end)), "{seen:?}");
        assert_eq!(seen.protocol, protocol::UDP, "{seen:?}");
        let judged = judge(&seen.body[8..]);
        assert_ne!(judged, Seen::Other, "{seen:?}: {:02x?}", seen.body);
        carried += usize::from(judged == Seen::WireGuard);
    }
    assert!(carried > 80, "{carried} datagrams of WireGuard: it carried what they said");
    let addresses = [pair.app.address, pair.db.address, pair.app.service_address, pair.db.service_address];
    let addresses = addresses.map(|address| address.octets());
    let secrets: [&[u8]; 7] = [TEXT, b"alder", b"birch", b"shop", b"warp", b"10.0.0", b"192.168."];
    for secret in secrets.into_iter().chain(addresses.iter().map(<[u8; 4]>::as_slice)) {
        let tells = frames.iter().any(|frame| frame.bytes.windows(secret.len()).any(|window| window == secret));
        assert!(!tells, "the relay sees {:?}", String::from_utf8_lossy(secret));
    }
}

#[test]
fn coturn_sees_wireguard_in_turn_and_nothing_else() {
    isolated(|| is_blind(Turn::Coturn));
}

#[test]
fn a_relay_of_the_mesh_sees_wireguard_in_turn_and_nothing_else() {
    isolated(|| is_blind(Turn::Enrolled));
}
