//! The memory in which connections outlive the agent: a file with any content.

use std::sync::mpsc::{Sender, channel};

use arbitrary::{Result, Unstructured};
use mesh_engine::PinMemory;

use crate::{
    mesh::{OURS, addresses},
    world::{Op, World},
};

/// Starts an engine on arbitrary memory, goes on with the connections that it adopts, and starts another one on the
/// memory that it leaves: that one has the same connections.
pub fn run(data: &[u8]) {
    let mut u = Unstructured::new(data);
    let Ok(memory) = memory(&mut u) else { return };
    let length = memory.len();
    let (sender, receiver) = channel();
    let mut world = World::new(u.arbitrary().unwrap_or(true), Box::new(Kept { bytes: memory, sender: sender.clone() }));
    let _ = world.live(&mut u, &[Op::Map, Op::Wait, Op::WriteSegment, Op::SealSegment, Op::WriteAnswer, Op::Detach]);
    let before = world.end();
    drop(world);

    let memory = receiver.try_recv().expect("the engine returns it");
    assert_eq!(memory.len(), length);
    let again = World::from_memory(Box::new(Kept { bytes: memory, sender }));
    assert_eq!(again, before, "connections before and after a restart");
}

/// Memory that returns when its engine is dropped.
struct Kept {
    bytes: Vec<u8>,
    sender: Sender<Vec<u8>>,
}

impl PinMemory for Kept {
    fn bytes(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Not needed from the second engine.
        let _ = self.sender.send(std::mem::take(&mut self.bytes));
    }
}

/// The layout, which is internal to the engine (mesh-engine, flow/pins.rs), known here to get past its checks.
const MAGIC: &[u8; 16] = b"mesh pins v1 64\n";
const HEADER: usize = 64;
const RECORD: usize = 64;
const CHECK: usize = 52;

fn memory(u: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    let records: u32 = u.int_in_range(0..=8)?;
    let used = if u.ratio(1, 8)? { u.arbitrary()? } else { records };
    bytes[16..20].copy_from_slice(&used.to_le_bytes());
    for _ in 0..records {
        bytes.extend(if u.ratio(1, 16)? { u.arbitrary::<[u8; RECORD]>()? } else { record(u)? });
    }
    // Too much room, or too little.
    if u.ratio(1, 16)? {
        bytes.truncate(usize::from(u.arbitrary::<u16>()?));
    } else {
        bytes.resize(bytes.len() + usize::from(u.arbitrary::<u8>()?), 0);
    }
    Ok(bytes)
}

fn record(u: &mut Unstructured<'_>) -> Result<[u8; RECORD]> {
    let mut record = [0; RECORD];
    (record[0], record[1]) = (*u.choose(&[1, 2, 2, 2, 3, 4, 0, 5])?, u.arbitrary()?);
    let addresses = addresses();
    for at in [4, 8] {
        record[at..at + 4].copy_from_slice(&u.choose(&addresses)?.octets());
    }
    for at in [12, 14] {
        record[at..at + 2].copy_from_slice(&u.choose(&[40000u16, 40001, 5432, 80])?.to_le_bytes());
    }
    for at in [16, 24, 32] {
        record[at..at + 8].copy_from_slice(&u.choose(&[1, 2, 3, 20, 21, OURS[0], OURS[2], u64::MAX])?.to_le_bytes());
    }
    record[48..CHECK].copy_from_slice(&u.choose(&[0, 1000u32, u32::MAX])?.to_le_bytes());
    seal(&mut record);
    record[56..].copy_from_slice(&u.arbitrary::<[u8; 8]>()?);
    Ok(record)
}

/// Corrects the checksum (FNV-1a).
fn seal(record: &mut [u8]) {
    let check =
        record[..CHECK].iter().fold(0x811c_9dc5_u32, |sum, byte| (sum ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    record[CHECK..56].copy_from_slice(&check.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// This has to follow a change of the layout, or the fuzzer never gets past the checks.
    #[test]
    fn a_record_with_the_right_check_is_taken_up() {
        let mut bytes = vec![0; HEADER];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[16] = 1;
        bytes.extend(record(&mut Unstructured::new(&[1; 80])).unwrap());
        // Open.
        bytes[HEADER] = 2;
        bytes[HEADER + 48] = 1;
        seal(&mut bytes[HEADER..]);
        let sender = channel().0;
        assert_eq!(World::from_memory(Box::new(Kept { bytes, sender })), 1);
    }
}
