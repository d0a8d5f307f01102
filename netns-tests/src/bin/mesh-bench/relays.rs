//! How fast a relay is, and what it costs: one stream of full datagrams in ChannelData, from allocation to allocation.
//! `mesh-coord relay` and coturn take turns. Each gets as many bytes on their way as suits it best.

use std::{
    fmt::Write as _,
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use mesh_netns_tests::{Carrier, Guest, Namespace, Pass, Relay, Stack, Turn, World};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::{Value, json};

use crate::meter;

mod flood;

use flood::Floods;

/// A datagram of the tunnel at an MTU of 1344 in a message of ChannelData.
const MESSAGE: usize = 1380;
/// How many are sent in a call.
const BATCH: usize = 44;
const CHANNEL: u16 = 0x4000;
/// The bytes that may be on their way.
const WINDOWS: [u64; 3] = [128 << 10, 512 << 10, 2 << 20];
/// Nothing new has come for so long: what was on its way is lost.
const LOST: Duration = Duration::from_millis(20);

/// What was measured of one relay.
#[derive(Debug, Clone, Copy)]
struct Sample {
    gigabits: f64,
    /// Seconds of the relay's processor time for a gigabyte that arrived.
    seconds_a_gigabyte: f64,
}

/// A relay, and how both clients talk to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind(Turn, Carrier);

const KINDS: [(Kind, &str); 4] = [
    (Kind(Turn::Own, Carrier::Udp), "rown"),
    (Kind(Turn::Coturn, Carrier::Udp), "rcot"),
    (Kind(Turn::Own, Carrier::Tls), "rowntls"),
    (Kind(Turn::Coturn, Carrier::Tls), "rcottls"),
];

#[derive(Debug)]
pub(crate) struct Relays(Vec<(Kind, Vec<Sample>)>, Floods);

/// A guest with an address at the relay.
type Settled = (Guest, SocketAddr);

impl Relays {
    pub(crate) fn measure(world: &World, rounds: usize, time: Duration) -> Self {
        let mut paths = KINDS.map(|(kind, name)| Path::new(world, kind, name));
        let mut samples = KINDS.map(|(kind, _)| (kind, Vec::new()));
        for path in &mut paths {
            let tried = WINDOWS.map(|window| (window, path.measure(window, time / 4).gigabits));
            let best = tried.into_iter().max_by(|(_, a), (_, b)| a.total_cmp(b));
            path.window = best.map_or(path.window, |(window, _)| window);
        }
        for round in 0..rounds {
            for (path, (Kind(turn, carrier), samples)) in paths.iter_mut().zip(&mut samples) {
                let sample = path.measure(path.window, time);
                eprintln!("round {}/{rounds}  {turn:?} by {carrier:?}: {:.2} Gbit/s", round + 1, sample.gigabits);
                samples.push(sample);
            }
        }
        Self(samples.into(), Floods::measure(world, rounds, time))
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (Kind(turn, carrier), samples) in &self.0 {
            let (speed, cost) = medians(samples);
            let _ = writeln!(
                text,
                "one stream by {carrier:?}, {turn:?} as relay: {speed:.2} Gbit/s, {cost:.2} s/GB for the relay"
            );
        }
        for [(Kind(_, carrier), own), (_, coturn)] in self.0.as_chunks().0 {
            let (own, coturn) = (medians(own), medians(coturn));
            let _ = writeln!(
                text,
                "by {carrier:?} ours is {:.1} times as fast, at 1/{:.1} of the cost",
                own.0 / coturn.0,
                coturn.1 / own.1
            );
        }
        text + &self.1.text()
    }

    pub(crate) fn json(&self) -> Value {
        let all = |samples: &[Sample]| -> Value {
            samples.iter().map(|s| json!({"gbit_s": s.gigabits, "s_per_gb": s.seconds_a_gigabyte})).collect()
        };
        let of = |(Kind(turn, carrier), samples): &(Kind, Vec<Sample>)| json!({"relay": format!("{turn:?}"), "by": format!("{carrier:?}"), "rounds": all(samples)});
        json!({"streams": self.0.iter().map(of).collect::<Value>(), "floods": self.1.json()})
    }
}

fn medians(samples: &[Sample]) -> (f64, f64) {
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
    };
    let speed = samples.iter().map(|sample| sample.gigabits).collect();
    (median(speed), median(samples.iter().map(|sample| sample.seconds_a_gigabyte).collect()))
}

/// Two machines with an allocation each at a relay.
struct Path {
    relay: Relay,
    from: Guest,
    to: Guest,
    window: u64,
}

impl Path {
    fn new(world: &World, Kind(turn, carrier): Kind, name: &str) -> Self {
        let relay = world.relay(name, turn);
        let [(from, _), (to, _)] = settle(world, &relay, carrier, name, ["a", "b"]);
        Self { relay, from, to, window: WINDOWS[0] }
    }

    fn measure(&mut self, window: u64, time: Duration) -> Sample {
        let (arrived, over) = (AtomicU64::new(0), AtomicBool::new(false));
        let Self { relay, from, to, .. } = self;
        let (before, begun) = (meter::process(relay.pid()), Instant::now());
        thread::scope(|scope| {
            scope.spawn(|| take(to, &arrived, &over));
            scope.spawn(|| send(from, window, &arrived, &over));
            thread::sleep(time);
            over.store(true, Ordering::Relaxed);
        });
        let (took, used) = (begun.elapsed().as_secs_f64(), meter::process(relay.pid()) - before);
        let gigabytes = arrived.load(Ordering::Relaxed) as f64 / 1e9;
        Sample { gigabits: gigabytes * 8.0 / took, seconds_a_gigabyte: used / gigabytes }
    }
}

/// Two guests on machines of their own that have a channel to each other.
fn settle(world: &World, relay: &Relay, carrier: Carrier, name: &str, letters: [&str; 2]) -> [Settled; 2] {
    let until = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs() + 86_400;
    let mut guests = letters.map(|letter| {
        let machine = Namespace::create(&format!("{name}{letter}"));
        world.plug(&machine, Stack::Dual);
        let pass = Pass::new(relay.secret(), &letter.repeat(32), until);
        let to = if carrier == Carrier::Tls { relay.tls(false) } else { relay.plain(false) };
        let mut guest = Guest::new(&machine, to, carrier, relay.fingerprint(), &pass);
        let at = guest.allocate().expect("an address at the relay");
        // Lives as long as the socket in it.
        (guest, at)
    });
    let [a, b] = guests.each_ref().map(|(_, at)| *at);
    for ((guest, _), peer) in guests.iter_mut().zip([b, a]) {
        guest.permit(peer).expect("a permission");
        guest.bind(CHANNEL, peer).expect("a channel");
        if carrier != Carrier::Udp {
            continue;
        }
        segment(guest.socket());
        setsockopt(guest.socket(), sockopt::UdpGroSegment, &true).expect("UDP_GRO");
        setsockopt(guest.socket(), sockopt::RcvBufForce, &(8 << 20)).expect("a buffer");
    }
    guests
}

/// From now on what is sent in a call leaves as datagrams of a message each.
fn segment(socket: &UdpSocket) {
    let length = i32::try_from(MESSAGE).expect("a short message");
    setsockopt(socket, sockopt::UdpGsoSegment, &length).expect("UDP_SEGMENT");
}

/// So many messages.
fn batch(messages: usize) -> Vec<u8> {
    let length = u16::try_from(MESSAGE - 4).expect("a short message");
    [&CHANNEL.to_be_bytes()[..], &length.to_be_bytes(), &[7; MESSAGE - 4]].concat().repeat(messages)
}

/// Counts what arrives.
fn take(guest: &mut Guest, arrived: &AtomicU64, over: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while !over.load(Ordering::Relaxed) {
        match guest.take(&mut buffer, LOST) {
            Ok(length) => drop(arrived.fetch_add(length as u64, Ordering::Relaxed)),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => panic!("nothing arrives any more: {error}"),
        }
    }
}

/// Sends batches, as long as no more is on its way than may be.
fn send(guest: &mut Guest, window: u64, arrived: &AtomicU64, over: &AtomicBool) {
    let batch = batch(BATCH);
    let mut sent = 0;
    let mut last = (0, Instant::now());
    while !over.load(Ordering::Relaxed) {
        let come = arrived.load(Ordering::Relaxed);
        if come != last.0 {
            last = (come, Instant::now());
        }
        if sent < come + window {
            // A relay that is down would answer by ICMP.
            guest.write(&batch).expect("the way to the relay");
            sent += batch.len() as u64;
        } else if last.1.elapsed() > LOST {
            sent = come;
            last.1 = Instant::now();
        } else {
            thread::sleep(Duration::from_micros(50));
        }
    }
}
