//! A transfer by a TCP with what matters here: segments of the size that was agreed, super-packets, a window, and
//! retransmission from the first byte that isn't acknowledged (RFC 6298, with Linux's least timeout).

use std::{net::Ipv4Addr, time::Duration};

use mesh_engine::VNET;

pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const PSH: u8 = 8;
pub(crate) const ACK: u8 = 16;

const LEAST_TIMEOUT: Duration = Duration::from_millis(200);
const WINDOW: u32 = 64 << 10;
const SUPER: u32 = 32 << 10;

/// Where a stream starts in the space of sequence numbers.
const ISN: u32 = u32::MAX - 100_000;

/// The byte of a stream at a position.
fn byte(at: u32) -> u8 {
    (at.wrapping_mul(2_654_435_761) >> 24) as u8
}

/// One direction of one connection, with both of its ends.
pub(crate) struct Stream {
    /// The sending end: the runner's number, and its address and port. It has called.
    pub(crate) from: usize,
    ends: [(Ipv4Addr, u16); 2],
    mss: u32,
    pub(crate) open: bool,
    /// The bytes that the program has written, those that were sent, and those that were acknowledged.
    written: u32,
    sent: u32,
    acknowledged: u32,
    /// The bytes that have arrived in order.
    arrived: u32,
    srtt: Duration,
    timeouts: u32,
    /// Since when the oldest byte has been on its way, for the retransmission timer and for the longest wait.
    timer: Option<Duration>,
    waiting: Option<Duration>,
}

/// A packet for a TUN, `virtio_net_hdr` first.
pub(crate) type Packet = Vec<u8>;

impl Stream {
    pub(crate) fn new(from: usize, ends: [(Ipv4Addr, u16); 2], mtu: u16, rtt: Duration) -> Self {
        Self {
            from,
            ends,
            mss: u32::from(mtu) - 40,
            open: false,
            written: 0,
            sent: 0,
            acknowledged: 0,
            arrived: 0,
            srtt: rtt,
            timeouts: 0,
            timer: None,
            waiting: None,
        }
    }

    /// The program has written so many bytes more.
    pub(crate) fn write(&mut self, bytes: u32) {
        self.written += bytes;
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.written == self.arrived && self.written == self.acknowledged
    }

    /// Since when nothing more has been acknowledged, although something is on its way.
    pub(crate) fn waiting(&self) -> Option<Duration> {
        self.waiting
    }

    /// When its timer is due.
    pub(crate) fn due(&self) -> Option<Duration> {
        Some(self.timer? + (LEAST_TIMEOUT + self.srtt) * 2u32.pow(self.timeouts.min(8)))
    }

    /// Everything that may be sent now.
    pub(crate) fn send(&mut self, now: Duration) -> Vec<Packet> {
        let mut packets = vec![];
        let end = self.written.min(self.acknowledged + WINDOW);
        while self.open && self.sent < end {
            let next = end.min(self.sent + SUPER / self.mss * self.mss);
            packets.push(self.data(self.sent, next));
            self.sent = next;
            self.timer.get_or_insert(now);
            self.waiting.get_or_insert(now);
        }
        packets
    }

    /// Its timer is due: the first segment goes again.
    pub(crate) fn time_out(&mut self, now: Duration) -> Packet {
        (self.timeouts, self.timer) = (self.timeouts + 1, Some(now));
        if !self.open {
            return self.syn();
        }
        let end = self.sent.min(self.acknowledged + self.mss);
        let packet = self.data(self.acknowledged, end);
        self.sent = end;
        packet
    }

    /// The caller's first packet.
    pub(crate) fn start(&mut self, now: Duration) -> Packet {
        (self.timer, self.waiting) = (Some(now), Some(now));
        self.syn()
    }

    fn syn(&self) -> Packet {
        packet(self.ends, ISN, 0, SYN, &size(self.mss), &[], 0)
    }

    fn data(&self, from: u32, to: u32) -> Packet {
        let payload: Vec<u8> = (from..to).map(byte).collect();
        packet(self.ends, ISN.wrapping_add(1 + from), 1, ACK | PSH, &[], &payload, self.mss as u16)
    }

    /// Whether a packet that arrives at a runner is of this stream.
    pub(crate) fn is_for(&self, runner: usize, read: &Read<'_>) -> bool {
        let [ours, theirs] = self.ends;
        let (source, destination) = if runner == self.from { (theirs, ours) } else { (ours, theirs) };
        (read.source, read.destination) == (source, destination)
    }

    /// A packet has arrived at an end. Returns the answer.
    ///
    /// # Errors
    /// If its bytes are not those that were sent.
    pub(crate) fn take(&mut self, runner: usize, read: &Read<'_>, now: Duration) -> Result<Option<Packet>, String> {
        let back = [self.ends[1], self.ends[0]];
        if let Some(mss) = read.mss {
            self.mss = self.mss.min(mss.into());
        }
        if runner != self.from {
            if read.flags & SYN != 0 {
                return Ok(Some(packet(back, 0, ISN.wrapping_add(1), SYN | ACK, &size(self.mss), &[], 0)));
            }
            let at = read.sequence.wrapping_sub(ISN.wrapping_add(1));
            if let Some(wrong) = (at..).zip(read.payload).find(|(at, found)| byte(*at) != **found) {
                return Err(format!("byte {} is {} instead of {}", wrong.0, wrong.1, byte(wrong.0)));
            }
            let end = at + read.payload.len() as u32;
            if at <= self.arrived && end > self.arrived {
                self.arrived = end;
            }
            let answer = packet(back, 1, ISN.wrapping_add(1 + self.arrived), ACK, &[], &[], 0);
            return Ok((!read.payload.is_empty()).then_some(answer));
        }
        if read.flags & SYN != 0 {
            if !self.open {
                (self.open, self.timeouts, self.timer, self.waiting) = (true, 0, None, None);
            }
            return Ok(Some(packet(self.ends, ISN.wrapping_add(1), 1, ACK, &[], &[], 0)));
        }
        let acknowledged = read.acknowledgment.wrapping_sub(ISN.wrapping_add(1));
        if acknowledged > self.acknowledged && acknowledged <= self.written {
            self.acknowledged = acknowledged;
            self.sent = self.sent.max(acknowledged);
            self.timeouts = 0;
            let more = (self.sent > acknowledged).then_some(now);
            (self.timer, self.waiting) = (more, more);
        }
        Ok(None)
    }
}

/// The option with the maximum segment size.
fn size(mss: u32) -> [u8; 4] {
    let [high, low] = (mss as u16).to_be_bytes();
    [2, 4, high, low]
}

/// A packet of one end, which is cut into segments of `mss` bytes if it is longer.
pub(crate) fn packet(
    [(from, from_port), (to, to_port)]: [(Ipv4Addr, u16); 2],
    sequence: u32,
    acknowledgment: u32,
    flags: u8,
    options: &[u8],
    payload: &[u8],
    mss: u16,
) -> Packet {
    let headers = 40 + options.len();
    let mut bytes = vec![0; VNET];
    // The checksum is left to be completed.
    bytes[0] = 1;
    if mss > 0 && payload.len() > mss.into() {
        bytes[1] = 1;
        bytes[4..6].copy_from_slice(&mss.to_ne_bytes());
    }
    bytes.extend([0x45, 0]);
    bytes.extend(((headers + payload.len()) as u16).to_be_bytes());
    bytes.extend([0, 0, 0x40, 0, 64, 6, 0, 0]);
    bytes.extend(from.octets());
    bytes.extend(to.octets());
    bytes.extend(from_port.to_be_bytes());
    bytes.extend(to_port.to_be_bytes());
    bytes.extend(sequence.to_be_bytes());
    bytes.extend(acknowledgment.to_be_bytes());
    bytes.extend([((20 + options.len()) * 4) as u8, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.extend(options);
    bytes.extend(payload);
    bytes
}

/// A packet that was written to a TUN.
pub(crate) struct Read<'a> {
    pub(crate) source: (Ipv4Addr, u16),
    pub(crate) destination: (Ipv4Addr, u16),
    pub(crate) sequence: u32,
    pub(crate) acknowledgment: u32,
    pub(crate) flags: u8,
    pub(crate) mss: Option<u16>,
    pub(crate) payload: &'a [u8],
}

impl<'a> Read<'a> {
    /// Whether the connection is refused or ended.
    pub(crate) const fn is_reset(&self) -> bool {
        self.flags & RST != 0
    }

    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let ip = bytes.get(VNET..)?;
        if *ip.get(9)? != 6 {
            return None;
        }
        let half = |at: usize| Some(u16::from_be_bytes(ip.get(at..at + 2)?.try_into().ok()?));
        let word = |at: usize| Some(u32::from_be_bytes(ip.get(at..at + 4)?.try_into().ok()?));
        let headers = 20 + usize::from(*ip.get(32)? >> 4) * 4;
        Some(Self {
            source: (word(12)?.into(), half(20)?),
            destination: (word(16)?.into(), half(22)?),
            sequence: word(24)?,
            acknowledgment: word(28)?,
            flags: *ip.get(33)?,
            mss: if headers == 44 && ip.get(40) == Some(&2) { half(42) } else { None },
            payload: ip.get(headers..)?,
        })
    }
}
