//! What an instance sends to its resolver.

use std::{
    net::Ipv4Addr,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh_dns::{Asker, Directory, Outcome, Transport, answer};
use mesh_proto::InstanceId;

use crate::mesh::{OURS, Shape, address};

/// The resolver of the default range.
const RESOLVER: Ipv4Addr = Ipv4Addr::new(100, 127, 255, 254);
/// The header of IPv4 and that of TCP.
const HEADERS: usize = 40;

/// Reads one question, then steps: a kind, a length and so many bytes. Every answer is one to its question and no longer
/// than the way that it takes allows, and an instance gets packets of its resolver only.
pub fn run(data: &[u8]) {
    let directory = Directory::of(&Arc::new(Shape::FIRST.view(1)), None);
    let asker = InstanceId(OURS[0]);
    for (transport, longest) in [(Transport::Udp, 1232), (Transport::Tcp, usize::from(u16::MAX))] {
        if let Some(answer) = answer(data, &directory, asker, transport) {
            assert!((12..=longest).contains(&answer.len()));
            assert_eq!(answer[..2], data[..2]);
            assert!(answer[2] & 0x80 != 0 && data[2] & 0x80 == 0);
        }
    }
    let mut client = Client { asker: Asker::new(asker, 7), now: Instant::now(), sequence: 0, acknowledged: 0 };
    let mut rest = data;
    while let Some(([kind, length], after)) = rest.split_first_chunk::<2>() {
        let (bytes, after) = after.split_at(after.len().min(usize::from(*length)));
        rest = after;
        client.step(&directory, *kind, bytes);
    }
}

struct Client {
    asker: Asker,
    now: Instant,
    sequence: u32,
    acknowledged: u32,
}

impl Client {
    fn step(&mut self, directory: &Directory, kind: u8, bytes: &[u8]) {
        const FIN: u8 = 1;
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        match kind % 7 {
            0 => self.hand(directory, bytes),
            1 => self.udp(directory, bytes),
            2 => self.tcp(directory, SYN, &[]),
            3 => self.tcp(directory, ACK, bytes),
            4 => self.tcp(directory, ACK | FIN, bytes),
            5 => self.tcp(directory, bytes.first().copied().unwrap_or_default(), bytes.get(1..).unwrap_or_default()),
            _ => self.wait(directory, Duration::from_millis(40 * bytes.len() as u64)),
        }
    }

    fn udp(&mut self, directory: &Directory, question: &[u8]) {
        let length = (8 + question.len()) as u16;
        let mut packet = ip(17, usize::from(length));
        packet.extend([0x12, 0x34, 0, 53]);
        packet.extend(length.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(question);
        self.hand(directory, &packet);
    }

    fn tcp(&mut self, directory: &Directory, flags: u8, payload: &[u8]) {
        let mut packet = ip(6, 20 + payload.len());
        packet.extend([0x12, 0x34, 0, 53]);
        packet.extend(self.sequence.to_be_bytes());
        packet.extend(self.acknowledged.to_be_bytes());
        packet.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        packet.extend(payload);
        let length = payload.len() as u32 + u32::from(flags & 1) + u32::from(flags >> 1 & 1);
        self.sequence = self.sequence.wrapping_add(length);
        self.hand(directory, &packet);
    }

    fn hand(&mut self, directory: &Directory, packet: &[u8]) {
        let mut sent = vec![];
        let outcome = self.asker.handle(directory, packet, self.now, &mut |packet| sent.push(packet.to_vec()));
        assert!(sent.is_empty() || matches!(outcome, Outcome::Taken(_)));
        sent.iter().for_each(|packet| self.take(packet));
        assert!(self.asker.next_timeout(self.now).is_none_or(|at| at <= self.now + Duration::from_secs(60)));
    }

    fn wait(&mut self, directory: &Directory, time: Duration) {
        let end = self.now + time;
        for _ in 0..1000 {
            let Some(at) = self.asker.next_timeout(self.now).filter(|at| *at <= end) else { break };
            self.now = self.now.max(at);
            let mut sent = vec![];
            self.asker.handle_timeout(directory, self.now, &mut |packet| sent.push(packet.to_vec()));
            sent.iter().for_each(|packet| self.take(packet));
        }
        self.now = end;
    }

    fn take(&mut self, packet: &[u8]) {
        assert!(packet.len() <= 1344);
        assert_eq!(packet[12..16], RESOLVER.octets());
        assert_eq!(packet[16..20], address(OURS[0]).octets());
        assert_eq!(packet[20..22], [0, 53]);
        if packet[9] == 6 {
            let number = |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
            let flags = u32::from(packet[33]);
            let payload = packet.len() - 20 - usize::from(packet[32] >> 4) * 4;
            assert!(packet.len() >= HEADERS);
            self.acknowledged = number(24).wrapping_add(payload as u32 + (flags & 1) + (flags >> 1 & 1));
        }
    }
}

/// The header of a packet to the resolver.
fn ip(protocol: u8, payload: usize) -> Vec<u8> {
    let mut header = vec![0x45, 0];
    header.extend(((20 + payload) as u16).to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(address(OURS[0]).octets());
    header.extend(RESOLVER.octets());
    header
}
