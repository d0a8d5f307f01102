//! Reads a file of any length in pieces: where our block is, and whether the file is a text. Removes the block from
//! files that are too long to be kept, without holding them in memory.

use std::{fs::File, io, ops::Range, os::unix::fs::FileExt as _};

use super::edit::{BEGIN, END};

/// How much is read at a time, in bytes.
const PIECE: usize = 1 << 16;
/// How much of a file is read at most, in bytes: a container can make it of any length, which must not take for ever.
const FAR: u64 = 256 << 20;
/// The most blocks that are removed from one file. The agent writes one; more are the container's work.
const BLOCKS: usize = 64;
/// The longest line that can be a marker, with trailing blanks.
const MARKER: usize = 128;

/// The content of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Its length.
    pub(super) length: u64,
    /// Our parts: whole blocks, and markers without their counterparts.
    pub(super) ours: Vec<Range<u64>>,
    /// Whether there is a NUL outside of our parts.
    pub(super) nul: bool,
    /// Whether the whole file was read.
    pub(super) whole: bool,
}

impl Scan {
    /// Reads a file.
    ///
    /// # Errors
    /// If it can't be read.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let mut lines = Lines::default();
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        while at < FAR {
            let count = file.read_at(&mut piece, at)?;
            if count == 0 {
                return Ok(lines.end(at));
            }
            lines.read(piece.get(..count).unwrap_or_default(), at);
            at += count as u64;
        }
        let length = file.metadata()?.len();
        Ok(Self { whole: at >= length, length, ..lines.end(at) })
    }
}

/// Removes our parts from a file, wherever they are. Returns whether there were any.
///
/// # Errors
/// If it can't be read or written.
pub(super) fn take_out(file: &File) -> io::Result<bool> {
    let Scan { length, ours, .. } = Scan::of(file)?;
    let Some(first) = ours.first() else { return Ok(false) };
    let mut piece = vec![0; PIECE];
    let mut to = first.start;
    let ends = ours.iter().skip(1).map(|block| block.start).chain([length]);
    for (mut from, end) in ours.iter().map(|block| block.end).zip(ends) {
        while from < end {
            let most = usize::try_from(end - from).unwrap_or(PIECE).min(PIECE);
            let count = file.read_at(piece.get_mut(..most).unwrap_or_default(), from)?;
            if count == 0 {
                return Err(io::Error::new(io::ErrorKind::Interrupted, "it is being written to"));
            }
            file.write_all_at(piece.get(..count).unwrap_or_default(), to)?;
            (from, to) = (from + count as u64, to + count as u64);
        }
    }
    // Additions of other programs stay.
    if file.metadata()?.len() != length {
        return Err(io::Error::new(io::ErrorKind::Interrupted, "it is being written to"));
    }
    file.set_len(to)?;
    Ok(true)
}

/// The lines seen so far.
#[derive(Debug, Default)]
struct Lines {
    /// The start of the current line.
    begin: u64,
    /// Its first bytes.
    line: Vec<u8>,
    /// The begin marker whose end hasn't come yet.
    open: Option<Range<u64>>,
    /// Whether there was a NUL after it.
    nul_since: bool,
    ours: Vec<Range<u64>>,
    nul: bool,
}

impl Lines {
    fn read(&mut self, piece: &[u8], mut at: u64) {
        for part in piece.split_inclusive(|b| *b == b'\n') {
            let room = MARKER.saturating_sub(self.line.len()).min(part.len());
            self.line.extend_from_slice(part.get(..room).unwrap_or_default());
            self.nul_since |= part.contains(&0);
            at += part.len() as u64;
            if part.ends_with(b"\n") {
                self.line_ends(at);
            }
        }
    }

    fn line_ends(&mut self, at: u64) {
        let marker = match (self.line.len() < MARKER).then(|| self.line.trim_ascii_end()) {
            Some(BEGIN) => Some(true),
            Some(END) => Some(false),
            _ => None,
        };
        let this = self.begin..at;
        match marker {
            Some(true) => {
                self.give_up();
                self.open = Some(this);
            }
            Some(false) => match self.open.take() {
                Some(open) => {
                    self.nul_since = false;
                    self.found(open.start..at);
                }
                None => self.found(this),
            },
            None if self.open.is_none() => self.nul |= std::mem::take(&mut self.nul_since),
            None => {}
        }
        self.begin = at;
        self.line.clear();
    }

    /// The begin marker has no end: it is removed, and nothing behind it.
    fn give_up(&mut self) {
        self.nul |= std::mem::take(&mut self.nul_since);
        if let Some(open) = self.open.take() {
            self.found(open);
        }
    }

    fn found(&mut self, block: Range<u64>) {
        if self.ours.len() < BLOCKS {
            self.ours.push(block);
        }
    }

    fn end(mut self, at: u64) -> Scan {
        if at > self.begin {
            self.line_ends(at);
        }
        self.give_up();
        Scan { length: at, ours: self.ours, nul: self.nul, whole: true }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::{hosts::edit, state::tests::Scratch};

    fn file(name: &str, text: &[u8]) -> (Scratch, File) {
        let scratch = Scratch::new(name);
        let path = scratch.0.join("hosts");
        fs::write(&path, text).unwrap();
        (scratch, File::options().read(true).write(true).open(path).unwrap())
    }

    fn taken_out(name: &str, text: &[u8]) -> Vec<u8> {
        let (scratch, file) = file(name, text);
        take_out(&file).unwrap();
        fs::read(scratch.0.join("hosts")).unwrap()
    }

    #[test]
    fn what_is_ours_goes_from_between_pieces_and_nothing_else_does() {
        let line = "10.9.8.7 a-name-among-many\n".repeat(PIECE / 26);
        let block = format!("# mesh-node begin\n{}# mesh-node end\n", "100.112.0.2 x\n".repeat(PIECE / 5));
        let text = format!("{line}{block}{line}\0# mesh-node begin\n{line}");
        let found = Scan::of(&file("scan", text.as_bytes()).1).unwrap();
        assert_eq!((found.ours.len(), found.nul, found.length), (1, true, text.len() as u64));
        assert!(taken_out("block", text.as_bytes()) == format!("{line}{line}\0# mesh-node begin\n{line}").into_bytes());
        assert!(taken_out("block", format!("{line}{block}").as_bytes()) == line.as_bytes());
    }

    #[test]
    fn a_file_without_an_end_is_not_read_to_its_end() {
        let (_scratch, file) = file("endless", b"127.0.0.1 localhost\n");
        file.set_len(1 << 40).unwrap();
        let found = Scan::of(&file).unwrap();
        assert_eq!((found.whole, found.nul, found.length), (false, true, 1 << 40));
    }

    proptest! {
        #[test]
        fn pieces_come_to_the_same_as_the_whole(
            lines in proptest::collection::vec(
                prop_oneof![
                    Just(BEGIN.to_vec()), Just(END.to_vec()), Just(b"# mesh-node end \r".to_vec()),
                    proptest::collection::vec(any::<u8>(), 0..12),
                ],
                0..12,
            ),
        ) {
            let text = lines.join(&b'\n');
            let expected = edit::without_block(&text);
            prop_assert_eq!(&taken_out("lines", &text), &expected);
            let found = Scan::of(&file("pieces", &text).1).unwrap();
            prop_assert!(found.nul == expected.contains(&0));
        }
    }
}
