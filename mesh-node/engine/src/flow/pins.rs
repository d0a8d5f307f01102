//! The memory in which flows outlive the engine: a header, then a record of 64 octets for each flow. Nothing behind the
//! records that were used is looked at or touched, so that a file takes no more memory than it has content.
//!
//! What is found in it is trusted as little as a file: another layout, a torn or a damaged record is as good as none.

use std::net::Ipv4Addr;

use mesh_proto::{InstanceId, RunnerId};

use super::{End, Phase, Role, Seat};

/// Memory in which an engine keeps what it knows of connections. Whoever owns the engine maps a file, so that an engine
/// that comes after this one takes them up; where that doesn't matter, a vector of zeros does.
pub trait PinMemory: Send {
    /// All of it. Its length never changes.
    fn octets(&mut self) -> &mut [u8];
}

impl PinMemory for Vec<u8> {
    fn octets(&mut self) -> &mut [u8] {
        self
    }
}

/// The length of a [`PinMemory`] with room for as many flows as an engine follows at most: 2¹⁸, of which a runner with
/// as many connections is far away. A sparse file of this length takes no more room than is used.
pub const PIN_MEMORY: usize = HEADER + (1 << 18) * RECORD;

/// The layout's name and version.
const MAGIC: [u8; 16] = *b"mesh pins v1 64\n";
const HEADER: usize = 64;
/// Where the header says how many records have been used.
const USED: usize = MAGIC.len();
const RECORD: usize = 64;
/// Where the check stands: all before is covered by it. The acknowledgments behind change with every packet.
const CHECK: usize = 52;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) phase: Phase,
    pub(crate) caller: End,
    pub(crate) callee: End,
    /// The instance that calls.
    pub(crate) caller_is: InstanceId,
    pub(crate) caller_seat: Seat,
    pub(crate) callee_seat: Seat,
    /// Who has sent a FIN: a bit for each [`Role`].
    pub(crate) fins: u8,
    /// The acknowledgment numbers that acknowledge these, as far as they were seen.
    pub(crate) fin_acks: [Option<u32>; 2],
    /// The initial sequence number of the caller's attempt (RFC 9293 §3.4.1).
    pub(crate) isn: u32,
    /// The last acknowledgment number from each [`Role`], which is what it expects next.
    pub(crate) acks: [Option<u32>; 2],
}

/// What an engine finds in its memory.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) pins: Vec<(u32, Pin)>,
    /// An engine has left it, and nothing of it is damaged: what isn't in there was no connection.
    pub(crate) whole: bool,
}

/// The memory, as records.
pub(crate) struct Pins {
    memory: Box<dyn PinMemory>,
    capacity: u32,
    used: u32,
}

impl Pins {
    /// Takes up what the memory holds, or formats it.
    pub(crate) fn open(mut memory: Box<dyn PinMemory>) -> (Self, Found) {
        let octets = memory.octets();
        let capacity = (octets.len().saturating_sub(HEADER) / RECORD).min(1 << 24) as u32;
        let mut pins = Self { memory, capacity, used: 0 };
        let octets = pins.memory.octets();
        let mut found = Found::default();
        let Some((header, records)) = octets.split_at_mut_checked(HEADER) else { return (pins, found) };
        if header[..USED] == MAGIC {
            let used = u32::from_le_bytes([header[USED], header[USED + 1], header[USED + 2], header[USED + 3]]);
            found.whole = used <= capacity;
            for (slot, record) in (0..used.min(capacity)).zip(records.chunks_exact(RECORD)) {
                match read(record) {
                    Some(pin) => found.pins.push((slot, pin)),
                    None => found.whole &= record[0] == 0,
                }
            }
        }
        header[..USED].copy_from_slice(&MAGIC);
        pins.set_used(found.pins.last().map_or(0, |(slot, _)| slot + 1));
        (pins, found)
    }

    fn set_used(&mut self, used: u32) {
        self.used = used;
        if let Some(place) = self.memory.octets().get_mut(USED..USED + 4) {
            place.copy_from_slice(&used.to_le_bytes());
        }
    }

    /// How many records there are.
    pub(crate) const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Writes a record.
    pub(crate) fn write(&mut self, slot: u32, pin: &Pin) {
        let mut record = [0; RECORD];
        let bit = |set: bool, bit: u8| u8::from(set) << bit;
        record[0] = pin.phase as u8;
        record[1] = bit(matches!(pin.caller_seat, Seat::Here(_)), 0)
            | bit(matches!(pin.callee_seat, Seat::Here(_)), 1)
            | bit(pin.acks[0].is_some(), 2)
            | bit(pin.acks[1].is_some(), 3)
            | (pin.fins & 3) << 4
            | bit(pin.fin_acks[0].is_some(), 6)
            | bit(pin.fin_acks[1].is_some(), 7);
        record[4..8].copy_from_slice(&pin.caller.address.octets());
        record[8..12].copy_from_slice(&pin.callee.address.octets());
        record[12..14].copy_from_slice(&pin.caller.port.to_le_bytes());
        record[14..16].copy_from_slice(&pin.callee.port.to_le_bytes());
        record[16..24].copy_from_slice(&pin.caller_is.0.to_le_bytes());
        record[24..32].copy_from_slice(&pin.caller_seat.number().to_le_bytes());
        record[32..40].copy_from_slice(&pin.callee_seat.number().to_le_bytes());
        record[40..44].copy_from_slice(&pin.fin_acks[0].unwrap_or(0).to_le_bytes());
        record[44..48].copy_from_slice(&pin.fin_acks[1].unwrap_or(0).to_le_bytes());
        record[48..CHECK].copy_from_slice(&pin.isn.to_le_bytes());
        let check = sum(&record[..CHECK]);
        record[CHECK..56].copy_from_slice(&check.to_le_bytes());
        record[56..60].copy_from_slice(&pin.acks[0].unwrap_or(0).to_le_bytes());
        record[60..64].copy_from_slice(&pin.acks[1].unwrap_or(0).to_le_bytes());
        if let Some(place) = self.place(slot, 0, RECORD) {
            place.copy_from_slice(&record);
            // Slots are taken in order: what lies between has been written before.
            if slot >= self.used {
                self.set_used(slot + 1);
            }
        }
    }

    /// Writes the acknowledgment number that came last from an end. It has had one before, which the record says.
    #[inline]
    pub(crate) fn write_ack(&mut self, slot: u32, role: Role, ack: u32) {
        if let Some(place) = self.place(slot, 56 + 4 * role as usize, 4) {
            place.copy_from_slice(&ack.to_le_bytes());
        }
    }

    /// Frees a record.
    pub(crate) fn clear(&mut self, slot: u32) {
        if let Some(place) = self.place(slot, 0, RECORD) {
            place.fill(0);
        }
    }

    #[inline]
    fn place(&mut self, slot: u32, offset: usize, len: usize) -> Option<&mut [u8]> {
        let start = HEADER + slot as usize * RECORD + offset;
        self.memory.octets().get_mut(start..start + len)
    }
}

/// Reads a record; `None`: it is free, or damaged.
fn read(record: &[u8]) -> Option<Pin> {
    let record: &[u8; RECORD] = record.try_into().ok()?;
    let phase = match record[0] {
        1 => Phase::Opening,
        2 => Phase::Open,
        3 => Phase::Ended,
        4 => Phase::Reset,
        _ => return None,
    };
    let word = |at: usize| u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let half = |at: usize| u16::from_le_bytes([record[at], record[at + 1]]);
    let address = |at: usize| Ipv4Addr::new(record[at], record[at + 1], record[at + 2], record[at + 3]);
    if word(CHECK) != sum(&record[..CHECK]) {
        return None;
    }
    let is_set = |bit: u8| record[1] >> bit & 1 == 1;
    let seat = |here: bool, number| if here { Seat::Here(InstanceId(number)) } else { Seat::There(RunnerId(number)) };
    Some(Pin {
        phase,
        caller: End { address: address(4), port: half(12) },
        callee: End { address: address(8), port: half(14) },
        caller_is: InstanceId(long(16)),
        caller_seat: seat(is_set(0), long(24)),
        callee_seat: seat(is_set(1), long(32)),
        fins: record[1] >> 4 & 3,
        fin_acks: [is_set(6).then(|| word(40)), is_set(7).then(|| word(44))],
        isn: word(48),
        acks: [is_set(2).then(|| word(56)), is_set(3).then(|| word(60))],
    })
}

/// Fowler, Noll and Vo's hash 1a: it has to notice what was torn, not what was forged.
fn sum(octets: &[u8]) -> u32 {
    octets.iter().fold(0x811c_9dc5, |sum, octet| (sum ^ u32::from(*octet)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pin() -> impl Strategy<Value = Pin> {
        let end = || (any::<u32>(), any::<u16>()).prop_map(|(a, port)| End { address: Ipv4Addr::from_bits(a), port });
        let seat = || {
            prop_oneof![
                any::<u64>().prop_map(|id| Seat::Here(InstanceId(id))),
                any::<u64>().prop_map(|id| Seat::There(RunnerId(id)))
            ]
        };
        let phase = prop_oneof![Just(Phase::Opening), Just(Phase::Open), Just(Phase::Ended), Just(Phase::Reset)];
        let pairs = (any::<[Option<u32>; 2]>(), any::<[Option<u32>; 2]>());
        (phase, end(), end(), any::<u64>(), seat(), seat(), 0u8..4, any::<u32>(), pairs).prop_map(
            |(phase, caller, callee, id, caller_seat, callee_seat, fins, isn, (acks, fin_acks))| Pin {
                phase,
                caller,
                callee,
                caller_is: InstanceId(id),
                caller_seat,
                callee_seat,
                fins,
                fin_acks,
                isn,
                acks,
            },
        )
    }

    fn memory(records: usize) -> Vec<u8> {
        vec![0; HEADER + records * RECORD]
    }

    /// What the next engine finds in the memory of this one.
    fn again(mut pins: Pins) -> Vec<(u32, Pin)> {
        Pins::open(Box::new(pins.memory.octets().to_vec())).1.pins
    }

    proptest! {
        #[test]
        fn what_is_written_is_found_again(list in proptest::collection::vec(pin(), 1..8), ack: u32) {
            let (mut pins, found) = Pins::open(Box::new(memory(8)));
            prop_assert!(found.pins.is_empty() && !found.whole && pins.capacity() == 8);
            for (slot, pin) in (0..).zip(&list) {
                pins.write(slot, pin);
            }
            let mut expected: Vec<(u32, Pin)> = (0..).zip(list).collect();
            if expected[0].1.acks[1].is_some() {
                pins.write_ack(0, Role::Callee, ack);
                expected[0].1.acks[1] = Some(ack);
            }
            if expected.len() > 1 {
                pins.clear(1);
                expected.remove(1);
            }
            pins.write(8, &expected[0].1);
            prop_assert_eq!(again(pins), expected);
        }

        #[test]
        fn any_content_is_safe(mut content in proptest::collection::vec(any::<u8>(), 0..400), formatted: bool) {
            if formatted && content.len() >= MAGIC.len() {
                content[..MAGIC.len()].copy_from_slice(&MAGIC);
            }
            let length = content.len();
            let (mut pins, found) = Pins::open(Box::new(content));
            prop_assert!(found.pins.is_empty(), "nothing has the right check");
            prop_assert_eq!(pins.memory.octets().len(), length);
        }

        #[test]
        fn a_torn_record_is_none(pin in pin(), at in 0..CHECK, flip in 1u8..) {
            let (mut pins, _) = Pins::open(Box::new(memory(1)));
            pins.write(0, &pin);
            pins.memory.octets()[HEADER + at] ^= flip;
            let (_, found) = Pins::open(Box::new(pins.memory.octets().to_vec()));
            prop_assert!(found.pins.is_empty());
            prop_assert!(!found.whole || at == 0, "what was there is known to be lost");
        }
    }

    #[test]
    fn another_layout_is_not_read() {
        let mut old = memory(2);
        old.fill(7);
        let (pins, found) = Pins::open(Box::new(old));
        assert!(found.pins.is_empty() && !found.whole);
        assert_eq!(again(pins), []);
    }
}
