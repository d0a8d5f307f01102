use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use hickory_proto::rr::RecordType;
use mesh_proto::view::InstanceState;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket},
};

use super::*;
use crate::testing::{self, RESOLVER, WEB, WEB_ADDRESS, question, shop, show};

struct Lab {
    asker: Asker,
    directory: Directory,
    now: Instant,
}

fn lab() -> Lab {
    let mut view = shop();
    for id in 100..356 {
        testing::instance(&mut view, id, 3, 2, InstanceState::Live);
    }
    Lab { asker: Asker::new(WEB, 7), directory: Directory::of(&Arc::new(view), None), now: Instant::now() }
}

fn ask_db() -> Vec<u8> {
    question("my-db.warp", RecordType::A).to_vec().unwrap()
}

impl Lab {
    fn send(&mut self, packet: &[u8]) -> (Outcome, Vec<Vec<u8>>) {
        let mut sent = vec![];
        let outcome = self.asker.handle(&self.directory, packet, self.now, &mut |packet| sent.push(packet.to_vec()));
        (outcome, sent)
    }

    fn pass(&mut self, time: Duration) -> Vec<Vec<u8>> {
        let (mut sent, end) = (vec![], self.now + time);
        while let Some(at) = self.asker.next_timeout(self.now).filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.asker.handle_timeout(&self.directory, self.now, &mut |packet| sent.push(packet.to_vec()));
        }
        self.now = end;
        sent
    }
}

/// A packet by UDP, without a checksum as the kernel hands it over.
fn udp(source: Ipv4Addr, destination: Ipv4Addr, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = datagram(source, destination, port, payload);
    packet[20..22].copy_from_slice(&4000u16.to_be_bytes());
    packet[26..28].copy_from_slice(&[0xab, 0xcd]);
    packet
}

#[test]
fn a_question_by_udp_is_answered_to_where_it_came_from() {
    let mut lab = lab();
    let service = Ipv4Addr::new(100, 112, 0, 1);
    for source in [WEB_ADDRESS, service] {
        let (outcome, sent) = lab.send(&udp(source, RESOLVER, 53, &ask_db()));
        assert!(matches!(outcome, Outcome::Taken(8)) && sent.len() == 1, "{outcome:?}");
        let ip = Ipv4Packet::new_checked(&sent[0]).unwrap();
        assert!(ip.verify_checksum());
        assert_eq!((ip.src_addr(), ip.dst_addr(), ip.next_header()), (RESOLVER, source, IpProtocol::Udp));
        let udp = UdpPacket::new_checked(ip.payload()).unwrap();
        assert!(udp.verify_checksum(&RESOLVER.into(), &source.into()));
        assert_eq!((udp.src_port(), udp.dst_port()), (53, 4000));
        assert_eq!(show(udp.payload()), "100.112.0.2");
    }
}

#[test]
fn all_else_is_left_to_the_engine() {
    let mut lab = lab();
    let good = udp(WEB_ADDRESS, RESOLVER, 53, &ask_db());
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        packet
    };
    for (what, packet) in [
        ("another's address", udp(Ipv4Addr::new(100, 127, 0, 4), RESOLVER, 53, &ask_db())),
        ("another destination", udp(WEB_ADDRESS, Ipv4Addr::new(100, 127, 0, 4), 53, &ask_db())),
        ("another port", udp(WEB_ADDRESS, RESOLVER, 5353, &ask_db())),
        ("ICMP", with(&|packet| packet[9] = 1)),
        ("a fragment", with(&|packet| packet[6] = 0x20)),
        ("a later fragment", with(&|packet| packet[7] = 1)),
        ("options", with(&|packet| packet[0] = 0x46)),
        ("IPv6", with(&|packet| packet[0] = 0x65)),
        ("a length that isn't", with(&|packet| packet[25] = 0xff)),
        ("half", good[..30].to_vec()),
        ("nothing", vec![]),
    ] {
        assert_eq!(lab.send(&packet), (Outcome::NotOurs, vec![]), "{what}");
    }
    let mut other = Asker::new(InstanceId(3), 1);
    let outcome = other.handle(&lab.directory, &good, lab.now, &mut |_| panic!("on another runner"));
    assert_eq!(outcome, Outcome::NotOurs);
    let mut empty = with(&|packet| packet.truncate(28));
    empty[3] = 28;
    empty[25] = 8;
    assert_eq!(lab.send(&empty), (Outcome::Ignored, vec![]), "no question");
}

#[test]
fn an_instance_that_asks_too_much_waits_and_others_do_not() {
    let mut lab = lab();
    let packet = udp(WEB_ADDRESS, RESOLVER, 53, &ask_db());
    let mut answered = 0;
    for _ in 0..10_000 {
        answered += usize::from(matches!(lab.send(&packet).0, Outcome::Taken(_)));
    }
    assert_eq!(answered, 2000);
    assert_eq!(lab.send(&packet).0, Outcome::Limited);
    lab.now += Duration::from_millis(5);
    let again = (0..100).filter(|_| matches!(lab.send(&packet).0, Outcome::Taken(_))).count();
    assert_eq!(again, 10, "2,000 a second");
}

/// A client of TCP that does what it is told.
struct Client {
    port: u16,
    sequence: TcpSeqNumber,
    acknowledged: TcpSeqNumber,
    received: Vec<u8>,
    ended: Option<TcpControl>,
}

impl Client {
    fn open(lab: &mut Lab, port: u16) -> Self {
        let mut client =
            Self { port, sequence: TcpSeqNumber(100), acknowledged: TcpSeqNumber(0), received: vec![], ended: None };
        client.send(lab, TcpControl::Syn, &[]);
        client
    }

    fn packet(&self, control: TcpControl, payload: &[u8]) -> Vec<u8> {
        let ack_number = (control != TcpControl::Syn).then_some(self.acknowledged);
        let tcp = TcpRepr {
            src_port: self.port,
            dst_port: 53,
            control,
            seq_number: self.sequence,
            ack_number,
            window_len: 60_000,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload,
        };
        let ip = Ipv4Repr {
            src_addr: WEB_ADDRESS,
            dst_addr: RESOLVER,
            next_header: IpProtocol::Tcp,
            payload_len: tcp.buffer_len(),
            hop_limit: 64,
        };
        let mut bytes = vec![0; ip.buffer_len() + tcp.buffer_len()];
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
        ip.emit(&mut packet, &ChecksumCapabilities::default());
        let caps = ChecksumCapabilities::ignored();
        tcp.emit(&mut TcpPacket::new_unchecked(packet.payload_mut()), &WEB_ADDRESS.into(), &RESOLVER.into(), &caps);
        bytes
    }

    fn send(&mut self, lab: &mut Lab, control: TcpControl, payload: &[u8]) {
        let (_, sent) = lab.send(&self.packet(control, payload));
        self.sequence += payload.len() + control.len();
        self.take(lab, sent);
    }

    /// Takes packets in, and acknowledges them.
    fn take(&mut self, lab: &mut Lab, mut packets: Vec<Vec<u8>>) {
        while !packets.is_empty() {
            let mut news = false;
            for packet in std::mem::take(&mut packets) {
                let ip = Ipv4Packet::new_checked(&packet).unwrap();
                let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
                assert!(tcp.verify_checksum(&RESOLVER.into(), &WEB_ADDRESS.into()));
                assert!(packet.len() <= 1344);
                if tcp.dst_port() != self.port {
                    continue;
                }
                if tcp.rst() {
                    self.ended = Some(TcpControl::Rst);
                    return;
                }
                if tcp.syn() || tcp.seq_number() == self.acknowledged {
                    self.received.extend(tcp.payload());
                    self.acknowledged = tcp.seq_number() + tcp.segment_len();
                    news |= tcp.segment_len() > 0;
                    if tcp.fin() {
                        self.ended = Some(TcpControl::Fin);
                    }
                }
            }
            if news {
                packets = lab.send(&self.packet(TcpControl::None, &[])).1;
            }
        }
    }

    /// Takes an answer out of what has been received.
    fn answer(&mut self) -> Vec<u8> {
        let length = usize::from(u16::from_be_bytes([self.received[0], self.received[1]]));
        let answer: Vec<u8> = self.received.drain(..2 + length).skip(2).collect();
        answer
    }
}

fn framed(question: &[u8]) -> Vec<u8> {
    [&u16::try_from(question.len()).unwrap().to_be_bytes()[..], question].concat()
}

#[test]
fn questions_by_tcp_are_answered_in_order_however_they_are_cut() {
    let mut lab = lab();
    let mut client = Client::open(&mut lab, 4000);
    let db = framed(&ask_db());
    let all = framed(&question("all.app.warp", RecordType::A).to_vec().unwrap());
    for byte in &db {
        client.send(&mut lab, TcpControl::None, &[*byte]);
    }
    assert_eq!(show(&client.answer()), "100.112.0.2");
    client.send(&mut lab, TcpControl::Psh, &[&all[..], &db, &all].concat());
    assert_eq!(show(&client.answer()).split(' ').count(), 256);
    assert_eq!(show(&client.answer()), "100.112.0.2");
    assert_eq!(show(&client.answer()).split(' ').count(), 256);
    // Half closed: what has been asked is answered first.
    client.send(&mut lab, TcpControl::Fin, &db);
    assert_eq!(show(&client.answer()), "100.112.0.2");
    assert_eq!((client.received.len(), client.ended), (0, Some(TcpControl::Fin)));
    assert!(lab.asker.connections.is_none(), "nothing is left of it");
}

#[test]
fn an_instance_has_eight_connections_and_a_quiet_one_ends() {
    let mut lab = lab();
    let mut clients: Vec<Client> = (0..8).map(|n| Client::open(&mut lab, 4000 + n)).collect();
    assert_eq!(Client::open(&mut lab, 4100).ended, Some(TcpControl::Rst), "one too many");
    lab.now += Duration::from_secs(6);
    clients[0].send(&mut lab, TcpControl::None, &framed(&ask_db()));
    assert_eq!(show(&clients[0].answer()), "100.112.0.2");
    let sent = lab.pass(Duration::from_secs(5));
    for client in &mut clients {
        client.take(&mut lab, sent.clone());
    }
    let ended: Vec<_> = clients.iter().map(|client| client.ended).collect();
    assert_eq!((ended[0], &ended[1..]), (None, &[Some(TcpControl::Fin); 7][..]));
    // They don't answer any more, and are forgotten.
    lab.pass(Duration::from_secs(60));
    assert!(lab.asker.connections.is_none());
    assert_eq!(Client::open(&mut lab, 4200).ended, None);
}

#[test]
fn a_client_that_takes_nothing_holds_no_more_than_its_answers() {
    let mut lab = lab();
    let mut client = Client::open(&mut lab, 4000);
    let all = framed(&question("all.app.warp", RecordType::A).to_vec().unwrap());
    for _ in 0..100 {
        // Nothing of what comes is acknowledged.
        lab.send(&client.packet(TcpControl::None, &all));
        client.sequence += all.len();
    }
    assert!(matches!(lab.asker.next_timeout(lab.now), Some(at) if at <= lab.now + Duration::from_secs(10)));
    lab.pass(Duration::from_secs(60));
    assert!(lab.asker.connections.is_none());
}

#[test]
fn what_is_no_question_ends_the_connection() {
    for nonsense in [vec![0, 0], vec![0xff, 0xff, 1], framed(&[0; 5])] {
        let mut lab = lab();
        let mut client = Client::open(&mut lab, 4000);
        client.send(&mut lab, TcpControl::None, &nonsense);
        assert_eq!(client.ended, Some(TcpControl::Rst), "{nonsense:?}");
    }
    let mut lab = lab();
    let mut client = Client::open(&mut lab, 4000);
    client.sequence += 1_000_000;
    client.send(&mut lab, TcpControl::None, &framed(&ask_db()));
    assert!(client.received.is_empty());
    let mut stray = Client::open(&mut lab, 4001);
    stray.port = 4002;
    stray.send(&mut lab, TcpControl::None, &[1]);
    assert_eq!(stray.ended, Some(TcpControl::Rst), "of no connection");
}

#[test]
fn connections_end_with_the_right_to_ask() {
    let mut lab = lab();
    let client = Client::open(&mut lab, 4000);
    lab.directory = Directory::of(
        &Arc::new(mesh_proto::View::empty(
            mesh_proto::Epoch([0; 16]),
            mesh_proto::Revision(1),
            mesh_proto::RunnerId(1),
            mesh_proto::view::Network { range: mesh_proto::Range::DEFAULT, mtu: 1344 },
        )),
        None,
    );
    assert_eq!(lab.send(&client.packet(TcpControl::None, &framed(&ask_db()))).0, Outcome::NotOurs);
    lab.pass(Duration::from_secs(60));
    assert!(lab.asker.connections.is_none());
}
