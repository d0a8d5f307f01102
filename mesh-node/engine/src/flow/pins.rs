//! The memory in which flows outlive the engine: a header, then a record of 64 bytes for each flow. Memory behind the
//! last used record is never touched, so that a sparse file takes no more room than its content.
//!
//! The content is not trusted: records with another layout, and torn or damaged ones, are ignored.

use std::net::Ipv4Addr;

use mesh_proto::{InstanceId, RunnerId};

use super::end::{End, Location, Phase, Role};
use crate::index::{Ix as _, Slot};

/// Memory in which an engine records its connections. If the owner of the engine maps a file, the next engine adopts
/// them; a vector of zeros does where that doesn't matter.
pub trait PinMemory: Send {
    /// All of the memory. Its length never changes.
    fn bytes(&mut self) -> &mut [u8];
}

impl PinMemory for Vec<u8> {
    fn bytes(&mut self) -> &mut [u8] {
        self
    }
}

/// The most connections that an engine follows: far more than a runner has.
pub const MAX_CONNECTIONS: usize = 1 << 18;

/// The length in bytes of a [`PinMemory`] for [`MAX_CONNECTIONS`]. A sparse file of this length takes only the room that
/// is used.
pub const PIN_MEMORY: usize = HEADER + MAX_CONNECTIONS * RECORD;

/// The layout's name and version.
const MAGIC: [u8; 16] = *b"mesh pins v1 64\n";
const HEADER: usize = 64;
/// The offset of the number of used records in the header.
const USED: usize = MAGIC.len();
const RECORD: usize = 64;
/// The offset of the checksum, which covers everything before it. The acknowledgments behind it change with every
/// packet.
const CHECK: usize = 52;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pin {
    pub(crate) phase: Phase,
    pub(crate) caller: End,
    pub(crate) callee: End,
    /// The calling instance.
    pub(crate) caller_is: InstanceId,
    pub(crate) caller_location: Location,
    pub(crate) callee_location: Location,
    /// The initial sequence number of the caller's attempt (RFC 9293 §3.4.1).
    pub(crate) isn: u32,
    pub(crate) progress: Progress,
}

/// What the segments so far have said.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Which ends have sent a FIN: a bit for each [`Role`].
    pub(crate) fins: u8,
    /// The acknowledgment numbers that acknowledge these, where known.
    pub(crate) fin_acks: [Option<u32>; 2],
    /// The last acknowledgment number from each [`Role`]: the sequence number that it expects next.
    pub(crate) acks: [Option<u32>; 2],
}

/// What an engine finds in its memory.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) pins: Vec<(Slot, Pin)>,
    /// The memory is an engine's and undamaged: a connection without a record didn't exist.
    pub(crate) whole: bool,
}

/// The records.
pub(crate) struct Pins {
    memory: Box<dyn PinMemory>,
    capacity: u32,
    used: u32,
}

impl Pins {
    /// Reads the records in the memory, or formats it.
    pub(crate) fn open(mut memory: Box<dyn PinMemory>) -> (Self, Found) {
        let capacity = (memory.bytes().len().saturating_sub(HEADER) / RECORD).min(1 << 24) as u32;
        let mut pins = Self { memory, capacity, used: 0 };
        let bytes = pins.memory.bytes();
        let mut found = Found::default();
        let Some((header, records)) = bytes.split_at_mut_checked(HEADER) else { return (pins, found) };
        if header[..USED] == MAGIC {
            let used = u32::from_le_bytes([header[USED], header[USED + 1], header[USED + 2], header[USED + 3]]);
            found.whole = used <= capacity;
            for (slot, record) in (0..used.min(capacity)).zip(records.chunks_exact(RECORD)) {
                match read(record) {
                    Some(pin) => found.pins.push((Slot(slot), pin)),
                    None => found.whole &= record[0] == 0,
                }
            }
        }
        header[..USED].copy_from_slice(&MAGIC);
        pins.set_used(found.pins.last().map_or(0, |(slot, _)| slot.0 + 1));
        (pins, found)
    }

    fn set_used(&mut self, used: u32) {
        self.used = used;
        if let Some(place) = self.memory.bytes().get_mut(USED..USED + 4) {
            place.copy_from_slice(&used.to_le_bytes());
        }
    }

    /// How many records the memory has room for.
    pub(crate) const fn capacity(&self) -> u32 {
        self.capacity
    }

    pub(crate) fn write(&mut self, slot: Slot, pin: &Pin) {
        let mut record = [0; RECORD];
        let bit = |set: bool, bit: u8| u8::from(set) << bit;
        record[0] = pin.phase as u8;
        record[1] = bit(matches!(pin.caller_location, Location::Here(_)), 0)
            | bit(matches!(pin.callee_location, Location::Here(_)), 1)
            | bit(pin.progress.acks[0].is_some(), 2)
            | bit(pin.progress.acks[1].is_some(), 3)
            | (pin.progress.fins & 3) << 4
            | bit(pin.progress.fin_acks[0].is_some(), 6)
            | bit(pin.progress.fin_acks[1].is_some(), 7);
        record[4..8].copy_from_slice(&pin.caller.address.octets());
        record[8..12].copy_from_slice(&pin.callee.address.octets());
        record[12..14].copy_from_slice(&pin.caller.port.to_le_bytes());
        record[14..16].copy_from_slice(&pin.callee.port.to_le_bytes());
        record[16..24].copy_from_slice(&pin.caller_is.0.to_le_bytes());
        record[24..32].copy_from_slice(&pin.caller_location.number().to_le_bytes());
        record[32..40].copy_from_slice(&pin.callee_location.number().to_le_bytes());
        record[40..44].copy_from_slice(&pin.progress.fin_acks[0].unwrap_or(0).to_le_bytes());
        record[44..48].copy_from_slice(&pin.progress.fin_acks[1].unwrap_or(0).to_le_bytes());
        record[48..CHECK].copy_from_slice(&pin.isn.to_le_bytes());
        let check = sum(&record[..CHECK]);
        record[CHECK..56].copy_from_slice(&check.to_le_bytes());
        record[56..60].copy_from_slice(&pin.progress.acks[0].unwrap_or(0).to_le_bytes());
        record[60..64].copy_from_slice(&pin.progress.acks[1].unwrap_or(0).to_le_bytes());
        if let Some(place) = self.place(slot, 0, RECORD) {
            place.copy_from_slice(&record);
            // Slots are taken in order: all before this one were written before.
            if slot.0 >= self.used {
                self.set_used(slot.0 + 1);
            }
        }
    }

    /// Updates the last acknowledgment number of an end that had one in its record before.
    #[inline]
    pub(crate) fn write_ack(&mut self, slot: Slot, role: Role, ack: u32) {
        if let Some(place) = self.place(slot, 56 + 4 * role as usize, 4) {
            place.copy_from_slice(&ack.to_le_bytes());
        }
    }

    pub(crate) fn clear(&mut self, slot: Slot) {
        if let Some(place) = self.place(slot, 0, RECORD) {
            place.fill(0);
        }
    }

    #[inline]
    fn place(&mut self, slot: Slot, offset: usize, len: usize) -> Option<&mut [u8]> {
        let start = HEADER + slot.position() * RECORD + offset;
        self.memory.bytes().get_mut(start..start + len)
    }
}

/// Reads a record. `None` if it is free or damaged.
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
    let location =
        |here: bool, number| if here { Location::Here(InstanceId(number)) } else { Location::There(RunnerId(number)) };
    Some(Pin {
        phase,
        caller: End { address: address(4), port: half(12) },
        callee: End { address: address(8), port: half(14) },
        caller_is: InstanceId(long(16)),
        caller_location: location(is_set(0), long(24)),
        callee_location: location(is_set(1), long(32)),
        isn: word(48),
        progress: Progress {
            fins: record[1] >> 4 & 3,
            fin_acks: [is_set(6).then(|| word(40)), is_set(7).then(|| word(44))],
            acks: [is_set(2).then(|| word(56)), is_set(3).then(|| word(60))],
        },
    })
}

/// The FNV-1a hash by Fowler, Noll and Vo: it has to detect torn records, not forged ones.
fn sum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pin() -> impl Strategy<Value = Pin> {
        let end = || (any::<u32>(), any::<u16>()).prop_map(|(a, port)| End { address: Ipv4Addr::from_bits(a), port });
        let location = || {
            prop_oneof![
                any::<u64>().prop_map(|id| Location::Here(InstanceId(id))),
                any::<u64>().prop_map(|id| Location::There(RunnerId(id)))
            ]
        };
        let phase = prop_oneof![Just(Phase::Opening), Just(Phase::Open), Just(Phase::Ended), Just(Phase::Reset)];
        let pairs = (any::<[Option<u32>; 2]>(), any::<[Option<u32>; 2]>());
        (phase, end(), end(), any::<u64>(), location(), location(), 0u8..4, any::<u32>(), pairs).prop_map(
            |(phase, caller, callee, id, caller_location, callee_location, fins, isn, (acks, fin_acks))| Pin {
                phase,
                caller,
                callee,
                caller_is: InstanceId(id),
                caller_location,
                callee_location,
                isn,
                progress: Progress { fins, fin_acks, acks },
            },
        )
    }

    fn memory(records: usize) -> Vec<u8> {
        vec![0; HEADER + records * RECORD]
    }

    /// What the next engine finds in the memory of this one.
    fn again(mut pins: Pins) -> Vec<(Slot, Pin)> {
        Pins::open(Box::new(pins.memory.bytes().to_vec())).1.pins
    }

    proptest! {
        #[test]
        fn what_is_written_is_found_again(list in proptest::collection::vec(pin(), 1..8), ack: u32) {
            let (mut pins, found) = Pins::open(Box::new(memory(8)));
            prop_assert!(found.pins.is_empty() && !found.whole && pins.capacity() == 8);
            for (slot, pin) in (0..).map(Slot).zip(&list) {
                pins.write(slot, pin);
            }
            let mut expected: Vec<(Slot, Pin)> = (0..).map(Slot).zip(list).collect();
            if expected[0].1.progress.acks[1].is_some() {
                pins.write_ack(Slot(0), Role::Callee, ack);
                expected[0].1.progress.acks[1] = Some(ack);
            }
            if expected.len() > 1 {
                pins.clear(Slot(1));
                expected.remove(1);
            }
            pins.write(Slot(8), &expected[0].1);
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
            prop_assert_eq!(pins.memory.bytes().len(), length);
        }

        #[test]
        fn a_torn_record_is_none(pin in pin(), at in 0..CHECK, flip in 1u8..) {
            let (mut pins, _) = Pins::open(Box::new(memory(1)));
            pins.write(Slot(0), &pin);
            pins.memory.bytes()[HEADER + at] ^= flip;
            let (_, found) = Pins::open(Box::new(pins.memory.bytes().to_vec()));
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
