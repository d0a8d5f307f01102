//! The end of the log, kept in memory for bug reports.

use std::collections::VecDeque;

/// How many bytes of lines are kept.
const LIMIT: usize = 64 << 10;
/// How much of a longer line is kept, in bytes.
const LONGEST: usize = 2 << 10;

/// The latest lines, without their line breaks.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Recent {
    /// Adds a line. The oldest ones make room.
    pub(crate) fn push(&mut self, line: &[u8]) {
        let line = line.trim_ascii_end();
        let line = line.get(..LONGEST).unwrap_or(line);
        self.bytes += line.len();
        self.lines.push_back(line.to_vec());
        while self.bytes > LIMIT {
            self.bytes -= self.lines.pop_front().map_or(0, |line| line.len());
        }
    }

    /// The lines, oldest first, without colours.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.iter().map(|line| without_colours(&String::from_utf8_lossy(line))).collect()
    }
}

/// Leaves out the sequences that set colours: ESC, `[`, numbers and semicolons, `m` (ECMA-48 §8.3.117).
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        let rest = part.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';');
        text + rest.strip_prefix('m').unwrap_or(rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_lines_are_kept_without_colours() {
        let mut recent = Recent::default();
        recent.push(b"\x1b[2m12:00\x1b[0m \x1b[1;31mERROR\x1b[0m no [route] m\n");
        assert_eq!(recent.lines(), ["12:00 ERROR no [route] m"]);
        let long = "x".repeat(3 << 10);
        for i in 0..100 {
            recent.push(format!("{i}\n").as_bytes());
            recent.push(long.as_bytes());
        }
        let lines = recent.lines();
        assert!(lines.iter().map(String::len).sum::<usize>() <= LIMIT);
        assert!(lines.iter().all(|line| line.len() <= LONGEST));
        assert_eq!(lines.iter().rfind(|line| line.len() < 9).map(String::as_str), Some("99"));
    }
}
