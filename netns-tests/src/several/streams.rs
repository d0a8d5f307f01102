//! How often a runner has got a stream, by its log, of which only what is new is read.

use std::{
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// What the agent says when it has one.
const CONNECTED: &str = "connected to the coordinator";

pub(super) struct Streams {
    log: File,
    rest: Vec<u8>,
    count: usize,
}

impl Streams {
    /// From now on.
    pub(super) fn of(log: &Path) -> Self {
        let mut log = File::open(log).expect("the agent's log");
        log.seek(SeekFrom::End(0)).expect("a file's end");
        Self { log, rest: vec![], count: 0 }
    }

    /// So many so far.
    pub(super) fn count(&mut self) -> usize {
        self.log.read_to_end(&mut self.rest).expect("a log can be read");
        if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
            let lines: Vec<u8> = self.rest.drain(..=end).collect();
            self.count += String::from_utf8_lossy(&lines).matches(CONNECTED).count();
        }
        self.count
    }
}
