//! The messages between an agent and its coordinator.

use std::fmt::Debug;

use mesh_proto::message::{Ask, Down, Enrol, Enrolled, Info, Refusal, Up};
use serde::{Serialize, de::DeserializeOwned};

/// Reads a text as every kind of message. A parsed message is written so that it is parsed the same.
pub fn run(data: &[u8]) {
    round_trip::<Up>(data);
    round_trip::<Down>(data);
    round_trip::<Ask>(data);
    round_trip::<Info>(data);
    round_trip::<Enrol>(data);
    round_trip::<Enrolled>(data);
    round_trip::<Refusal>(data);
}

/// Whether it could be parsed.
pub(crate) fn round_trip<T: Serialize + DeserializeOwned + Debug>(data: &[u8]) -> bool {
    let Ok(read) = serde_json::from_slice::<T>(data) else { return false };
    let written = serde_json::to_string(&read).expect("every message can be written");
    let again: T = serde_json::from_str(&written).unwrap_or_else(|error| panic!("{error} in {written}"));
    assert_eq!(serde_json::to_string(&again).expect("every message can be written"), written);
    // A field with its usual value is left out, but no field grows.
    assert!(written.len() <= 64 * (data.len() + 16), "{} bytes of {}", written.len(), data.len());
    true
}
