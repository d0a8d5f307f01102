//! A runner behind a NAT, which forgets connections without traffic.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    time::{Duration, Instant},
};

use mesh_netns_tests::{Namespace, Nat, Stack, World, isolated, wait};

use crate::common::{SHOP, declare};

/// After how long the NAT forgets, as many do (RFC 4787, section 4.3, has two minutes as the least; the kernel 30 s and 120 s).
const MEMORY: u32 = 30;
/// How often to check whether the NAT still remembers a silent connection.
const PROBES: Duration = Duration::from_secs(8);

/// A program on the machine that has sent a datagram outside once and is silent since.
struct Silent {
    inside: UdpSocket,
    outside: UdpSocket,
    /// Its address as seen from outside.
    at: SocketAddr,
}

impl Silent {
    fn new(inside: &Namespace, outside: &Namespace, to: Ipv4Addr) -> Self {
        let bind = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a port");
        let (inside, outside) = (inside.enter(bind), outside.enter(bind));
        for socket in [&inside, &outside] {
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        }
        inside.send_to(b"hello", (to, outside.local_addr().expect("an address").port())).expect("a datagram");
        let (_, at) = outside.recv_from(&mut [0; 16]).expect("what the NAT lets out");
        outside.send_to(b"hello", at).expect("a datagram");
        inside.recv(&mut [0; 16]).expect("what the NAT lets in");
        Self { inside, outside, at }
    }

    fn is_reached(&self) -> bool {
        // The port may be closed (ICMP).
        let _ = self.outside.send_to(b"still there?", self.at);
        self.inside.recv(&mut [0; 16]).is_ok()
    }
}

#[test]
fn a_connection_that_is_idle_for_longer_than_the_nat_remembers_carries_bytes_inwards() {
    isolated(|| {
        let world = World::new();
        let coordinator = world.coordinator(&[]);
        declare(&coordinator, &[SHOP]);
        let aws = world.runner(&coordinator, "aws", Stack::V4);
        let nat = world.router("nat", Nat::Symmetric, Stack::V4);
        if let Err(error) = nat.forget_after(MEMORY) {
            // Kernels before 5.13 don't show these settings in a user namespace.
            println!("\nNOT RUN: net.netfilter.nf_conntrack_udp_timeout can't be set here ({error}): run it as root");
            return;
        }
        let cellar = world.runner_behind(&nat, &coordinator, "cellar");
        let (db, app) = (aws.attach("shop/db"), cellar.attach("shop/app"));
        let listener = db.namespace.enter(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 5432))).expect("a port");
        let mut client = app.connect(db.service_address, 5432).expect("a connection from behind the NAT");
        let (mut server, _) = listener.accept().expect("a connection");
        let endpoint = || aws.peer("cellar").expect("a peer")["endpoint"].clone();
        let before = endpoint();

        // The connection is silent until the NAT has forgotten other silent ones. A check reminds it, so each is
        // checked once.
        let outside = aws.namespace().ip_output("-4 -o addr show eth0");
        let outside =
            outside.split_whitespace().find_map(|word| word.strip_suffix("/24")?.parse().ok()).expect("an address");
        let silent: Vec<Silent> = (0..12).map(|_| Silent::new(cellar.namespace(), aws.namespace(), outside)).collect();
        let mut silent = silent.iter();
        let mut next = Instant::now();
        assert!(silent.next().is_some_and(Silent::is_reached), "nothing is forgotten at once");
        wait::true_within(PROBES * 13, "the NAT to forget", || {
            if next.elapsed() < PROBES {
                return false;
            }
            next = Instant::now();
            !silent.next().expect("the NAT forgets in its time").is_reached()
        });

        server.write_all(b"notify").expect("it stands");
        let mut heard = [0; 6];
        client.read_exact(&mut heard).expect("what the server says comes through the NAT");
        assert_eq!(&heard, b"notify");
        client.write_all(b"ok").expect("it stands");
        server.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
        server.read_exact(&mut [0; 2]).expect("the answer");
        // A NAT that had forgotten it would have given it another port when it spoke next, a minute later.
        assert_eq!(endpoint(), before, "the way in stood all the time");
    });
}
