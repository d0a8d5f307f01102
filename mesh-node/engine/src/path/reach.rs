//! How far a path reaches: the longest packet that it carries, its cut.
//!
//! The first data on a path sends a short ping. When that is answered, a volley follows: a ping of each length that is
//! worth trying, longest first. The longest that comes back is the cut. A long segment that an instance sends again is a
//! reason for doubt: a ping as long as the cut is sent, and if it is lost as well, another volley. Every minute of use,
//! longer packets are tried again. So a path without loss carries no pings after the first volley.
//!
//! Loss lowers the cut only for a moment: lengths that are lost are tried twice more. ICMP has no part in this, since many
//! networks drop it.

use std::time::{Duration, Instant};

use crate::probe::{Ping, Pong, SHORT};

/// The lengths of packets that are tried beside the MTU of the mesh, longest first. 80 bytes go to WireGuard, UDP and IPv6.
const RUNGS: [u16; 8] = [4032, 1408, 1344, 1312, 1248, 1184, 1024, LEAST];

/// The shortest cut.
pub(crate) const LEAST: u16 = 576;

/// The cut until something is known: nearly every path carries this much, with IPv6's least MTU of 1280.
const START: u16 = 1184;

/// How long a pong may take, unless the round trip is known to be long. Two of these are less than the wait before TCP's
/// second retransmission, so that this one already passes (0.6 s at least: RFC 6298, and `TCP_RTO_MIN` of Linux).
const WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// The least time between two doubts.
const SPACING: Duration = Duration::from_millis(200);

/// How often longer packets are tried, and a cut that was not used for long is checked.
const AGAIN: Duration = Duration::from_secs(60);

/// How often a length is tried before it is given up.
const TRIES: u8 = 3;

/// What is known of one path, and what was sent to find out.
#[derive(Debug)]
pub(crate) struct Reach {
    /// The number of the path. Another address is another path.
    path: u16,
    /// The serial number of the next ping.
    serial: u16,
    /// The round trip of the latest pong.
    rtt: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing was sent.
    Untried,
    /// Short pings are sent until one comes back.
    Knocking { tries: u8, sent: Instant },
    /// A volley is on its way. `cut`: before it. `first`: its first ping, `latest`: the first one of its latest try.
    Searching { cut: Option<u16>, best: Option<u16>, first: u16, latest: u16, tries: u8, sent: Instant },
    /// The cut is known. Pings since `first` may raise it, and longer ones were tried last at `tried`.
    Settled { cut: u16, first: u16, since: Instant, tried: Instant, doubtful: bool },
    /// A ping as long as the cut is on its way.
    Doubting { cut: u16, ping: u16, sent: Instant },
}

impl State {
    const fn settled(cut: u16, first: u16, now: Instant) -> Self {
        Self::Settled { cut, first, since: now, tried: now, doubtful: false }
    }
}

/// Pings to be sent, with serial numbers in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Volley {
    path: u16,
    serial: u16,
    lengths: Lengths,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    One(u16),
    /// All up to `top` that are longer than `than`.
    Longer {
        top: u16,
        than: u16,
    },
}

impl Volley {
    /// The pings, in the order in which they have to be sent.
    pub(crate) fn pings(self) -> impl Iterator<Item = Ping> + use<> {
        let (top, than) = match self.lengths {
            Lengths::One(len) => (len, len - 1),
            Lengths::Longer { top, than } => (top, than),
        };
        let serials = (0..).map(move |i| self.serial.wrapping_add(i));
        let path = self.path;
        longer(top, than).zip(serials).map(move |(len, serial)| Ping { path, serial, len })
    }
}

/// The lengths up to `top` that are longer than `than`, longest first.
fn longer(top: u16, than: u16) -> impl Iterator<Item = u16> + use<> {
    let rungs = RUNGS.into_iter().filter(move |rung| *rung < top);
    std::iter::once(top).chain(rungs).take_while(move |len| *len > than)
}

impl Default for Reach {
    fn default() -> Self {
        Self { path: 0, serial: 0, rtt: Duration::ZERO, state: State::Untried }
    }
}

impl Reach {
    /// Of the path with this number, of which nothing is known.
    pub(super) fn new(path: u16) -> Self {
        Self { path, ..Self::default() }
    }

    /// The number of the path.
    pub(super) const fn path(&self) -> u16 {
        self.path
    }

    /// Nothing is known any more.
    pub(super) fn leave(&mut self) {
        *self = Self { path: self.path, serial: self.serial, ..Self::default() };
    }

    /// The serial number of the next ping.
    pub(super) const fn serial(&self) -> u16 {
        self.serial
    }

    /// The round trip, if one was measured.
    pub(super) fn rtt(&self) -> Option<Duration> {
        Some(self.rtt).filter(|rtt| !rtt.is_zero())
    }

    /// A round trip was measured otherwise.
    pub(super) const fn note_rtt(&mut self, rtt: Duration) {
        self.rtt = rtt;
    }

    /// Sends a short ping, whatever is known. Until one has come back, that is all that may be sent.
    pub(crate) fn ask(&mut self, now: Instant) -> Volley {
        match self.state {
            State::Untried | State::Knocking { .. } => self.knock(0, now),
            State::Searching { .. } | State::Settled { .. } | State::Doubting { .. } => {
                self.volley(Lengths::One(SHORT))
            }
        }
    }

    /// Checks the cut, if there is one.
    pub(super) fn check(&mut self, now: Instant) -> Option<Volley> {
        let (State::Settled { cut, .. } | State::Doubting { cut, .. }) = self.state else { return None };
        let volley = self.volley(Lengths::One(cut));
        self.state = State::Doubting { cut, ping: volley.serial, sent: now };
        Some(volley)
    }

    /// Whether a ping has come back.
    pub(super) const fn is_open(&self) -> bool {
        !matches!(self.state, State::Untried | State::Knocking { .. })
    }

    /// When [`Self::poll`] has to be called on a path that isn't used, until it is known how far that reaches.
    pub(super) fn search_due(&self) -> Option<Instant> {
        match self.state {
            State::Searching { tries, .. } if tries < TRIES => self.due(),
            _ => None,
        }
    }

    /// Whether nothing was sent to find out.
    #[inline]
    pub(crate) const fn is_untried(&self) -> bool {
        matches!(self.state, State::Untried)
    }

    /// The longest packet for the path; `None` if it was never tried.
    #[inline]
    pub(crate) fn cut(&self) -> Option<u16> {
        match self.state {
            State::Untried => None,
            State::Knocking { .. } => Some(START),
            State::Searching { cut, best, .. } => Some(best.or(cut).unwrap_or(START)),
            State::Settled { cut, .. } | State::Doubting { cut, .. } => Some(cut),
        }
    }

    /// The cut, if a ping of that length has come back.
    pub(crate) const fn proven(&self) -> Option<u16> {
        match self.state {
            State::Untried | State::Knocking { .. } => None,
            State::Searching { cut, best, .. } => {
                if best.is_some() {
                    best
                } else {
                    cut
                }
            }
            State::Settled { cut, .. } | State::Doubting { cut, .. } => Some(cut),
        }
    }

    /// There is the first data for the path.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<Volley> {
        self.is_untried().then(|| self.knock(0, now))
    }

    /// An instance has sent a long segment again: perhaps the path no longer carries it.
    pub(crate) const fn doubt(&mut self) {
        if let State::Settled { doubtful, .. } = &mut self.state {
            *doubtful = true;
        }
    }

    /// When [`Self::poll`] has to be called, if the path is in use.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Untried => None,
            State::Knocking { tries, sent } => Some(sent + self.backed_off(tries)),
            State::Searching { best: None, tries, sent, .. } => Some(sent + self.backed_off(tries)),
            State::Searching { sent, .. } | State::Doubting { sent, .. } => Some(sent + self.wait()),
            State::Settled { since, doubtful: true, .. } => Some(since + SPACING),
            State::Settled { tried, .. } => Some(tried + AGAIN),
        }
    }

    /// Returns the pings that are due. `top` is the longest packet of all.
    pub(crate) fn poll(&mut self, top: u16, now: Instant) -> Option<Volley> {
        if self.due().is_none_or(|at| at > now) {
            return None;
        }
        match self.state {
            State::Untried => None,
            State::Knocking { tries, .. } => Some(self.knock(tries.saturating_add(1), now)),
            State::Doubting { cut, .. } => Some(self.search(Some(cut), top, now)),
            State::Searching { best: Some(best), first, tries, .. } if tries >= TRIES => {
                self.state = State::settled(best, first, now);
                None
            }
            State::Searching { cut, best, first, tries, .. } => {
                let volley = self.volley(Lengths::Longer { top, than: best.unwrap_or(0) });
                let (latest, tries) = (volley.serial, tries.saturating_add(1));
                self.state = State::Searching { cut, best, first, latest, tries, sent: now };
                Some(volley)
            }
            State::Settled { cut, since, doubtful: false, .. } if cut < top => {
                let volley = self.volley(Lengths::Longer { top, than: cut });
                self.state = State::Settled { cut, first: volley.serial, since, tried: now, doubtful: false };
                Some(volley)
            }
            State::Settled { cut, .. } => {
                let volley = self.volley(Lengths::One(cut.min(top)));
                self.state = State::Doubting { cut: cut.min(top), ping: volley.serial, sent: now };
                Some(volley)
            }
        }
    }

    /// A ping has come back. Returns the pings that have to follow.
    pub(crate) fn pong(&mut self, pong: &Pong, top: u16, now: Instant) -> Option<Volley> {
        if pong.path != self.path || pong.len > top {
            return None;
        }
        let is_since = |first: u16| pong.serial.wrapping_sub(first) < u16::MAX / 2;
        match &mut self.state {
            State::Knocking { sent, .. } => {
                self.rtt = now.saturating_duration_since(*sent);
                return Some(self.search(None, top, now));
            }
            State::Searching { best, first, latest, sent, .. } if is_since(*first) && pong.len >= LEAST.min(top) => {
                *best = (*best).max(Some(pong.len));
                if is_since(*latest) {
                    self.rtt = now.saturating_duration_since(*sent);
                }
                if pong.len == top {
                    self.state = State::settled(top, *first, now);
                }
            }
            State::Doubting { cut, ping, sent } if is_since(*ping) && pong.len >= *cut => {
                self.rtt = now.saturating_duration_since(*sent);
                self.state = State::settled(*cut, *ping, now);
            }
            State::Settled { cut, first, .. } if is_since(*first) => *cut = (*cut).max(pong.len),
            _ => {}
        }
        None
    }

    fn knock(&mut self, tries: u8, now: Instant) -> Volley {
        self.state = State::Knocking { tries, sent: now };
        self.volley(Lengths::One(SHORT))
    }

    fn search(&mut self, cut: Option<u16>, top: u16, now: Instant) -> Volley {
        let volley = self.volley(Lengths::Longer { top, than: 0 });
        let first = volley.serial;
        self.state = State::Searching { cut, best: None, first, latest: first, tries: 1, sent: now };
        volley
    }

    fn volley(&mut self, lengths: Lengths) -> Volley {
        let volley = Volley { path: self.path, serial: self.serial, lengths };
        self.serial = self.serial.wrapping_add(volley.pings().count() as u16);
        volley
    }

    fn wait(&self) -> Duration {
        (2 * self.rtt).clamp(WAIT, LONGEST_WAIT)
    }

    /// The wait for a path on which nothing comes back.
    fn backed_off(&self, tries: u8) -> Duration {
        self.wait() * (1 << tries.min(6))
    }
}

#[cfg(test)]
mod tests;
