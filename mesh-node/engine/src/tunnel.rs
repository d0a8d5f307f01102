//! WireGuard: the only file that knows boringtun, and that its caller's mistakes make it panic or stall.
//!
//! What is done about it here and by [`crate::peer`], by file and line of boringtun 0.7.1:
//! * A datagram longer than the buffer panics before it is authenticated (noise/session.rs:242): [`Tunnel::open`]
//!   takes none; neither does [`Tunnel::seal`] (session.rs:197).
//! * Sessions are dated by the last call of `update_timers` (noise/timers.rs:125), so a session of a tunnel that wasn't
//!   ticked is born old: [`Tunnel::is_stale`] says when to tick before use.
//! * The queue for packets without a session reorders, leaks handshakes and stalls (noise/mod.rs:264, 424, 510):
//!   nothing is ever given to it, see [`Tunnel::has_session`].
//! * A tunnel whose handshakes failed for 90 s, or that is 540 s old, stays dead until data is sent, and says so at
//!   ERROR (timers.rs:195): [`Tunnel::tick`] gives up earlier, and the tunnel is made anew when it is needed.
//! * After 15 s of idling a tick between sending and the answer starts a handshake (timers.rs:271): that tick is left out.
//! * Each tunnel counts handshakes by itself, or shares a limit that knows one share for all and asks for cookies even
//!   with answers to our own initiations (noise/mod.rs:290, noise/rate_limiter.rs:160): tunnels share one that lets
//!   everything pass, and what may pass is decided before, by [`crate::limit::Admissions`].
//! * A cookie is used 5 s later, with the next initiation (timers.rs:218): [`Tunnel::retry`].
//! * Packets are not padded (noise/session.rs:211): [`Tunnel::seal`] does.
//! * Indexes have 24 bits and have to differ: the caller draws them.
//!
//! The clock that boringtun reads is its own. It is used for nothing but its timers.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use boringtun::{
    noise::{
        Packet, Tunn, TunnResult, errors::WireGuardError, handshake::parse_handshake_anon, rate_limiter::RateLimiter,
    },
    x25519,
};
use mesh_proto::{PrivateKey, PublicKey};

use crate::{Reason, limit::Mac};

/// What a packet grows by: 16 octets of header, 16 of authentication (whitepaper §5.4.6).
pub(crate) const OVERHEAD: usize = 32;

/// The longest message that isn't data: a handshake initiation.
pub(crate) const CONTROL: usize = 148;

/// The age at which a session ends (whitepaper §6.1, Reject-After-Time).
pub(crate) const SESSION: Duration = Duration::from_secs(180);

/// The age at which the initiator renews a session (Rekey-After-Time).
const REKEY: Duration = Duration::from_secs(120);

/// The age at which either side renews a session that only keepalives go by: later than its initiator renews it.
const WORN: Duration = Duration::from_secs(140);

/// How long an answer may take before something is wrong (Keepalive-Timeout + Rekey-Timeout).
pub(crate) const ANSWER: Duration = Duration::from_secs(15);

/// After how much time boringtun's idea of the time is too old.
const STALE: Duration = Duration::from_secs(1);

/// When handshakes that nobody answers are given up, a little before boringtun's own 90 s and after a retry's answer.
const GIVE_UP: Duration = Duration::from_secs(88);

/// How often a cookie leads to another initiation.
const RETRY: Duration = Duration::from_secs(1);

/// The first octet of a message, by kind (whitepaper §5.4).
const INITIATION: u8 = 1;
const DATA: u8 = 4;

/// The kinds of message that are not data, with what they say of themselves without any proof.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// Somebody wants a session.
    Initiation(Mac),
    /// An answer to what we sent with this index.
    Response { index: u32 },
    /// A cookie for what we sent with this index.
    Cookie { index: u32 },
}

/// Our side of all tunnels.
pub(crate) struct Identity {
    private: x25519::StaticSecret,
    public: x25519::PublicKey,
    /// Lets everything pass that is meant for us.
    permissive: Arc<RateLimiter>,
    /// Lets pass only who has proven its address, and makes the cookies for that.
    strict: RateLimiter,
}

impl Identity {
    pub(crate) fn new(key: &PrivateKey) -> Self {
        let private = x25519::StaticSecret::from(key.to_bytes());
        let public = x25519::PublicKey::from(&private);
        let permissive = Arc::new(RateLimiter::new(&public, u64::MAX));
        let strict = RateLimiter::new(&public, 0);
        Self { private, public, permissive, strict }
    }

    /// Looks at a message that is not data: whether it was meant for us, and what it is. That costs a hash.
    ///
    /// # Errors
    /// If it wasn't.
    pub(crate) fn read(&self, datagram: &[u8]) -> Result<Handshake, Reason> {
        match self.permissive.verify_packet(None, datagram, &mut [0; CONTROL]) {
            Ok(Packet::HandshakeInit(_)) => mac(datagram).map(Handshake::Initiation).ok_or(Reason::NotWireGuard),
            Ok(Packet::HandshakeResponse(response)) => Ok(Handshake::Response { index: response.receiver_idx >> 8 }),
            Ok(Packet::PacketCookieReply(reply)) => Ok(Handshake::Cookie { index: reply.receiver_idx >> 8 }),
            Err(TunnResult::Err(WireGuardError::InvalidMac)) => Err(Reason::BadMac),
            Ok(Packet::PacketData(_)) | Err(_) => Err(Reason::NotWireGuard),
        }
    }

    /// Whether an initiation proves, by a cookie, that its sender is at `from`.
    ///
    /// # Errors
    /// If it doesn't: the length of what stands in `cookie` then and has to be sent there to make it possible.
    pub(crate) fn prove(&self, from: IpAddr, initiation: &[u8], cookie: &mut [u8; CONTROL]) -> Result<(), usize> {
        match self.strict.verify_packet(Some(from), initiation, cookie) {
            Ok(_) => Ok(()),
            Err(TunnResult::WriteToNetwork(reply)) => Err(reply.len()),
            Err(_) => Err(0),
        }
    }

    /// Whose an initiation is, if the rest of it turns out to be right. That costs a Diffie-Hellman.
    ///
    /// # Errors
    /// If it can't be anybody's.
    pub(crate) fn initiator(&self, initiation: &[u8]) -> Result<PublicKey, Reason> {
        let Ok(Packet::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(initiation) else {
            return Err(Reason::NotWireGuard);
        };
        parse_handshake_anon(&self.private, &self.public, &initiation)
            .map(|half| PublicKey(half.peer_static_public))
            .map_err(|_| Reason::HandshakeRejected)
    }
}

/// An initiation's `mac1` (whitepaper §5.4.2).
fn mac(initiation: &[u8]) -> Option<Mac> {
    initiation.get(CONTROL - 32..CONTROL - 16)?.try_into().ok()
}

/// The index of the tunnel that a data message is for; `None` for other messages.
#[inline]
pub(crate) fn data_index(datagram: &[u8]) -> Option<u32> {
    let (header, _) = datagram.split_first_chunk::<8>()?;
    let is_data = header[..4] == [DATA, 0, 0, 0] && datagram.len() >= OVERHEAD;
    is_data.then(|| u32::from_le_bytes([header[4], header[5], header[6], header[7]]) >> 8)
}

/// The tunnel is of no use any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dead;

/// What a message that isn't data led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The other side wants a session: this has to be sent to where the message came from. The session is of use to us
    /// once something comes by it.
    Response(usize),
    /// A session stands: this, its first message, has to be sent to where the message came from.
    Session(usize),
    /// A cookie was noted for the next initiation.
    Cookie,
}

/// The tunnel to one runner.
pub(crate) struct Tunnel {
    tunn: Tunn,
    index: u32,
    /// When boringtun's idea of the time will be too old.
    stale_at: Instant,
    /// Since when we send initiations that aren't answered.
    asking: Option<Instant>,
    /// When we answered an initiation last: there is a session from then on, which its first data confirms.
    answered: Option<Instant>,
    /// When something authentic came last.
    heard: Instant,
    /// When data or a keepalive was sent last.
    sent: Instant,
    /// When the first data was sent that nothing came after.
    unanswered: Option<Instant>,
    /// The same of what asks for an answer.
    ignored: Option<Instant>,
    /// When a cookie led to an initiation last.
    retried: Option<Instant>,
    /// For packets that can't be padded where they are.
    padded: Vec<u8>,
}

impl Tunnel {
    /// A tunnel without a session. `index`, of 24 bits, is one that no other tunnel of ours has.
    pub(crate) fn new(identity: &Identity, key: &PublicKey, index: u32, now: Instant) -> Self {
        let theirs = x25519::PublicKey::from(key.0);
        let limiter = Some(Arc::clone(&identity.permissive));
        let tunn = Tunn::new(identity.private.clone(), theirs, None, None, index, limiter);
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

    pub(crate) const fn index(&self) -> u32 {
        self.index
    }

    /// The age of the session in use, by boringtun's clock.
    pub(crate) fn session_age(&self) -> Option<Duration> {
        self.tunn.time_since_last_handshake()
    }

    /// The age of the youngest session, which need not be confirmed.
    pub(crate) fn youngest_session(&self, now: Instant) -> Option<Duration> {
        let answered = self.answered.map(|then| now.saturating_duration_since(then));
        [self.session_age(), answered].into_iter().flatten().min()
    }

    /// Whether packets can be sealed. It can end by [`Self::tick`] only.
    pub(crate) fn has_session(&self) -> bool {
        self.session_age().is_some()
    }

    /// Since when we send initiations that aren't answered.
    pub(crate) const fn asking(&self) -> Option<Instant> {
        self.asking
    }

    /// For how long we have sent initiations that aren't answered.
    pub(crate) fn asking_for(&self, now: Instant) -> Duration {
        self.asking.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// For how long nothing has come while we send initiations that aren't answered.
    pub(crate) fn asking_in_vain(&self, now: Instant) -> Option<Duration> {
        let since = self.asking.filter(|since| self.heard <= *since)?;
        Some(now.saturating_duration_since(since))
    }

    /// For how long nothing authentic has come.
    pub(crate) fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.heard)
    }

    /// When data or a keepalive was sent last.
    pub(crate) const fn sent(&self) -> Instant {
        self.sent
    }

    /// Writes a keepalive and gives its length. `None` if there is no session.
    pub(crate) fn keepalive(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Option<usize> {
        if !self.has_session() {
            return None;
        }
        self.sent = now;
        written(self.tunn.encapsulate(&[], message))
    }

    /// Whether the session in use is so old that another has to be made, if packets are to go on.
    pub(crate) fn is_worn(&self) -> bool {
        self.session_age().is_some_and(|age| age >= WORN)
    }

    /// Notes that what was sent just now asks for an answer, as the last segment of a connection doesn't.
    #[inline]
    pub(crate) fn ask(&mut self, now: Instant) {
        self.ignored.get_or_insert(now);
    }

    /// For how long nothing has come since something was sent that asks for an answer.
    pub(crate) fn ignored_for(&self, now: Instant) -> Duration {
        self.ignored.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Whether [`Self::tick`] has to be called before anything else.
    #[inline]
    pub(crate) fn is_stale(&self, now: Instant) -> bool {
        now >= self.stale_at
    }

    /// Seals a packet into `datagram`: the first `len` octets of `packet`, padded to a multiple of 16 (§5.4.6), but
    /// not beyond `mtu`. Gives the length of the datagram, [`sealed_len`]. What stands behind the packet is as before
    /// afterwards. `None` if there is no session or too little room.
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

    /// Opens a data message into the beginning of `packet`, which may be written over whatever comes of it. Gives the
    /// packet's length, without padding; zero is a keepalive.
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
            // A header that says that there is nothing, which must not be taken for a keepalive.
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
            self.hear(now);
        }
        opened
    }

    /// Takes in a message that isn't data and that [`Identity::read`] has let pass.
    ///
    /// # Errors
    /// If it doesn't belong to this tunnel, or comes a second time.
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
                self.asking = None;
                self.hear(now);
                Ok(Outcome::Session(len))
            }
            TunnResult::Done => Ok(Outcome::Cookie),
            _ => Err(Reason::HandshakeRejected),
        }
    }

    /// Begins a handshake, unless one is under way: writes the initiation and gives its length.
    pub(crate) fn initiate(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Option<usize> {
        // The attempt is dated by the last tick, too, and may begin with that very tick.
        if self.is_stale(now) && self.tick_anyway(message, now) == Ok(Some(CONTROL)) {
            return Some(CONTROL);
        }
        let len = written(self.tunn.format_handshake_initiation(message, false))?;
        self.asking = Some(now);
        Some(len)
    }

    /// Begins a handshake, whether one is under way or not: writes the initiation and gives its length.
    pub(crate) fn initiate_anew(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Option<usize> {
        let len = written(self.tunn.format_handshake_initiation(message, true))?;
        self.asking.get_or_insert(now);
        Some(len)
    }

    /// Begins the handshake under way anew, now that there is a cookie for it: writes the initiation and gives its length.
    /// `None` if that was done a moment ago: who has nothing but cookies to give shan't keep us busy.
    pub(crate) fn retry(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Option<usize> {
        let again = self.retried.is_some_and(|then| now.saturating_duration_since(then) < RETRY);
        if again || self.asking.is_none() {
            return None;
        }
        self.retried = Some(now);
        written(self.tunn.format_handshake_initiation(message, true))
    }

    /// Does what time demands: writes an initiation or a keepalive, if one is due, and gives its length.
    ///
    /// # Errors
    /// If the tunnel has to be made anew when it is needed again.
    pub(crate) fn tick(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Result<Option<usize>, Dead> {
        if self.is_within_answer_time(now) { Ok(None) } else { self.tick_anyway(message, now) }
    }

    /// The same, even if it starts a handshake that isn't needed: before a handshake, whose session is dated by it.
    pub(crate) fn tick_anyway(&mut self, message: &mut [u8; CONTROL], now: Instant) -> Result<Option<usize>, Dead> {
        if self.asking.is_some_and(|since| now.saturating_duration_since(since) >= GIVE_UP) {
            return Err(Dead);
        }
        self.stale_at = now + STALE;
        let len = match self.tunn.update_timers(message) {
            TunnResult::WriteToNetwork(message) => Some(message.len()),
            // By boringtun's clock, which counts on while the machine is suspended, as ours doesn't.
            TunnResult::Err(WireGuardError::ConnectionExpired) => return Err(Dead),
            _ => None,
        };
        if len == Some(CONTROL) {
            self.asking.get_or_insert(now);
        }
        Ok(len)
    }

    /// Whether boringtun, if ticked now, would take the silence before our last packet for silence after it.
    fn is_within_answer_time(&self, now: Instant) -> bool {
        let silent = now.saturating_duration_since(self.heard) + STALE >= ANSWER;
        let waited = self.unanswered.map(|since| now.saturating_duration_since(since));
        silent
            && self.asking.is_none()
            && waited.is_some_and(|waited| waited < ANSWER)
            && self.session_age().is_some_and(|age| age + ANSWER < REKEY)
    }

    const fn hear(&mut self, now: Instant) {
        self.heard = now;
        self.unanswered = None;
        self.ignored = None;
    }
}

/// The most that a packet is padded by.
const PADDING: usize = 16;

/// The length of the data message for a packet of `len` octets.
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
