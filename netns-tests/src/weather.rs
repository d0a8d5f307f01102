//! Bad weather on the underlay: datagrams are lost, doubled, late, and overtake one another. The kernel has netem for
//! that, as a module that many a machine hasn't got; this is the same by a TUN in the router, and needs nothing.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fs::{self, File},
    io::{ErrorKind, Read as _, Write as _},
    os::fd::AsFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{
    netns::{ip_batch, ip_batch_of},
    sys,
};

/// What happens to datagrams, in thousandths of them.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    /// So many are lost.
    pub lost: u64,
    /// So many arrive twice.
    pub doubled: u64,
    /// So many are late by [`Weather::late_by`], so that others overtake them.
    pub late: u64,
    /// How much later than the others.
    pub late_by: Duration,
    /// How long all of them take.
    pub delay: Duration,
    /// What chance starts from.
    pub seed: u64,
}

impl Weather {
    /// All datagrams take this long, and nothing else happens to them.
    #[must_use]
    pub const fn delay(delay: Duration) -> Self {
        Self { lost: 0, doubled: 0, late: 0, late_by: delay, delay, seed: 1 }
    }
}

/// Weather that lasts until this is dropped.
pub struct Storm {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    passed: AtomicU64,
    lost: AtomicU64,
}

const NAME: &str = "weather";

/// The routing table that leads into the weather.
const TABLE: u32 = 66;

impl Storm {
    /// Over all UDP between the router's networks, also those to come.
    pub(crate) fn over_all(weather: Weather) -> Self {
        let tun = sys::tun(NAME).unwrap_or_else(|e| panic!("no TUN in the router: {e}"));
        ip_batch(&[&format!("link set {NAME} up txqueuelen 4000")]);
        // What comes out of it has the sender's address, to which there is another way (ip-sysctl.rst, rp_filter).
        for interface in ["all", NAME] {
            let path = format!("/proc/sys/net/ipv4/conf/{interface}/rp_filter");
            fs::write(&path, "0").unwrap_or_else(|e| panic!("cannot write {path}: {e}"));
        }
        for family in ["-4", "-6"] {
            ip_batch_of(
                &[family],
                &[
                    &format!("route add default dev {NAME} table {TABLE}"),
                    // What has passed it, and what the router itself says.
                    &format!("rule add pref 2 iif {NAME} lookup main"),
                    "rule add pref 2 iif lo lookup main",
                    &format!("rule add pref 3 ipproto udp lookup {TABLE}"),
                ],
            );
        }
        let shared = Arc::new(Shared::default());
        let of_thread = Arc::clone(&shared);
        let thread = thread::spawn(move || blow(&mut tun.into(), weather, &of_thread));
        Self { shared, thread: Some(thread) }
    }

    /// How many datagrams have passed so far.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.shared.passed.load(Ordering::Acquire)
    }

    /// How many have not.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Acquire)
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        // Its rules lead to an interface that is gone, which is as good as no rules.
        self.thread.take().map(JoinHandle::join);
    }
}

/// A datagram on its way: when it is due, and its number, so that those of one time keep their order.
type Due = Reverse<(Instant, u64, Vec<u8>)>;

fn blow(tun: &mut File, weather: Weather, shared: &Shared) {
    let (mut under_way, mut chance, mut number) = (BinaryHeap::<Due>::new(), Chance(weather.seed | 1), 0);
    let mut buffer = vec![0; 1 << 16];
    while !shared.over.load(Ordering::Acquire) {
        let now = Instant::now();
        while under_way.peek().is_some_and(|Reverse((due, ..))| *due <= now)
            && let Some(Reverse((_, _, packet))) = under_way.pop()
        {
            // A machine that is gone takes nothing.
            let _ = tun.write(&packet);
            shared.passed.fetch_add(1, Ordering::AcqRel);
        }
        let next = under_way.peek().map_or(100, |Reverse((due, ..))| due.duration_since(now).as_millis() + 1);
        let wait = PollTimeout::from(next.min(100) as u8);
        let mut waiting = [PollFd::new(tun.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, wait).expect("poll");
        // As many as are there, but not so many that those that are due wait for them.
        for _ in 0..256 {
            let length = match tun.read(&mut buffer) {
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("reading the weather's TUN: {error}"),
            };
            if chance.of(weather.lost) {
                shared.lost.fetch_add(1, Ordering::AcqRel);
                continue;
            }
            let late = if chance.of(weather.late) { weather.late_by } else { Duration::ZERO };
            let due = Instant::now() + weather.delay + late;
            for _ in 0..=u8::from(chance.of(weather.doubled)) {
                number += 1;
                under_way.push(Reverse((due, number, buffer[..length].to_vec())));
            }
        }
    }
}

/// Chance that can be had again (Marsaglia, Xorshift RNGs, 2003).
struct Chance(u64);

impl Chance {
    fn of(&mut self, thousandths: u64) -> bool {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % 1000 < thousandths
    }
}
