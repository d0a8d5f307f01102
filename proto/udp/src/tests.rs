//! The socket with itself, over loopback.

use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::*;

mod lanes;

const LENGTH: usize = 65535;

/// Waits for a message, and receives it.
fn take_into(socket: &Udp, inbox: &mut Inbox) {
    let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut wait, PollTimeout::from(5000_u16)), Ok(1));
    socket.receive(inbox).unwrap();
    assert!(inbox.messages().count() > 0);
}

/// Receives until `bytes` bytes have arrived: every message with its sender.
fn take(socket: &Udp, bytes: usize) -> Vec<(SocketAddr, Vec<u8>, usize)> {
    let mut inbox = Inbox::new(LENGTH);
    let mut taken = Vec::new();
    while taken.iter().map(|(_, bytes, _): &(_, Vec<u8>, _)| bytes.len()).sum::<usize>() < bytes {
        let mut wait = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut wait, PollTimeout::from(5000_u16)), Ok(1), "{bytes} bytes expected, {taken:?}");
        socket.receive(&mut inbox).unwrap();
        taken.extend(inbox.messages().map(|m| {
            assert!(!m.truncated);
            (m.from, m.datagrams.to_vec(), m.stride)
        }));
    }
    taken
}

/// The datagrams, one by one.
fn datagrams(taken: &[(SocketAddr, Vec<u8>, usize)]) -> Vec<Vec<u8>> {
    taken.iter().flat_map(|(_, bytes, stride)| bytes.chunks(*stride).map(<[u8]>::to_vec)).collect()
}

fn only_v4() -> io::Result<Udp> {
    Ok(Udp::bind_v4((Ipv4Addr::UNSPECIFIED, 0), Sharing::Alone)?)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 % 251) as u8).collect()
}

fn loopback(socket: &Udp) -> [SocketAddr; 2] {
    let port = socket.port().unwrap();
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

#[test]
fn batches_arrive_as_the_same_datagrams_whatever_is_batched() {
    for (segment, gro) in [(true, true), (true, false), (false, true), (false, false)] {
        let (here, there) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
        there.set_gro(gro).unwrap();
        let batch = pattern(44 * 1376 + 500);
        let expected: Vec<_> = batch.chunks(1376).map(<[u8]>::to_vec).collect();
        for to in loopback(&there) {
            if segment {
                here.send(None, to, &batch, Some(1376)).unwrap();
            } else {
                batch.chunks(1376).for_each(|datagram| here.send(None, to, datagram, None).unwrap());
            }
            let taken = take(&there, batch.len());
            assert_eq!(datagrams(&taken), expected, "segment {segment}, gro {gro}, to {to}");
            if segment {
                assert_eq!(taken.len(), if gro { 1 } else { expected.len() }, "the batch in one piece, or in all");
            }
        }
    }
}

#[test]
fn addresses_are_canonical_both_ways() {
    let (here, there) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
    let only_v4 = only_v4().unwrap();
    for (to, from) in loopback(&there).into_iter().zip(loopback(&here)) {
        here.send(None, to, b"hello", None).unwrap();
        assert_eq!(take(&there, 5), [(from, b"hello".to_vec(), 5)]);
    }
    let [v4, v6] = loopback(&there);
    only_v4.send(None, v4, b"four", None).unwrap();
    assert_eq!(take(&there, 4), [(loopback(&only_v4)[0], b"four".to_vec(), 4)]);
    there.send(None, loopback(&only_v4)[0], b"back", None).unwrap();
    assert_eq!(take(&only_v4, 4), [(v4, b"back".to_vec(), 4)]);
    only_v4.send(None, v6, b"six", None).unwrap_err();
}

#[test]
fn sockets_that_share_a_port_each_get_the_whole_of_a_senders_datagrams() {
    let first = Udp::bind_shared((Ipv6Addr::UNSPECIFIED, 0).into()).unwrap();
    let to: SocketAddr = (Ipv6Addr::UNSPECIFIED, first.port().unwrap()).into();
    let second = Udp::bind_shared(to).unwrap();
    Udp::bind(first.port().unwrap()).unwrap_err();
    for sender in [Udp::bind(0).unwrap(), Udp::bind(0).unwrap(), Udp::bind(0).unwrap()] {
        for _ in 0..8 {
            sender.send(None, loopback(&first)[0], b"again", None).unwrap();
        }
        let mut waits = [PollFd::new(first.as_fd(), PollFlags::POLLIN), PollFd::new(second.as_fd(), PollFlags::POLLIN)];
        assert_eq!(poll(&mut waits, PollTimeout::from(5000_u16)), Ok(1));
        let one = if waits[0].any() == Some(true) { &first } else { &second };
        assert_eq!(datagrams(&take(one, 40)).concat(), b"again".repeat(8));
    }
}

#[test]
fn what_does_not_fit_is_marked() {
    let (here, there) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
    here.send(None, loopback(&there)[0], &pattern(2000), None).unwrap();
    let mut inbox = Inbox::new(1500);
    while inbox.messages().count() == 0 {
        there.receive(&mut inbox).unwrap();
    }
    let message = inbox.messages().next().unwrap();
    assert!(message.truncated);
    assert_eq!(message.datagrams.len(), 1500);
}

#[test]
fn a_full_buffer_is_told() {
    let (here, there) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
    setsockopt(&there.socket, sockopt::RcvBuf, &4096).unwrap();
    let [to, _] = loopback(&there);
    for _ in 0..64 {
        here.send(None, to, &pattern(1376), None).unwrap();
    }
    let mut inbox = Inbox::new(LENGTH);
    let mut arrived = 0;
    // The count comes with the next message that arrives.
    while {
        there.receive(&mut inbox).unwrap();
        inbox.filled > 0
    } {
        arrived += inbox.messages().count();
    }
    here.send(None, to, b"x", None).unwrap();
    there.receive(&mut inbox).unwrap();
    assert_eq!(arrived + inbox.overflow() as usize, 64);
}

#[test]
fn nothing_there_is_no_error_and_a_taken_port_is_one() {
    let socket = Udp::bind(0).unwrap();
    let mut inbox = Inbox::new(LENGTH);
    socket.receive(&mut inbox).unwrap();
    assert_eq!(inbox.messages().count(), 0);
    assert_eq!(Udp::bind(socket.port().unwrap()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
}

/// Loopback has every address of 127/8, so that one socket has several.
#[test]
fn a_datagram_says_to_which_address_it_was_sent_and_leaves_from_the_one_that_is_wanted() {
    for gro in [false, true] {
        for (socket, other) in [(Udp::bind(0), Udp::bind(0)), (only_v4(), Udp::bind(0))] {
            let (socket, other) = (socket.unwrap(), other.unwrap());
            socket.set_gro(gro).unwrap();
            let (port, back) = (socket.port().unwrap(), loopback(&other)[0]);
            let asked = Ipv4Addr::new(127, 1, 2, 3);
            other.send(None, (asked, port).into(), &pattern(3000), Some(1000)).unwrap();
            let mut inbox = Inbox::new(LENGTH);
            take_into(&socket, &mut inbox);
            assert!(inbox.messages().all(|message| message.local == Some(asked.into())));
            for segment in [None, Some(1000)] {
                socket.send(Some(asked.into()), back, &pattern(3000), segment).unwrap();
                let taken = take(&other, 3000);
                assert!(taken.iter().all(|(from, ..)| *from == (asked, port).into()), "{taken:?}");
            }
        }
    }
}

#[test]
fn over_ipv6_too() {
    let (socket, other) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
    other.send(None, loopback(&socket)[1], b"six", None).unwrap();
    let mut inbox = Inbox::new(LENGTH);
    take_into(&socket, &mut inbox);
    assert!(inbox.messages().all(|message| message.local == Some(Ipv6Addr::LOCALHOST.into())));
    socket.send(Some(Ipv6Addr::LOCALHOST.into()), loopback(&other)[1], b"back", None).unwrap();
    assert_eq!(take(&other, 4)[0].0, loopback(&socket)[1]);
}

#[test]
fn an_address_that_is_gone_does_not_keep_a_datagram_back() {
    let (socket, other) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
    for (to, gone) in loopback(&other).into_iter().zip(["192.0.2.77", "2001:db8::77"]) {
        for (segment, bytes) in [(None, 500), (Some(200), 500)] {
            socket.send(Some(gone.parse().unwrap()), to, &pattern(bytes), segment).unwrap();
            assert_eq!(datagrams(&take(&other, bytes)).concat(), pattern(bytes));
        }
    }
    let wrong = "2001:db8::77".parse().unwrap();
    socket.send(Some(wrong), loopback(&other)[0], b"of another family", None).unwrap();
    take(&other, 17);
}

#[test]
fn what_must_stay_whole_is_refused_where_the_interface_is_too_small_and_nothing_else_is() {
    let (here, there) = (Udp::bind(0).unwrap(), Udp::bind(0).unwrap());
    let option = |level, option| {
        let (mut value, mut length): (c_int, _) = (-1, size_of::<c_int>() as libc::socklen_t);
        // SAFETY: the option's value is an int, which outlives the call.
        let result = unsafe {
            libc::getsockopt(here.socket.as_raw_fd(), level, option, (&raw mut value).cast(), &raw mut length)
        };
        assert_eq!(result, 0);
        value
    };
    for to in loopback(&there) {
        let datagram = pattern(1400);
        here.send_whole(None, to, &datagram).unwrap();
        assert_eq!(datagrams(&take(&there, 1400)), [datagram]);
        // Loopback has an MTU of 65,536, and the longest datagram is shorter than that: so it is refused by its length.
        assert!(here.send_whole(None, to, &pattern(65_536)).is_err());
        assert_eq!(option(libc::IPPROTO_IP, libc::IP_MTU_DISCOVER), libc::IP_PMTUDISC_DONT);
        assert_eq!(option(libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER), libc::IPV6_PMTUDISC_DONT);
    }
}
