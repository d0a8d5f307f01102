//! One round of one contender.

use std::{
    collections::BTreeMap,
    io, thread,
    time::{Duration, Instant},
};

use mesh_netns_tests::wait;
use serde_json::{Value, json};

use crate::{
    arguments::Arguments,
    contender::Contender,
    iperf::{Transfer, transfer},
    meter::{self, Meter, Used},
    pingpong::{AT_ONCE, Path, RoundTrips},
};

/// Streams at once, where there is more than one.
pub(crate) const STREAMS: usize = 8;

/// A transfer is in full swing when its receiver has sent back this many bytes of acknowledgments.
const SWING: f64 = 20e3;

/// How much longer a transfer is meant to take than the round trips beside it.
const MARGIN: Duration = Duration::from_secs(1);

/// Between round trips beside a transfer, at least: were one asked as soon as the one before is answered, a moment
/// without load would count a hundred times as much as one with it.
const PACE: Duration = Duration::from_millis(2);

/// A transfer, and what it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bulk {
    pub(crate) transfer: Transfer,
    pub(crate) used: Used,
}

impl Bulk {
    fn measure(contender: &Contender, path: &Path<'_>, time: Duration, streams: usize, reverse: bool) -> Self {
        let before = Meter::read(&*contender.way);
        let transfer = transfer(path, time, streams, reverse);
        Self { transfer, used: Meter::read(&*contender.way).used_since(&before) }
    }

    /// The daemons' seconds for 10^9 bytes.
    pub(crate) fn daemons_per_gb(&self) -> f64 {
        self.used.daemons / self.transfer.bytes * 1e9
    }

    /// Those of their busiest thread.
    pub(crate) fn busiest_per_gb(&self) -> f64 {
        self.used.busiest / self.transfer.bytes * 1e9
    }

    /// Seconds of the whole machine's.
    pub(crate) fn machine_per_gb(&self) -> f64 {
        self.used.machine / self.transfer.bytes * 1e9
    }

    fn json(&self) -> Value {
        json!({
            "transfer": self.transfer.json(),
            "daemons_cpu_s": self.used.daemons,
            "busiest_thread_cpu_s": self.used.busiest,
            "machine_cpu_s": self.used.machine,
            "stolen_cpu_s": self.used.stolen,
            "udp_receive_buffer_overflows": self.used.overflows,
        })
    }
}

#[derive(Debug)]
pub(crate) struct Sample {
    /// One stream, to the server and from it.
    pub(crate) one: Bulk,
    pub(crate) back: Bulk,
    pub(crate) many: Bulk,
    /// On a path where nothing else is going on, and beside a transfer of one stream.
    pub(crate) idle: RoundTrips,
    pub(crate) loaded: RoundTrips,
    /// A second; one after another, and several at once.
    pub(crate) serial: f64,
    pub(crate) parallel: f64,
    /// What was dropped in all this, by reason.
    pub(crate) drops: BTreeMap<String, u64>,
}

/// Everything once.
pub(crate) fn round(contender: &Contender, arguments: &Arguments) -> Sample {
    let path = contender.path(&arguments.cc);
    let (time, short) = (arguments.transfer(), arguments.short());
    let before = contender.way.drops();
    let bulk = |streams, reverse| Bulk::measure(contender, &path, time, streams, reverse);
    let begun = Instant::now();
    let mut sample = Sample {
        idle: done(contender, "round trips", path.round_trips(Duration::ZERO, || begun.elapsed() >= short)),
        serial: done(contender, "connections", path.connections(1, short)),
        parallel: done(contender, "connections at once", path.connections(AT_ONCE, short)),
        one: bulk(1, false),
        back: bulk(1, true),
        many: bulk(STREAMS, false),
        loaded: done(contender, "round trips beside a transfer", beside_a_transfer(&path, time)),
        drops: contender.way.drops(),
    };
    sample.drops.iter_mut().for_each(|(reason, count)| *count -= before.get(reason).unwrap_or(&0));
    sample.drops.retain(|_, count| *count > 0);
    sample
}

fn beside_a_transfer(path: &Path<'_>, time: Duration) -> io::Result<RoundTrips> {
    let before = meter::received(path.from);
    thread::scope(|scope| {
        let load = scope.spawn(|| transfer(path, time + MARGIN, 1, false));
        wait::until_true("a transfer to be in full swing", || meter::received(path.from) - before > SWING);
        let begun = Instant::now();
        path.round_trips(PACE, || begun.elapsed() >= time || load.is_finished())
    })
}

fn done<T>(contender: &Contender, what: &str, result: io::Result<T>) -> T {
    result.unwrap_or_else(|e| panic!("{}: {what}: {e}", contender.name))
}

impl Sample {
    pub(crate) fn json(&self) -> Value {
        json!({
            "one_stream": self.one.json(),
            "one_stream_back": self.back.json(),
            "streams": self.many.json(),
            "round_trips": self.idle.json(),
            "round_trips_beside_a_transfer": self.loaded.json(),
            "connections_per_s": self.serial,
            "connections_per_s_at_once": self.parallel,
            "drops": self.drops,
        })
    }
}
