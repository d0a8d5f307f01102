//! Each lane's datagrams come to its socket.

use nix::sys::socket::getsockopt;

use super::*;

/// A data message: the receiver index is of this lane, and its other bits are set.
fn data(lane: u8, length: usize) -> Vec<u8> {
    let mut message = pattern(length);
    message[..8].copy_from_slice(&[4, 0, 0, 0, 0xa5, 0xf8 | lane, 0xff, 0xff]);
    message
}

/// The sockets of both kinds, and the addresses at which each is reached.
fn bound(lanes: usize) -> Vec<(Lanes, Vec<SocketAddr>)> {
    let (dual, v4) = (Udp::bind_lanes(0, lanes).unwrap(), only_v4().unwrap().with_lanes(lanes).unwrap());
    let (of_dual, of_v4) = (loopback(&dual.sockets[0]), loopback(&v4.sockets[0]));
    assert!(dual.sockets.iter().all(|socket| socket.dual) && v4.sockets.iter().all(|socket| !socket.dual));
    vec![(dual, of_dual.to_vec()), (v4, vec![of_v4[0]])]
}

/// Asserts that `datagram` has come to this socket, and nothing to another.
fn came_to(lanes: &Lanes, lane: usize, datagram: &[u8]) {
    let taken = take(&lanes.sockets[lane], datagram.len());
    assert_eq!(datagrams(&taken), [datagram], "lane {lane}");
    let mut inbox = Inbox::new(LENGTH);
    for socket in &lanes.sockets {
        socket.receive(&mut inbox).unwrap();
        assert_eq!(inbox.messages().count(), 0, "lane {lane}, and {socket:?}");
    }
}

#[test]
fn a_data_message_comes_to_the_socket_of_its_lane_and_everything_else_to_the_first() {
    for count in 1..=MAX_LANES {
        for (lanes, addresses) in bound(count) {
            assert!(lanes.unsteered.is_none() && lanes.sockets.len() == count);
            // Several senders: none is assigned a socket by its address.
            for (to, sender) in addresses.into_iter().flat_map(|to| (0..4).map(move |_| (to, Udp::bind(0).unwrap()))) {
                let send = |datagram: &[u8], lane| {
                    sender.send(None, to, datagram, None).unwrap();
                    came_to(&lanes, lane, datagram);
                };
                for lane in 0..8 {
                    let is_there = usize::from(lane) < count;
                    for length in [32, 33, 1420, 9000] {
                        send(&data(lane, length), if is_there { lane.into() } else { 0 });
                    }
                    send(&data(lane, 31), 0);
                    send(&data(lane, 8), 0);
                    // A handshake's messages, ChannelData, and one that only looks like a data message at first.
                    for (at, byte, length) in [(0, 1, 148), (0, 2, 92), (0, 3, 64), (0, 0x40, 400), (3, 1, 400)] {
                        let mut other = data(lane, length);
                        other[at] = byte;
                        send(&other, 0);
                    }
                }
                // STUN, and less than any message has.
                send(&[&[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42][..], &pattern(20)].concat(), 0);
                send(&[4], 0);
            }
        }
    }
}

#[test]
fn a_batch_of_a_lane_stays_whole() {
    for (lanes, addresses) in bound(4) {
        lanes.sockets.iter().for_each(|socket| socket.set_gro(true).unwrap());
        let sender = Udp::bind(0).unwrap();
        for to in addresses {
            for lane in 0..4 {
                let batch = data(lane, 1400).repeat(40);
                sender.send(None, to, &batch, Some(1400)).unwrap();
                let taken = take(&lanes.sockets[usize::from(lane)], batch.len());
                assert!(taken.len() == 1 && taken[0].2 == 1400 && taken[0].1 == batch, "lane {lane}");
            }
            let mixed = [data(3, 1400), data(2, 1400), vec![1; 148]].concat();
            sender.send(None, to, &mixed, Some(1400)).unwrap();
            let taken = take(&lanes.sockets[3], mixed.len());
            assert_eq!(taken[0].1, mixed, "it goes where its first datagram goes");
        }
    }
}

#[test]
fn every_lane_sends_from_the_port() {
    for (lanes, addresses) in bound(3) {
        let there = Udp::bind(0).unwrap();
        for socket in &lanes.sockets {
            socket.send(None, loopback(&there)[0], b"hello", None).unwrap();
            assert_eq!(take(&there, 5), [(addresses[0], b"hello".to_vec(), 5)]);
        }
    }
}

#[test]
fn the_datagrams_of_each_lane_have_a_hop_limit_of_their_own_so_that_no_batch_has_those_of_two() {
    let lanes = Udp::bind_lanes(0, 4).unwrap();
    let of = |lane: &Udp| {
        let v6 = if lane.dual { getsockopt(&lane.socket, sockopt::Ipv6Ttl).unwrap() } else { 0 };
        (getsockopt(&lane.socket, sockopt::Ipv4Ttl).unwrap(), v6)
    };
    let others: Vec<_> = lanes.sockets[1..].iter().map(of).collect();
    assert_eq!(others, [65, 66, 67].map(|hops| (hops, if lanes.sockets[1].dual { hops } else { 0 })));
    let (v4, _) = of(&lanes.sockets[0]);
    assert!(!(65..=71).contains(&v4), "{v4}");
}

#[test]
fn a_port_with_lanes_is_taken() {
    let in_use = |result: io::Result<()>| assert_eq!(result.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    for (lanes, _) in bound(3) {
        let port = lanes.sockets[0].port().unwrap();
        for count in 1..=MAX_LANES {
            in_use(Udp::bind_lanes(port, count).map(drop));
        }
        in_use(Udp::bind(port).map(drop));
        drop(lanes);
        Udp::bind_lanes(port, 2).unwrap();
    }
    let alone = Udp::bind(0).unwrap();
    in_use(Udp::bind_lanes(alone.port().unwrap(), 4).map(drop));
    for count in [0, MAX_LANES + 1] {
        assert_eq!(Udp::bind_lanes(0, count).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}

#[test]
fn a_socket_that_shares_the_port_later_gets_nothing() {
    let lanes = Udp::bind_lanes(0, 3).unwrap();
    let [to, _] = loopback(&lanes.sockets[0]);
    let _other = Udp::bind_shared((Ipv6Addr::UNSPECIFIED, to.port()).into()).unwrap();
    for lane in 0..8 {
        let sender = Udp::bind(0).unwrap();
        sender.send(None, to, &data(lane, 500), None).unwrap();
        came_to(&lanes, if lane < 3 { lane.into() } else { 0 }, &data(lane, 500));
    }
}

#[test]
fn without_the_program_one_socket_has_the_port_alone() {
    for first in [Udp::bind(0).unwrap(), only_v4().unwrap()] {
        // With it, the kernel refuses every program.
        set(&first.socket, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 1).unwrap();
        let lanes = first.with_lanes(4).unwrap();
        assert_eq!(lanes.unsteered.as_ref().unwrap().kind(), io::ErrorKind::PermissionDenied);
        assert_eq!(lanes.sockets.len(), 1);
        let [to, _] = loopback(&lanes.sockets[0]);
        Udp::bind_shared((Ipv4Addr::UNSPECIFIED, to.port()).into()).unwrap_err();
        for lane in 0..8 {
            Udp::bind(0).unwrap().send(None, to, &data(lane, 500), None).unwrap();
            came_to(&lanes, 0, &data(lane, 500));
        }
    }
}
