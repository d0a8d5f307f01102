//! What both programs do as processes: a log that stalls nothing, and secrets that no other process reads.

mod lines;
pub mod log;
pub mod secrets;
