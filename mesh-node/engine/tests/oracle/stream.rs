//! Streams of segments, most of which continue one another.

use super::{ACK, CWR, ECE, FIN, FLAGS, IPV4, LONGEST, PSH, input::Input, sound};

/// An input of a coalescer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A segment arrives from a runner.
    Segment(u32, Vec<u8>),
    /// A datagram that isn't authentic arrives and leaves these bytes in the slot.
    Forged(Vec<u8>),
    /// A turn ends.
    Flush,
    /// A turn ends, and super-packets are switched on or off.
    Enable(bool),
}

impl Step {
    const fn len(&self) -> usize {
        match self {
            Self::Segment(_, bytes) | Self::Forged(bytes) => bytes.len(),
            Self::Flush | Self::Enable(_) => 0,
        }
    }
}

/// One direction of a connection.
pub(super) struct Flow {
    /// The fields of IPv4 and TCP that don't change.
    template: Vec<u8>,
    runner: u32,
    identity: u16,
    sequence: u32,
    /// The payload of most segments.
    size: usize,
    /// Set in every segment.
    echo: u8,
}

impl Flow {
    /// Arbitrary headers.
    pub(super) fn any(input: &mut Input<'_>) -> Self {
        let mut flow = Self::new(0);
        let [tos, ttl, fragment, reserved] = input.take();
        let fragment = (fragment & 0xc0, 0);
        flow.template[1] = tos;
        (flow.template[6], flow.template[7]) = fragment;
        flow.template[8] = ttl;
        flow.template[12..24].copy_from_slice(&input.take::<12>());
        flow.template[28..32].copy_from_slice(&input.take::<4>());
        flow.template[34..36].copy_from_slice(&input.take::<2>());
        flow.template[38..40].copy_from_slice(&input.take::<2>());
        flow.options(input);
        flow.template[32] |= reserved & 0x0f;
        (flow.identity, flow.sequence) = (input.half(), input.word());
        flow
    }

    fn new(number: u8) -> Self {
        let mut template = vec![0; IPV4 + 20];
        (template[0], template[6], template[8], template[9]) = (0x45, 0x40, 64, 6);
        template[12..20].copy_from_slice(&[100, 112, 0, 10, 100, 112, 0, 20]);
        (template[21], template[23], template[31]) = (number, 80, 1);
        (template[32], template[35]) = (0x50, 200);
        let sequence = u32::MAX - 20_000;
        Self { template, runner: 0, identity: 7, sequence, size: 1000, echo: 0 }
    }

    /// The length of the headers.
    pub(super) const fn headers(&self) -> usize {
        self.template.len()
    }

    /// Other options.
    fn options(&mut self, input: &mut Input<'_>) {
        let words = input.byte() % 11;
        self.template.truncate(IPV4 + 20);
        self.template[32] = self.template[32] & 0x0f | (5 + words) << 4;
        (0..words).for_each(|_| self.template.extend(input.take::<4>()));
    }

    /// A segment with its checksums right.
    pub(super) fn segment(&self, flags: u8, payload: usize, pattern: u8) -> Vec<u8> {
        let mut packet = self.template.clone();
        packet.extend((0..payload).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ pattern));
        let length = packet.len() as u16;
        packet[2..4].copy_from_slice(&length.to_be_bytes());
        packet[4..6].copy_from_slice(&self.identity.to_be_bytes());
        packet[24..28].copy_from_slice(&self.sequence.to_be_bytes());
        packet[FLAGS] = flags;
        sound(&packet)
    }

    /// The next segment.
    fn next(&mut self, flags: u8, payload: usize) -> Step {
        let payload = payload.min(LONGEST - self.headers());
        let packet = self.segment(flags | self.echo, payload, self.sequence as u8);
        self.sequence = self.sequence.wrapping_add(payload as u32);
        self.identity = self.identity.wrapping_add(1);
        Step::Segment(self.runner, packet)
    }
}

/// The most steps, and the most bytes: enough for two super-packets of the greatest length.
const STEPS: usize = 200;
const BYTES: usize = 2 * LONGEST + 5000;

/// The steps that an input describes.
pub(super) fn stream(input: &mut Input<'_>) -> Vec<Step> {
    let (mut flows, mut current, mut steps) = ([0, 1, 2].map(Flow::new), 0, vec![]);
    let mut bytes = 0;
    while !input.is_empty() && steps.len() < STEPS && bytes < BYTES {
        let before = steps.len();
        let kind = input.byte();
        // Mostly the same connection goes on.
        current = usize::from((kind >> 5).checked_sub(5).unwrap_or(current as u8));
        let flow = &mut flows[current];
        let size = flow.size;
        match kind % 32 {
            0..=6 => steps.push(flow.next(ACK, size)),
            7..=9 => {
                let most = (LONGEST / size).min(64) as u8;
                (0..=input.byte() % most).for_each(|_| steps.push(flow.next(ACK, size)));
            }
            10 => steps.push(flow.next(ACK, usize::from(input.byte()) % size + 1)),
            11 => steps.push(flow.next(ACK, size + 1 + usize::from(input.byte()))),
            12 => steps.push(flow.next(ACK | PSH, size)),
            13 => steps.push(flow.next(ACK | FIN, size)),
            14 => steps.push(flow.next(ACK | PSH, usize::from(input.byte()) % size + 1)),
            15 => flow.echo ^= ECE,
            16 => steps.push(flow.next(ACK | CWR, size)),
            17 => steps.push(flow.next(input.byte(), size)),
            18 => steps.push(flow.next(ACK, 0)),
            // A gap, or a retransmission.
            19 => flow.sequence = flow.sequence.wrapping_add_signed(i32::from(input.byte() as i8)),
            20 => flow.sequence = flow.sequence.wrapping_sub(2 * size as u32),
            21 => flow.template[28..32].copy_from_slice(&input.take::<4>()),
            22 => flow.template[35] = input.byte(),
            23 => flow.options(input),
            24 => flow.template[[1, 8, 39][usize::from(input.byte() % 3)]] = input.byte(),
            25 => flow.template[6] = input.byte() & 0xc0,
            26 => flow.template[32] ^= input.byte() & 0x0f,
            27 => flow.size = 1 + usize::from(input.half()) % if input.byte() < 200 { 1500 } else { LONGEST },
            28 => flow.identity = input.half(),
            29 => {
                // A checksum that is wrong.
                let Step::Segment(runner, mut packet) = flow.next(ACK, size) else { continue };
                packet[[10, 36][usize::from(input.byte() % 2)]] ^= 1 | input.byte();
                steps.push(Step::Segment(runner, packet));
            }
            30 => match input.byte() % 4 {
                0 => steps.push(Step::Enable(input.byte() >= 64)),
                1 => flow.runner ^= 1,
                _ => steps.push(Step::Flush),
            },
            _ => steps.push(Step::Forged(vec![input.byte(); usize::from(input.half()) % 3000])),
        }
        bytes += steps[before..].iter().map(Step::len).sum::<usize>();
    }
    steps
}
