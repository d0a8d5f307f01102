//! Datagrams between peers.

use proptest::prelude::*;

use super::*;
use crate::{Inflow, frame};

#[test]
fn the_first_datagram_needs_no_channel_and_the_next_ones_have_it() {
    let (mut world, mut a, mut b) = pair();
    let (from, to) = (a.relayed(), b.relayed());
    assert_eq!(a.send(&mut world, to, &[b"first"]), Wrapped::Singly);
    settle(&mut world, &mut [&mut a, &mut b]);
    assert_eq!(a.send(&mut world, to, &[b"next", b"more", b"end"]), Wrapped::Batch);
    settle(&mut world, &mut [&mut a, &mut b]);
    assert_eq!(b.send(&mut world, from, &[b"back"]), Wrapped::Singly);
    settle(&mut world, &mut [&mut a, &mut b]);
    assert_eq!(b.send(&mut world, from, &[b"back"]), Wrapped::Batch);
    settle(&mut world, &mut [&mut a, &mut b]);
    let got: Vec<_> = b.got.iter().map(|(peer, data)| (*peer, &data[..])).collect();
    assert_eq!(got, [(from, &b"first"[..]), (from, b"next"), (from, b"more"), (from, b"end")]);
    assert_eq!(a.got, [(to, b"back".to_vec()), (to, b"back".to_vec())]);
}

#[test]
fn nothing_is_sent_without_an_allocation_or_to_another_family() {
    let (mut world, mut a, mut b) = pair();
    let v6 = "[2001:db8::1]:1".parse().unwrap();
    assert_eq!(a.send(&mut world, v6, &[b"x", b"y"]), Wrapped::Not);
    let mut fresh = Runner::new(3, &world);
    assert_eq!(fresh.send(&mut world, b.relayed(), &[b"x"]), Wrapped::Not);
    assert_eq!((a.client.take_dropped().unsent, fresh.client.take_dropped().unsent), (2, 1));
    settle(&mut world, &mut [&mut a, &mut b]);
}

/// A client with a channel to each of two peers.
fn bound() -> (World, Allocation, [(u16, SocketAddr); 2]) {
    let (mut world, mut a, mut b) = pair();
    let mut c = Runner::new(3, &world);
    settle(&mut world, &mut [&mut c]);
    let peers = [b.relayed(), c.relayed()];
    for peer in peers {
        a.send(&mut world, peer, &[b"first"]);
        settle(&mut world, &mut [&mut a, &mut b, &mut c]);
    }
    let channels = peers.map(|peer| (a.client.channels.number(peer, world.now).unwrap(), peer));
    (world, a.client, channels)
}

fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let mut datagram = [&[0; HEADER][..], data].concat();
    assert!(frame::write_header(number, &mut datagram));
    datagram
}

#[test]
fn a_batch_of_one_channel_stays_one() {
    let (world, mut client, [(one, peer), (two, other)]) = bound();
    let stride = HEADER + 8;
    let full = [7; 8];
    let parts = [(one, &full[..]), (one, &full), (two, &full), (two, &full), (one, &full[..3])];
    let received: Vec<u8> = parts.iter().flat_map(|(number, data)| channel_data(*number, data)).collect();
    let mut at = 0;
    let runs: Vec<Run> = std::iter::from_fn(|| client.unwrap(&received, stride, &mut at, world.now)).collect();
    let run = |peer, range| Run { peer, range, stride, skip: HEADER };
    assert_eq!(runs, [run(peer, 0..24), run(other, 24..48), run(peer, 48..55)]);
}

#[test]
fn padding_is_no_data() {
    let (world, mut client, [(one, peer), _]) = bound();
    let mut padded = channel_data(one, b"abc");
    padded.push(0);
    let received = [&padded[..], &channel_data(one, b"abcd")].concat();
    let mut at = 0;
    let runs: Vec<_> = std::iter::from_fn(|| client.unwrap(&received, 8, &mut at, world.now)).collect();
    assert_eq!(runs.iter().map(|run| (run.peer, run.range.clone())).collect::<Vec<_>>(), [(peer, 0..7), (peer, 8..16)]);
}

#[test]
fn what_is_no_relays_is_dropped_and_counted() {
    let (world, mut client, [(one, _), _]) = bound();
    client.take_dropped();
    let unknown = channel_data(0x4fff, b"data");
    let mut short = channel_data(one, b"data");
    short.pop();
    let wireguard = [&[4, 0, 0, 0][..], &[9; 60]].concat();
    let foreign_peer = crate::message::send(([192, 0, 2, 9], 1).into(), b"data");
    // As a Data indication, from an address for which there is no permission.
    let mut indication = foreign_peer;
    indication[1] = 0x17;
    let received = [unknown, short, wireguard, indication, vec![0; 5], channel_data(one, b"")];
    for datagram in &received {
        assert_eq!(client.unwrap(datagram, datagram.len(), &mut 0, world.now), None, "{datagram:?}");
    }
    assert_eq!(client.take_dropped().foreign, received.len() as u64);
}

#[test]
fn an_answer_without_the_relays_signature_changes_nothing() {
    let (mut world, mut a, _) = pair();
    world.now += Duration::from_secs(30);
    a.client.handle_timeout(world.now);
    let request = a.client.poll_transmit().expect("a Refresh");
    // Success, and an error that ends the allocation if its signature were valid.
    let mut forged = request;
    forged[0] = 0x01;
    assert_eq!(a.client.unwrap(&forged, forged.len(), &mut 0, world.now), None);
    assert_eq!(a.client.take_dropped().foreign, 1);
    assert!(a.client.relayed().is_some() && a.client.poll_event().is_none());
}

#[test]
fn a_stream_in_any_pieces_has_the_same_messages() {
    let (world, mut client, [(one, peer), (two, other)]) = bound();
    let mut stream = vec![];
    for data in [&[1; 8][..], &[2; 8], &[3; 5]] {
        stream.extend(channel_data(one, data));
        stream.resize(stream.len().next_multiple_of(4), 0);
    }
    stream.extend(channel_data(two, &[4; 8]));
    for piece in 1..=stream.len() {
        let (mut inflow, mut got) = (Inflow::default(), vec![]);
        for bytes in stream.chunks(piece) {
            inflow.push(bytes);
            while let Some((run, bytes)) = inflow.next(&mut client, world.now).unwrap() {
                got.extend(
                    bytes[run.range].chunks(run.stride).map(|datagram| (run.peer, datagram[run.skip..].to_vec())),
                );
            }
        }
        let expected = [(peer, vec![1; 8]), (peer, vec![2; 8]), (peer, vec![3; 5]), (other, vec![4; 8])];
        assert_eq!(got, expected, "in pieces of {piece}");
    }
    let mut inflow = Inflow::default();
    inflow.push(&[0x80; 20]);
    assert!(inflow.next(&mut client, world.now).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever arrives, runs lie one after another inside of what was received, and behind each header is a datagram.
    #[test]
    fn any_bytes_are_unwrapped_without_harm(
        parts in proptest::collection::vec((0..4_u8, proptest::collection::vec(any::<u8>(), 0..40)), 1..20),
        stride in 1..48_usize,
    ) {
        let (world, mut client, [(one, _), (two, _)]) = bound();
        let mut received = vec![];
        for (kind, bytes) in parts {
            match kind {
                0 => received.extend(bytes),
                1 => received.extend(channel_data(one, &bytes)),
                2 => received.extend(channel_data(two, &bytes[..bytes.len().min(stride.saturating_sub(HEADER))])),
                _ => received.extend(crate::message::send(runner(1), &bytes)),
            }
        }
        let (mut at, mut end) = (0, 0);
        while let Some(run) = client.unwrap(&received, stride, &mut at, world.now) {
            prop_assert!(run.range.start >= end && run.range.end <= received.len() && !run.range.is_empty());
            for datagram in received[run.range.clone()].chunks(run.stride) {
                prop_assert!(datagram.len() > run.skip);
            }
            end = run.range.end;
        }
        prop_assert_eq!(at, received.len());

        let mut inflow = Inflow::default();
        for bytes in received.chunks(stride) {
            inflow.push(bytes);
            while let Ok(Some((run, bytes))) = inflow.next(&mut client, world.now) {
                prop_assert!(bytes[run.range].chunks(run.stride).all(|datagram| datagram.len() > run.skip));
            }
        }
    }
}
