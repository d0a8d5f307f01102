//! What a client keeps of a steady rate while others flood the relay, which has one thread: everything meets there.

use std::{
    fmt::Write as _,
    net::UdpSocket,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use mesh_netns_tests::{Carrier, Namespace, Stack, Turn, World};
use serde_json::{Value, json};

use super::{BATCH, Settled, batch, segment, settle, take};

/// What a steady client sends: 200 Mbit/s.
const BURST: usize = 8;
const EVERY: Duration = Duration::from_micros(442);

/// Who floods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flood {
    Without,
    Client,
    Strangers,
}

#[derive(Debug)]
pub(super) struct Floods(Vec<(Flood, f64, f64)>);

impl Floods {
    /// Measures each flood once in each round.
    pub(super) fn measure(world: &World, rounds: usize, time: Duration) -> Self {
        let mut relay = world.relay("rflood", Turn::Own);
        relay.use_one_thread();
        let [steady, mut receiver] = settle(world, &relay, Carrier::Udp, "rfla", ["a", "b"]);
        let [flooder, _sink] = settle(world, &relay, Carrier::Udp, "rflc", ["c", "d"]);
        let machine = Namespace::create("rstrange");
        world.plug(&machine, Stack::Dual);
        let stranger = machine.enter(|| UdpSocket::bind("0.0.0.0:0")).expect("a port");
        stranger.connect(relay.plain(false)).expect("a route");
        segment(&stranger);
        let mut measured = Vec::new();
        for _ in 0..rounds {
            for flood in [Flood::Without, Flood::Client, Flood::Strangers] {
                let from = match flood {
                    Flood::Without => None,
                    Flood::Client => Some(flooder.0.socket()),
                    Flood::Strangers => Some(&stranger),
                };
                let (kept, gigabits) = beside(&steady, &mut receiver, from, time);
                eprintln!("steady client beside {flood:?}: {:.1} %, flood {gigabits:.2} Gbit/s", kept * 100.0);
                measured.push((flood, kept, gigabits));
            }
        }
        Self(measured)
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for flood in [Flood::Without, Flood::Client, Flood::Strangers] {
            let of = self.0.iter().filter(|(which, ..)| *which == flood);
            let least = of.clone().map(|(_, kept, _)| *kept).fold(f64::INFINITY, f64::min);
            let most = of.map(|(.., gigabits)| *gigabits).fold(0.0, f64::max);
            let _ = writeln!(
                text,
                "of 200 Mbit/s beside {flood:?} ({most:.1} Gbit/s) at least {:.1} % arrive",
                least * 100.0
            );
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let one = |(flood, kept, gigabits): &(Flood, f64, f64)| json!({"beside": format!("{flood:?}"), "kept": kept, "flood_gbit_s": gigabits});
        self.0.iter().map(one).collect()
    }
}

/// What part of a steady rate arrives, and the rate of the flood beside it.
fn beside(steady: &Settled, receiver: &mut Settled, flood: Option<&UdpSocket>, time: Duration) -> (f64, f64) {
    let (arrived, sent, flooded) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (sending, over) = (AtomicBool::new(true), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| take(&mut receiver.0, &arrived, &over));
        if let Some(socket) = flood {
            scope.spawn(|| {
                let batch = batch(BATCH);
                while sending.load(Ordering::Relaxed) {
                    // The machine's own queue may be full.
                    let length = socket.send(&batch).unwrap_or_default();
                    flooded.fetch_add(length as u64, Ordering::Relaxed);
                }
            });
        }
        let (batch, begun) = (batch(BURST), Instant::now());
        for burst in 0_u32.. {
            let due = EVERY * burst;
            if due > time {
                break;
            }
            if let Some(wait) = due.checked_sub(begun.elapsed()) {
                thread::sleep(wait);
            }
            sent.fetch_add(steady.0.socket().send(&batch).unwrap_or_default() as u64, Ordering::Relaxed);
        }
        sending.store(false, Ordering::Relaxed);
        // What is on its way still arrives.
        thread::sleep(Duration::from_millis(200));
        over.store(true, Ordering::Relaxed);
    });
    let (sent, arrived) = (sent.into_inner() as f64, arrived.into_inner() as f64);
    (arrived / sent, flooded.into_inner() as f64 * 8.0 / 1e9 / time.as_secs_f64())
}
