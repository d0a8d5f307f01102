//! A runner behind a NAT, which forgets connections without traffic.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use mesh_netns_tests::{Namespace, Runner, Stack, World, isolated, wait};

use crate::common::{SHOP, declare};

/// After how long the NAT forgets, as many do (RFC 4787, section 4.3, has two minutes as the least; the kernel 30 s and 120 s).
const MEMORY: &str = "30";
/// How often to check whether the NAT still remembers a silent connection.
const PROBES: Duration = Duration::from_secs(8);

/// Source ports change, and only answers come in.
const RULES: &str = "table ip nat {
    chain post {
        type nat hook postrouting priority 100;
        oifname eth0 masquerade random
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
        ct state established,related accept
        iifname lan accept
    }
}
";

fn feed(mut command: Command, text: &str) {
    let mut child = command.stdin(Stdio::piped()).spawn().expect("cannot start nft: install nftables");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("nft reads");
    assert!(child.wait().expect("a child").success(), "nft takes no rules here");
}

/// Puts a machine behind a NAT that forgets soon, or returns why that isn't possible.
fn put_behind(nat: &Namespace, machine: &Runner) -> io::Result<()> {
    let name = machine.namespace().name();
    nat.ip(&[
        &format!("link add lan type veth peer name eth0 netns {name}"),
        "link set lan up",
        "addr add 192.168.7.1/24 dev lan",
    ]);
    machine.namespace().ip(&[
        "link set eth0 up",
        "addr add 192.168.7.2/24 dev eth0",
        "route add default via 192.168.7.1",
    ]);
    machine.namespace().wait_up("eth0");
    let mut nft = nat.command("nft");
    nft.args(["-f", "-"]);
    feed(nft, RULES);
    nat.enter(|| {
        fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        // The tracker is loaded only when a rule needs it.
        ["nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"]
            .iter()
            .try_for_each(|name| fs::write(format!("/proc/sys/net/netfilter/{name}"), MEMORY))
    })
}

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
        let mut cellar = world.machine("cellar", Stack::V4);
        world.unplug(cellar.namespace());
        let nat = Namespace::create("nat");
        world.plug(&nat, Stack::V4);
        if let Err(error) = put_behind(&nat, &cellar) {
            // Kernels before 5.13 don't show these settings in a user namespace.
            println!("\nNOT RUN: net.netfilter.nf_conntrack_udp_timeout can't be set here ({error}): run it as root");
            return;
        }
        cellar.start(&[&coordinator.url(false), &coordinator.token(&["--any"]), "--name", "cellar"]);
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
