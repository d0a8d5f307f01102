//! How long a bystander's round trip takes beside what others on its runner send: bulk, and floods of tiny segments.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use mesh_netns_tests::{Instance, Pace, Rogue, Runner, Stack, Transfer, World, packet::flag};
use serde_json::{Value, json};

use crate::pingpong::{Path, RoundTrips, Server};

const SHOP: &str = "deployment = \"shop\"\n[services.app]\n[services.db]\n";
const EVIL: &str = "deployment = \"evil\"\nteam = \"mallory\"\n[services.a]\n[services.b]\n";

/// The data of a flood's super-packets.
const BYTES: usize = 60_000;
/// The port of ordinary bulk, and of what isn't there.
const BULK: u16 = 9001;
const DISCARD: u16 = 9;

/// What goes on beside the round trips.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Beside {
    Nothing,
    /// One connection of another team that sends what it can.
    Bulk,
    /// Super-packets of another team that are to be cut into segments of so many bytes.
    Segments(u16),
}

#[derive(Debug)]
pub(crate) struct Floods(Vec<(Beside, RoundTrips)>);

impl Floods {
    pub(crate) fn measure(world: &World, cc: &str, time: Duration) -> Self {
        eprintln!("floods");
        let coordinator = world.coordinator_named("fc", &[]);
        for file in [SHOP, EVIL] {
            coordinator.apply(file).done();
        }
        let [here, there] = ["fa", "fb"].map(|name| world.runner(&coordinator, name, Stack::V4));
        let (app, db) = (here.attach("shop/app"), there.attach("shop/db"));
        let (a, b) = (here.attach("evil/a"), there.attach("evil/b"));
        let _echo = Server::start(&db.namespace, cc).expect("a server");
        let _bulk = b.serve_named(BULK);
        let path = Path { from: &app.namespace, to: db.service_address, cc };
        let round_trips = |over: &(dyn Fn() -> bool + Sync)| {
            path.round_trips(Duration::from_millis(1), over).expect("the bystander's connection stands")
        };
        let rogue = Rogue::new(&a);
        let measure = |beside: Beside| (beside, beside.with(&here, &rogue, [&a, &b], time, round_trips));
        let mut all = vec![measure(Beside::Nothing), measure(Beside::Bulk)];
        // What comes next gets no answer: its connections stay as they are.
        b.freeze();
        all.extend([8, 44, 1368].map(|size| measure(Beside::Segments(size))));
        Self(all)
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let bulk = self.0.iter().find(|(beside, _)| *beside == Beside::Bulk).map_or(f64::NAN, |(_, trips)| trips.p50);
        for (beside, trips) in &self.0 {
            let _ = writeln!(
                text,
                "a bystander's round trip beside {}: p50 {:.0} µs, p99 {:.0} µs; {:.2} of that beside bulk",
                beside.text(),
                trips.p50,
                trips.p99,
                trips.p50 / bulk
            );
        }
        text
    }

    pub(crate) fn json(&self) -> Value {
        self.0.iter().map(|(beside, trips)| json!({"beside": beside.text(), "round_trips": trips.json()})).collect()
    }
}

impl Beside {
    fn text(self) -> String {
        match self {
            Self::Nothing => "nothing".to_owned(),
            Self::Bulk => "another team's bulk".to_owned(),
            Self::Segments(size) => format!("another team's flood of segments of {size} bytes"),
        }
    }

    fn with(
        self,
        here: &Runner,
        rogue: &Rogue,
        [a, b]: [&Instance; 2],
        time: Duration,
        round_trips: impl Fn(&(dyn Fn() -> bool + Sync)) -> RoundTrips,
    ) -> RoundTrips {
        let timed = || {
            let begun = Instant::now();
            round_trips(&|| begun.elapsed() >= time)
        };
        match self {
            Self::Nothing => timed(),
            Self::Bulk => {
                let stream = a.connect(b.service_address, BULK).expect("a connection");
                let transfer = Transfer::start(stream, Pace::Full);
                transfer.wait_more(1 << 20);
                let trips = timed();
                transfer.finish().expect("the bulk arrives");
                trips
            }
            Self::Segments(size) => {
                let to = (b.service_address, DISCARD);
                // The flood has a connection to belong to: source port 1 is what `crumble` sends from.
                rogue.sweep(a.address, to, flag::SYN);
                rogue.wait_read(here);
                let over = AtomicBool::new(false);
                thread::scope(|scope| {
                    let flood = scope.spawn(|| {
                        while !over.load(Ordering::Relaxed) {
                            rogue.crumble(to, BYTES, size, 10);
                        }
                    });
                    let trips = timed();
                    over.store(true, Ordering::Relaxed);
                    flood.join().expect("the flood");
                    rogue.wait_read(here);
                    trips
                })
            }
        }
    }
}
