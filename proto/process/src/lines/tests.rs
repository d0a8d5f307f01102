use std::{
    io::{BufRead as _, BufReader, Read as _},
    sync::{Mutex, mpsc},
};

use super::*;

/// Long enough for a busy machine. It only matters if the test fails.
const PATIENCE: Duration = Duration::from_secs(30);

/// A pipe whose reader reads on demand.
fn pipe() -> (io::PipeReader, Arc<Lines>) {
    let (reader, writer) = io::pipe().unwrap();
    (reader, Lines::start(writer).unwrap())
}

/// Reads until `end` has come.
fn read_until(reader: &mut io::PipeReader, end: &str) -> String {
    let (mut text, mut buffer) = (String::new(), [0; 4096]);
    while !text.contains(end) {
        let n = reader.read(&mut buffer).unwrap();
        text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    text
}

#[test]
fn a_log_that_is_not_read_stalls_nothing_and_says_what_is_missing() {
    let (mut reader, lines) = pipe();
    let line = format!("{}\n", "x".repeat(1023));
    // Far more than the pipe and the queue hold. If this blocks, the test hangs.
    for _ in 0..2000 {
        lines.push(line.as_bytes());
    }
    lines.flush(Duration::from_millis(1));
    assert!(lines.queue().bytes <= LIMIT, "what waits has a limit");
    // The thread may have found room several times while lines came, so there may be several notes.
    let (mut kept, mut dropped) = (0, 0);
    for line in BufReader::new(&mut reader).lines().map(Result::unwrap) {
        match line.strip_prefix("mesh: ") {
            Some(note) => dropped += note.split(' ').next().unwrap().parse::<usize>().unwrap(),
            None => {
                assert_eq!(line.len(), 1023, "whole lines only");
                kept += 1;
            }
        }
        if kept + dropped == 2000 {
            break;
        }
    }
    assert!(dropped > 1000, "{dropped} dropped");
    lines.push(b"goes on\n");
    assert_eq!(read_until(&mut reader, "goes on\n").lines().last(), Some("goes on"));
    lines.flush(PATIENCE);
    assert!(!lines.queue().writing);
}

#[test]
fn a_log_whose_reader_is_gone_stalls_nothing() {
    let (reader, lines) = pipe();
    drop(reader);
    for _ in 0..1000 {
        lines.push(b"into the void\n");
    }
    let begun = Instant::now();
    lines.flush(PATIENCE);
    assert!(begun.elapsed() < PATIENCE, "every line was tried and given up");
}

/// A disk that is full until it is freed.
struct Disk(Arc<Mutex<Option<Vec<u8>>>>, mpsc::Sender<()>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = match &mut *self.0.lock().unwrap() {
            Some(disk) => disk.write(bytes),
            None => Err(io::ErrorKind::StorageFull.into()),
        };
        self.1.send(()).unwrap();
        written
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_log_on_a_full_disk_goes_on_when_there_is_room_and_says_what_is_missing() {
    let (disk, (tried, attempts)) = (Arc::new(Mutex::new(None)), mpsc::channel());
    let lines = Lines::start(Disk(Arc::clone(&disk), tried)).unwrap();
    for _ in 0..3 {
        lines.push(b"lost\n");
        attempts.recv().unwrap();
    }
    lines.flush(PATIENCE);
    *disk.lock().unwrap() = Some(Vec::new());
    lines.push(b"kept\n");
    lines.flush(PATIENCE);
    let text = String::from_utf8(disk.lock().unwrap().clone().unwrap()).unwrap();
    assert!(text.starts_with("mesh: 3 lines of the log were dropped here: ") && text.ends_with("\nkept\n"), "{text}");
}
