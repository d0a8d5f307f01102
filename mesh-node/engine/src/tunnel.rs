//! WireGuard. Only this module knows boringtun, and the mistakes of a caller that make it panic or stall.
//!
//! What this module and [`crate::peer`] do about them, by file and line of boringtun 0.7.1:
//! * A datagram longer than the buffer panics before it is authenticated (noise/session.rs:242): [`Tunnel::open`]
//!   and [`Tunnel::seal`] (session.rs:197) refuse it.
//! * Sessions are dated by the last call of `update_timers` (noise/timers.rs:125), so that a new session of a tunnel
//!   without ticks is old at once: [`Tunnel::is_stale`] says when to tick before use.
//! * The queue for packets without a session reorders, leaks handshakes and stalls (noise/mod.rs:264, 424, 510):
//!   it is never used, see [`Tunnel::has_session`].
//! * A tunnel whose handshakes failed for 90 s, or that is 540 s old, stays dead until data is sent, and logs an ERROR
//!   (timers.rs:195): [`Tunnel::tick`] gives up earlier, and a new tunnel is made when it is needed.
//! * After 15 s of idling a tick between sending and the answer starts a handshake (timers.rs:271): that tick is skipped.
//! * Each tunnel counts handshakes by itself, or shares a limiter that has one budget for all and demands cookies even
//!   for responses (noise/mod.rs:290, noise/rate_limiter.rs:160): all tunnels share a limiter that lets everything pass,
//!   and [`crate::limit::Admissions`] decides before.
//! * A cookie is used 5 s later, with the next initiation (timers.rs:218): [`Tunnel::retry`].
//! * Packets are not padded (noise/session.rs:211): [`Tunnel::seal`] does.
//! * Indices have 24 bits and have to differ: the caller draws them.
//!
//! boringtun reads a clock of its own. Only its timers use it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use boringtun::{
    noise::{Tunn, TunnResult, errors::WireGuardError},
    x25519,
};
use mesh_proto::PublicKey;

mod identity;

pub(crate) use self::identity::{Handshake, Identity};
pub(crate) use crate::index::TunnelIx;
use crate::{Reason, limit::Mac};

/// The bytes that a data message adds to a packet: 16 of header, 16 of authentication (whitepaper §5.4.6).
pub(crate) const OVERHEAD: usize = 32;

/// The length in bytes of the longest message that isn't data, a handshake initiation.
pub(crate) const CONTROL: usize = 148;

/// The age at which a session ends (whitepaper §6.1, Reject-After-Time).
pub(crate) const SESSION: Duration = Duration::from_secs(180);

/// The age at which the initiator renews a session (Rekey-After-Time).
const REKEY: Duration = Duration::from_secs(120);

/// The age at which either side renews a session that carries only keepalives: later than its initiator renews it.
const WORN: Duration = Duration::from_secs(140);

/// How long an answer may take (Keepalive-Timeout + Rekey-Timeout).
pub(crate) const ANSWER: Duration = Duration::from_secs(15);

/// How old boringtun's idea of the time may be.
const STALE: Duration = Duration::from_secs(1);

/// When unanswered handshakes are given up: shortly before boringtun's own 90 s, and after the answer to a retry.
const GIVE_UP: Duration = Duration::from_secs(88);

/// How often a cookie leads to another initiation at most.
const RETRY: Duration = Duration::from_secs(1);

/// The first byte of an initiation and of a data message (whitepaper §5.4).
const INITIATION: u8 = 1;
const DATA: u8 = 4;

/// The `mac1` of an initiation or a response (whitepaper §5.4.4).
pub(crate) fn mac(message: &[u8]) -> Option<Mac> {
    let (rest, _mac2) = message.split_last_chunk::<16>()?;
    rest.last_chunk().copied()
}

/// The tunnel of a data message; `None` for other messages.
#[inline]
pub(crate) fn data_index(datagram: &[u8]) -> Option<TunnelIx> {
    let is_data = datagram.starts_with(&[DATA, 0, 0, 0]) && datagram.len() >= OVERHEAD;
    if is_data { first_index(datagram) } else { None }
}

/// The sender's tunnel of an initiation or a response; the receiver's of another message.
#[inline]
pub(crate) fn first_index(message: &[u8]) -> Option<TunnelIx> {
    let (header, _) = message.split_first_chunk::<8>()?;
    Some(TunnelIx(u32::from_le_bytes([header[4], header[5], header[6], header[7]]) >> 8))
}

/// The tunnel can't be used any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dead;

/// The outcome of a message that isn't data.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The other side wants a session. The response has this length and goes to the sender. This side can use the session
    /// once data has arrived by it.
    Response(usize),
    /// A session stands. Its first message has this length and goes to the sender.
    Session(usize),
    /// A cookie for the next initiation.
    Cookie,
}

/// The tunnel to one runner.
pub(crate) struct Tunnel {
    tunn: Tunn,
    index: TunnelIx,
    /// When the next tick is needed before use.
    stale_at: Instant,
    /// Since when initiations go unanswered.
    asking: Option<Instant>,
    /// When an initiation was answered last. That makes a session, which its first data confirms.
    answered: Option<Instant>,
    /// When the last authentic message arrived.
    heard: Instant,
    /// When the last data or keepalive was sent.
    sent: Instant,
    /// When the first data was sent after the last message that arrived.
    unanswered: Option<Instant>,
    /// The same for data that demands an answer.
    ignored: Option<Instant>,
    /// When a cookie last led to an initiation.
    retried: Option<Instant>,
    /// For packets that can't be padded in place.
    padded: Vec<u8>,
}

impl Tunnel {
    /// A tunnel without a session. `index` is unique among the tunnels of this runner.
    pub(crate) fn new(identity: &Identity, key: &PublicKey, index: TunnelIx, now: Instant) -> Self {
        let theirs = x25519::PublicKey::from(key.0);
        let limiter = Some(Arc::clone(&identity.permissive));
        let tunn = Tunn::new(identity.private.clone(), theirs, None, None, index.0, limiter);
        Self {
            tunn,
            index,
            stale_at: now + STALE,
            asking: None,
            answered: None,
            heard: now,
            sent: now,
            unanswered: None,
            ignored: None,
            retried: None,
            padded: Vec::new(),
        }
    }

    pub(crate) const fn index(&self) -> TunnelIx {
        self.index
    }

    /// The age of the current session, by boringtun's clock.
    pub(crate) fn session_age(&self) -> Option<Duration> {
        self.tunn.time_since_last_handshake()
    }

    /// The age of the youngest session, confirmed or not.
    pub(crate) fn youngest_session(&self, now: Instant) -> Option<Duration> {
        let answered = self.answered.map(|then| now.saturating_duration_since(then));
        [self.session_age(), answered].into_iter().flatten().min()
    }

    /// Whether packets can be sealed. Only [`Self::tick`] ends a session.
    pub(crate) fn has_session(&self) -> bool {
        self.session_age().is_some()
    }

    /// Since when initiations go unanswered.
    pub(crate) const fn asking(&self) -> Option<Instant> {
        self.asking
    }

    /// For how long initiations have gone unanswered.
    pub(crate) fn asking_for(&self, now: Instant) -> Duration {
        self.asking.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// For how long initiations have gone unanswered while nothing else has arrived either.
    pub(crate) fn asking_in_vain(&self, now: Instant) -> Option<Duration> {
        let since = self.asking.filter(|since| self.heard <= *since)?;
        Some(now.saturating_duration_since(since))
    }

    /// For how long nothing authentic has arrived.
    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// When the last data or keepalive was sent.
    pub(crate) const fn sent(&self) -> Instant {
        self.sent
    }

    /// Writes a keepalive and returns its length. `None` if there is no session.
    pub(crate) fn keepalive(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Option<usize> {
        if !self.has_session() {
            return None;
        }
        self.sent = now;
        written(self.tunn.encapsulate(&[], message))
    }

    /// Whether the session is so old that a new one is needed.
    pub(crate) fn is_worn(&self) -> bool {
        self.session_age().is_some_and(|age| age >= WORN)
    }

    /// Notes that the packet that has just been sent demands an answer.
    #[inline]
    pub(crate) fn note_question(&mut self, now: Instant) {
        self.ignored.get_or_insert(now);
    }

    /// For how long data that demands an answer has gone unanswered.
    pub(crate) fn ignored_for(&self, now: Instant) -> Duration {
        self.ignored.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Since when data that demands an answer has gone unanswered.
    pub(crate) const fn ignored(&self) -> Option<Instant> {
        self.ignored
    }

    /// Whether [`Self::tick`] has to be called before anything else.
    #[inline]
    pub(crate) fn is_stale(&self, now: Instant) -> bool {
        now >= self.stale_at
    }

    /// Seals the first `len` bytes of `packet` into `datagram`, padded to a multiple of 16 (§5.4.6), but not beyond `mtu`.
    /// Returns the length of the datagram, [`sealed_len`]. The bytes behind the packet are restored afterwards. `None` if
    /// there is no session or too little room.
    #[inline]
    pub(crate) fn seal(
        &mut self,
        packet: &mut [u8],
        len: usize,
        mtu: usize,
        datagram: &mut [u8],
        now: Instant,
    ) -> Option<usize> {
        let padded = padded(len, mtu);
        if datagram.len() < (padded + OVERHEAD).max(CONTROL) {
            return None;
        }
        self.unanswered.get_or_insert(now);
        self.sent = now;
        if padded == len {
            return written(self.tunn.encapsulate(packet.get(..len)?, datagram));
        }
        if let Some(whole) = packet.get_mut(..padded) {
            let mut behind = [0; PADDING];
            let behind = &mut behind[..padded - len];
            behind.copy_from_slice(&whole[len..]);
            whole[len..].fill(0);
            let sealed = written(self.tunn.encapsulate(whole, datagram));
            whole[len..].copy_from_slice(behind);
            return sealed;
        }
        self.padded.clear();
        self.padded.extend_from_slice(packet.get(..len)?);
        self.padded.resize(padded, 0);
        written(self.tunn.encapsulate(&self.padded, datagram))
    }

    /// Opens a data message into the beginning of `packet`, which may be overwritten even if it fails. Returns the packet's
    /// length without padding; zero is a keepalive.
    ///
    /// # Errors
    /// If it isn't authentic, or not an IPv4 packet.
    #[inline]
    pub(crate) fn open(&mut self, datagram: &[u8], packet: &mut [u8], now: Instant) -> Result<usize, Reason> {
        if datagram.len() > packet.len() || data_index(datagram).is_none() {
            return Err(Reason::TooLarge);
        }
        let opened = match self.tunn.decapsulate(None, datagram, packet) {
            TunnResult::Done => Ok(0),
            // An IPv4 header with a length of zero is no keepalive.
            TunnResult::WriteToTunnelV4([], _) => Err(Reason::Malformed),
            TunnResult::WriteToTunnelV4(packet, _) => Ok(packet.len()),
            TunnResult::WriteToTunnelV6(..) => Err(Reason::NotIpv4),
            TunnResult::Err(WireGuardError::InvalidPacket) => Err(Reason::Malformed),
            TunnResult::Err(WireGuardError::NoCurrentSession | WireGuardError::WrongIndex) => {
                Err(Reason::UnknownSession)
            }
            TunnResult::Err(WireGuardError::InvalidCounter | WireGuardError::DuplicateCounter) => Err(Reason::Replayed),
            TunnResult::Err(_) | TunnResult::WriteToNetwork(_) => Err(Reason::NotAuthentic),
        };
        if opened.is_ok() {
            self.heard = now;
            self.unanswered = None;
        }
        opened
    }

    /// Notes that what was sent has been answered, or needs no answer any more. A ping or a pong is no answer to data.
    #[inline]
    pub(crate) const fn note_answer(&mut self) {
        self.ignored = None;
    }

    /// Handles a message that isn't data and that [`Identity::read`] has let pass.
    ///
    /// # Errors
    /// If it doesn't belong to this tunnel, or is a replay.
    pub(crate) fn handshake(
        &mut self,
        datagram: &[u8],
        reply: &mut [u8; CONTROL],
        now: Instant,
    ) -> Result<Outcome, Reason> {
        let initiation = datagram.first() == Some(&INITIATION);
        match self.tunn.decapsulate(None, datagram, reply) {
            TunnResult::WriteToNetwork(message) if initiation => {
                self.asking = None;
                self.answered = Some(now);
                Ok(Outcome::Response(message.len()))
            }
            TunnResult::WriteToNetwork(message) => {
                let len = message.len();
                (self.asking, self.unanswered, self.ignored) = (None, None, None);
                self.heard = now;
                Ok(Outcome::Session(len))
            }
            TunnResult::Done => Ok(Outcome::Cookie),
            _ => Err(Reason::HandshakeRejected),
        }
    }

    /// Starts a handshake, unless one is under way: writes the initiation and returns its length.
    pub(crate) fn initiate(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Option<usize> {
        // The handshake is dated by the last tick, too, and that very tick may start it.
        if self.is_stale(now) && self.tick_anyway(message, now) == Ok(Some(CONTROL)) {
            return Some(CONTROL);
        }
        let len = written(self.tunn.format_handshake_initiation(message, false))?;
        self.asking = Some(now);
        Some(len)
    }

    /// Starts a handshake, whether one is under way or not: writes the initiation and returns its length.
    pub(crate) fn initiate_anew(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Option<usize> {
        let len = written(self.tunn.format_handshake_initiation(message, true))?;
        self.asking.get_or_insert(now);
        Some(len)
    }

    /// Starts the handshake again, now that there is a cookie for it: writes the initiation and returns its length. `None`
    /// if that was done a moment ago: a sender of cookies alone must not keep this runner busy.
    pub(crate) fn retry(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Option<usize> {
        let again = self.retried.is_some_and(|then| now.saturating_duration_since(then) < RETRY);
        if again || self.asking.is_none() {
            return None;
        }
        self.retried = Some(now);
        written(self.tunn.format_handshake_initiation(message, true))
    }

    /// Writes an initiation or a keepalive, if one is due, and returns its length.
    ///
    /// # Errors
    /// If the tunnel is dead. A new one has to be made when it is needed again.
    pub(crate) fn tick(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Result<Option<usize>, Dead> {
        if self.is_within_answer_time(now) { Ok(None) } else { self.tick_anyway(message, now) }
    }

    /// Ticks even if that starts a handshake that isn't needed: before a handshake, since the tick dates the session.
    pub(crate) fn tick_anyway(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Result<Option<usize>, Dead> {
        if self.asking.is_some_and(|since| now.saturating_duration_since(since) >= GIVE_UP) {
            return Err(Dead);
        }
        self.stale_at = now + STALE;
        let len = match self.tunn.update_timers(message) {
            TunnResult::WriteToNetwork(message) => Some(message.len()),
            // By boringtun's clock, which goes on while the machine is suspended, unlike `Instant`.
            TunnResult::Err(WireGuardError::ConnectionExpired) => return Err(Dead),
            _ => None,
        };
        if len == Some(CONTROL) {
            self.asking.get_or_insert(now);
        }
        Ok(len)
    }

    /// Whether a tick would make boringtun mistake the silence before the last packet for silence after it.
    fn is_within_answer_time(&self, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.heard) + STALE >= ANSWER;
        let waited = self.unanswered.map(|since| now.saturating_duration_since(since));
        silent
            && self.asking.is_none()
            && waited.is_some_and(|waited| waited < ANSWER)
            && self.session_age().is_some_and(|age| age + ANSWER < REKEY)
    }
}

/// Packets are padded to a multiple of this.
const PADDING: usize = 16;

/// The length of the data message for a packet of `len` bytes.
#[inline]
pub(crate) fn sealed_len(len: usize, mtu: usize) -> usize {
    padded(len, mtu) + OVERHEAD
}

fn padded(len: usize, mtu: usize) -> usize {
    len.next_multiple_of(PADDING).min(mtu.max(len))
}

fn written(result: TunnResult<'_>) -> Option<usize> {
    match result {
        TunnResult::WriteToNetwork(message) => Some(message.len()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
