//! Streams of segments: most follow on one another, and some don't.

use super::{ACK, CWR, ECE, FIN, FLAGS, IPV4, LONGEST, PSH, input::Input, sound};

/// What is done with a coalescer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A segment arrives from a runner.
    Segment(u32, Vec<u8>),
    /// A datagram arrives that isn't authentic, and leaves these octets where it was decrypted to.
    Forged(Vec<u8>),
    /// A turn ends.
    Flush,
    /// A turn ends, and super-packets are switched on or off.
    Enable(bool),
}

impl Step {
    const fn len(&self) -> usize {
        match self {
            Self::Segment(_, octets) | Self::Forged(octets) => octets.len(),
            Self::Flush | Self::Enable(_) => 0,
        }
    }
}

/// One direction of a connection.
pub(super) struct Flow {
    /// IPv4 and TCP without what differs from segment to segment.
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
    /// With headers that may hold anything.
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

    /// How long the headers are.
    pub(super) const fn headers(&self) -> usize {
        self.template.len()
    }

    /// Other options.
    fn options(&mut self, input: &mut Input<'_>) {
        let words = input.octet() % 11;
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

/// As many steps as can be worth it, and as many octets as make two super-packets of the longest kind.
const STEPS: usize = 200;
const OCTETS: usize = 2 * LONGEST + 5000;

/// The steps that an input describes.
pub(super) fn stream(input: &mut Input<'_>) -> Vec<Step> {
    let (mut flows, mut current, mut steps) = ([0, 1, 2].map(Flow::new), 0, vec![]);
    let mut octets = 0;
    while !input.is_empty() && steps.len() < STEPS && octets < OCTETS {
        let before = steps.len();
        let kind = input.octet();
        // Mostly the same one goes on.
        current = usize::from((kind >> 5).checked_sub(5).unwrap_or(current as u8));
        let flow = &mut flows[current];
        let size = flow.size;
        match kind % 32 {
            0..=6 => steps.push(flow.next(ACK, size)),
            7..=9 => {
                let most = (LONGEST / size).min(64) as u8;
                (0..=input.octet() % most).for_each(|_| steps.push(flow.next(ACK, size)));
            }
            10 => steps.push(flow.next(ACK, usize::from(input.octet()) % size + 1)),
            11 => steps.push(flow.next(ACK, size + 1 + usize::from(input.octet()))),
            12 => steps.push(flow.next(ACK | PSH, size)),
            13 => steps.push(flow.next(ACK | FIN, size)),
            14 => steps.push(flow.next(ACK | PSH, usize::from(input.octet()) % size + 1)),
            15 => flow.echo ^= ECE,
            16 => steps.push(flow.next(ACK | CWR, size)),
            17 => steps.push(flow.next(input.octet(), size)),
            18 => steps.push(flow.next(ACK, 0)),
            // A gap, or something that was sent before.
            19 => flow.sequence = flow.sequence.wrapping_add_signed(i32::from(input.octet() as i8)),
            20 => flow.sequence = flow.sequence.wrapping_sub(2 * size as u32),
            21 => flow.template[28..32].copy_from_slice(&input.take::<4>()),
            22 => flow.template[35] = input.octet(),
            23 => flow.options(input),
            24 => flow.template[[1, 8, 39][usize::from(input.octet() % 3)]] = input.octet(),
            25 => flow.template[6] = input.octet() & 0xc0,
            26 => flow.template[32] ^= input.octet() & 0x0f,
            27 => flow.size = 1 + usize::from(input.half()) % if input.octet() < 200 { 1500 } else { LONGEST },
            28 => flow.identity = input.half(),
            29 => {
                // A checksum that is wrong.
                let Step::Segment(runner, mut packet) = flow.next(ACK, size) else { continue };
                packet[[10, 36][usize::from(input.octet() % 2)]] ^= 1 | input.octet();
                steps.push(Step::Segment(runner, packet));
            }
            30 => match input.octet() % 4 {
                0 => steps.push(Step::Enable(input.octet() >= 64)),
                1 => flow.runner ^= 1,
                _ => steps.push(Step::Flush),
            },
            _ => steps.push(Step::Forged(vec![input.octet(); usize::from(input.half()) % 3000])),
        }
        octets += steps[before..].iter().map(Step::len).sum::<usize>();
    }
    steps
}
