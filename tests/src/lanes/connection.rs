//! Connections between instances, by a TCP with what matters here: super-packets of any size, windows, cumulative
//! acknowledgements, retransmission from the first byte that isn't acknowledged. It keeps nothing that arrives out of
//! order, and counts it.

use std::{net::Ipv4Addr, sync::OnceLock, time::Duration};

use super::plan::MTU;
use crate::{
    rng::Rng,
    stream::{ACK, PSH, Packet, RST, Read, SYN, packet},
};

const MSS: u32 = MTU as u32 - 40;
const SUPER: u32 = 60_000;
const TIMEOUT: Duration = Duration::from_millis(250);

/// The caller's port of the first connection.
const PORTS: u16 = 20_000;

/// One end sends, the other one receives.
#[derive(Debug, Default)]
pub(super) struct Half {
    isn: u32,
    window: u32,
    allowed: u32,
    /// How far the program has written, how far that was sent and acknowledged, and how far it was ever sent.
    pub(super) written: u32,
    sent: u32,
    pub(super) acknowledged: u32,
    furthest: u32,
    /// How far it has arrived in order.
    pub(super) arrived: u32,
    timer: Option<Duration>,
    timeouts: u32,
    repeated: u32,
    recovers: u32,
    /// How far its engine has read it.
    pub(super) read: u32,
    /// What its engine reads behind this must not arrive: the right is gone.
    pub(super) cut: Option<u32>,
    /// The lane of its latest packet, and those that it has used since the last look, a bit for each.
    latest: u8,
    pub(super) lanes: u8,
}

#[derive(Debug)]
pub(super) struct Connection {
    number: usize,
    /// The instances, the caller first.
    pub(super) seats: [usize; 2],
    addresses: [(Ipv4Addr, u16); 2],
    pub(super) deployment: u64,
    pub(super) open: [bool; 2],
    pub(super) halves: [Half; 2],
    /// The revisions of the map that took its right away, and of the one that gave it again.
    pub(super) revoked: Option<u64>,
    pub(super) restored: u64,
    /// Its ends do nothing more.
    pub(super) closed: bool,
}

/// What an arrival leads to.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// So many bytes were accepted.
    pub(super) accepted: u32,
    /// It came before something that was sent earlier.
    pub(super) disordered: bool,
    /// These packets answer it.
    pub(super) answers: Vec<Packet>,
}

/// The bytes of a connection from a position on.
fn pattern(number: usize, at: u32, len: usize) -> &'static [u8] {
    const PERIOD: usize = 65_521;
    static BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    let bytes = BYTES.get_or_init(|| {
        let mut rng = Rng::new(1);
        let once: Vec<u8> = (0..PERIOD).map(|_| rng.next() as u8).collect();
        [once.clone(), once].concat()
    });
    let start = (at as usize + number * 4099) % PERIOD;
    &bytes[start..start + len]
}

/// The connection of a packet, and the end that has sent it.
pub(super) fn of(read: &Read<'_>) -> Option<(usize, usize)> {
    match (read.source.1.checked_sub(PORTS), read.destination.1.checked_sub(PORTS)) {
        (Some(number), None) => Some((number.into(), 0)),
        (None, Some(number)) => Some((number.into(), 1)),
        _ => None,
    }
}

impl Connection {
    pub(super) fn new(number: usize, ends: [(usize, Ipv4Addr); 2], deployment: u64, rng: &mut Rng) -> Self {
        let window = 200_000 + rng.below(800_000) as u32;
        let half = |rng: &mut Rng| Half { isn: rng.next() as u32, window, allowed: window, ..Half::default() };
        Self {
            number,
            seats: ends.map(|(seat, _)| seat),
            addresses: [(ends[0].1, PORTS + number as u16), (ends[1].1, 80)],
            deployment,
            open: [false; 2],
            halves: [half(rng), half(rng)],
            revoked: None,
            restored: u64::MAX,
            closed: false,
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        let done = |half: &Half| half.written == half.arrived && half.written == half.acknowledged;
        self.open == [true; 2] && self.halves.iter().all(done)
    }

    fn ends(&self, from: usize) -> [(Ipv4Addr, u16); 2] {
        [self.addresses[from], self.addresses[1 - from]]
    }

    fn packet(&self, from: usize, at: u32, flags: u8, payload: &[u8]) -> Packet {
        let [half, other] = [&self.halves[from], &self.halves[1 - from]];
        let (sequence, ack) = (half.isn.wrapping_add(1 + at), other.isn.wrapping_add(1 + other.arrived));
        packet(self.ends(from), sequence, ack, flags | ACK, &[], payload, MSS as u16)
    }

    /// The caller's first packet.
    pub(super) fn start(&mut self, now: Duration) -> Packet {
        self.halves[0].timer = Some(now);
        packet(self.ends(0), self.halves[0].isn, 0, SYN, &[], &[], 0)
    }

    /// When a timer of it is due.
    pub(super) fn due(&self) -> Option<Duration> {
        let due = |half: &Half| Some(half.timer? + TIMEOUT * (1 << half.timeouts.min(3)));
        if self.closed { None } else { self.halves.iter().filter_map(due).min() }
    }

    /// Its timers are due: what isn't acknowledged goes again. Returns the packets of each end.
    pub(super) fn time_out(&mut self, now: Duration, rng: &mut Rng) -> [Vec<Packet>; 2] {
        [0, 1].map(|from| {
            let half = &mut self.halves[from];
            let due = half.timer.is_some_and(|since| now >= since + TIMEOUT * (1 << half.timeouts.min(3)));
            if !due || self.closed {
                return vec![];
            }
            half.timeouts += 1;
            half.timer = Some(now);
            if from == 0 && !self.open[0] {
                return vec![self.start(now)];
            }
            (half.sent, half.allowed, half.recovers) = (half.acknowledged, 2 * SUPER, half.furthest);
            self.send(from, now, rng)
        })
    }

    /// Everything that an end may send now.
    pub(super) fn send(&mut self, from: usize, now: Duration, rng: &mut Rng) -> Vec<Packet> {
        let mut packets = vec![];
        while self.open[from] && !self.closed {
            let half = &self.halves[from];
            let (at, end) = (half.sent, half.written.min(half.acknowledged + half.window.min(half.allowed)));
            if at >= end {
                break;
            }
            let most = match rng.below(10) {
                0 => 1 + rng.below(200) as u32,
                1 => 1 + rng.below(8000) as u32,
                2..5 => 8000 + rng.below(52_000) as u32,
                _ => SUPER,
            };
            let next = end.min(at + most);
            let flags = if next == half.written || rng.chance(20) { PSH } else { 0 };
            packets.push(self.packet(from, at, flags, pattern(self.number, at, (next - at) as usize)));
            let half = &mut self.halves[from];
            half.sent = next;
            half.furthest = half.furthest.max(next);
            half.timer.get_or_insert(now);
        }
        packets
    }

    /// Notes that an engine has read a packet, and by which lane it goes.
    pub(super) fn note_read(&mut self, from: usize, read: &Read<'_>, lane: u8) {
        let half = &mut self.halves[from];
        let end = read.sequence.wrapping_sub(half.isn.wrapping_add(1)).wrapping_add(read.payload.len() as u32);
        if !read.payload.is_empty() {
            half.read = half.read.max(end);
        }
        half.latest = lane;
        half.lanes |= 1 << lane;
    }

    /// Whether it has no right by this map.
    pub(super) fn is_barred(&self, revision: u64) -> bool {
        self.revoked.is_some_and(|since| (since..self.restored).contains(&revision))
    }

    /// Begins to note which lanes are used.
    pub(super) fn look(&mut self) {
        self.halves.iter_mut().for_each(|half| half.lanes = 1 << half.latest);
    }

    /// Its ends don't care that its right is gone: they send as if all had been acknowledged.
    pub(super) fn insist(&mut self) {
        for half in &mut self.halves {
            (half.window, half.allowed) = (half.window + 300_000, half.window + 300_000);
            half.written += 300_000;
        }
    }

    /// The caller's last packet.
    pub(super) fn reset(&mut self) -> Packet {
        self.closed = true;
        self.packet(0, self.halves[0].acknowledged, RST, &[])
    }

    /// A packet of the end `from` has arrived.
    ///
    /// # Errors
    /// If its bytes are not those that were sent.
    pub(super) fn take(&mut self, from: usize, read: &Read<'_>, now: Duration, rng: &mut Rng) -> Result<Taken, String> {
        let (number, to) = (self.number, 1 - from);
        let mut taken = Taken::default();
        if read.is_reset() {
            return Ok(taken);
        }
        if self.closed {
            taken.answers.push(packet(self.ends(to), read.acknowledgment, 0, RST, &[], &[], 0));
            return Ok(taken);
        }
        if read.flags & SYN != 0 {
            if from == 0 {
                let half = &self.halves[1];
                let ack = read.sequence.wrapping_add(1);
                taken.answers.push(packet(self.ends(1), half.isn, ack, SYN | ACK, &[], &[], 0));
                return Ok(taken);
            }
            if !std::mem::replace(&mut self.open[0], true) {
                (self.halves[0].timer, self.halves[0].timeouts) = (None, 0);
            }
            taken.answers.push(self.packet(0, 0, 0, &[]));
            taken.answers.extend(self.send(0, now, rng));
            return Ok(taken);
        }
        let ours = &mut self.halves[to];
        self.open[to] = true;
        let acknowledged = read.acknowledgment.wrapping_sub(ours.isn.wrapping_add(1));
        if acknowledged > ours.acknowledged && acknowledged <= ours.furthest {
            ours.allowed = ours.window.min(ours.allowed + (acknowledged - ours.acknowledged));
            ours.acknowledged = acknowledged;
            ours.sent = ours.sent.max(acknowledged);
            (ours.timeouts, ours.repeated) = (0, 0);
            ours.timer = (ours.sent > acknowledged).then_some(now);
        } else if acknowledged == ours.acknowledged && read.payload.is_empty() && ours.sent > acknowledged {
            ours.repeated += 1;
            if ours.repeated == 3 && acknowledged >= ours.recovers {
                (ours.sent, ours.recovers) = (acknowledged, ours.furthest);
                ours.allowed = (ours.allowed / 2).max(2 * SUPER);
            }
        }
        if !read.payload.is_empty() {
            let theirs = &mut self.halves[from];
            let at = read.sequence.wrapping_sub(theirs.isn.wrapping_add(1));
            let end = at.wrapping_add(read.payload.len() as u32);
            if at > theirs.furthest || end > theirs.furthest || read.payload != pattern(number, at, read.payload.len())
            {
                return Err(format!("connection {number}: the bytes from {at} to {end} are wrong"));
            }
            if theirs.cut.is_some_and(|cut| end > cut) {
                return Err(format!("connection {number}: sent after the revocation was applied at the sender"));
            }
            taken.disordered = at > theirs.arrived;
            if at <= theirs.arrived && end > theirs.arrived {
                taken.accepted = end - theirs.arrived;
                theirs.arrived = end;
            }
        }
        let sent = self.send(to, now, rng);
        if sent.is_empty() && !read.payload.is_empty() {
            taken.answers.push(self.packet(to, self.halves[to].sent, 0, &[]));
        }
        taken.answers.extend(sent);
        Ok(taken)
    }
}
