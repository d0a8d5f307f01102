//! A bounded queue of lines, and the thread that writes them.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// How many bytes may wait to be written.
pub(crate) const LIMIT: usize = 256 << 10;
/// How often a descriptor that is not ready (`O_NONBLOCK`) is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// Lines on their way to a file, a pipe or a terminal. Only the writing thread waits for it.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    queue: Mutex<Queue>,
    filled: Condvar,
    written: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// How many lines were dropped since the last one that found room.
    dropped: u64,
    /// Whether the thread is writing a line.
    writing: bool,
}

impl Queue {
    fn push(&mut self, line: Vec<u8>) {
        self.bytes += line.len();
        self.lines.push_back(line);
    }

    /// Adds a line that says how many lines are missing here.
    fn note(&mut self) {
        let dropped = std::mem::take(&mut self.dropped);
        if dropped > 0 {
            self.push(missing(dropped, "the log was not read").into_bytes());
        }
    }
}

fn missing(count: u64, why: &str) -> String {
    let (lines, were) = if count == 1 { ("line", "was") } else { ("lines", "were") };
    format!("mesh: {count} {lines} of the log {were} dropped here: {why}\n")
}

impl Lines {
    /// Starts the thread that writes to `out`.
    pub(crate) fn start(out: impl Write + Send + 'static) -> io::Result<Arc<Self>> {
        let lines = Arc::new(Self::default());
        let ours = Arc::clone(&lines);
        thread::Builder::new().name("log".into()).spawn(move || ours.write_all(out))?;
        Ok(lines)
    }

    /// Queues a line, or drops it if there is no room.
    pub(crate) fn push(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.bytes + line.len() > LIMIT && !queue.lines.is_empty() {
            queue.dropped += 1;
        } else {
            queue.note();
            queue.push(line.to_vec());
            self.filled.notify_one();
        }
    }

    /// Waits until all lines are written, but no longer than `limit`.
    pub(crate) fn flush(&self, limit: Duration) {
        let end = Instant::now() + limit;
        let mut queue = self.queue();
        while !queue.lines.is_empty() || queue.writing {
            let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else { return };
            queue = self.written.wait_timeout(queue, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Vec<u8> {
        let mut queue = self.queue();
        queue.writing = false;
        loop {
            if queue.lines.is_empty() {
                queue.note();
            }
            if let Some(line) = queue.lines.pop_front() {
                queue.bytes -= line.len();
                queue.writing = true;
                return line;
            }
            self.written.notify_all();
            queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write_all(&self, mut out: impl Write) {
        let mut failed: Option<(u64, io::Error)> = None;
        loop {
            let line = self.next();
            let note = failed.as_ref().map(|(count, error)| missing(*count, &error.to_string()));
            let written = note.map_or(Ok(()), |note| write(&mut out, note.as_bytes()));
            if written.is_ok() {
                failed = None;
            }
            if let Err(error) = written.and_then(|()| write(&mut out, &line)) {
                failed = Some((failed.map_or(0, |(count, _)| count) + 1, error));
            }
        }
    }
}

fn write(out: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match out.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => bytes = bytes.get(n..).unwrap_or_default(),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(e) => return Err(e),
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests;
