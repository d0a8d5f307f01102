//! The questions to a [`crate::NamedServer`], which begin with one byte, and its answers.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use crate::pattern::Pattern;

/// Its name.
const WHO: u8 = b'w';
/// The same bytes.
const ECHO: u8 = b'e';
/// Nothing.
const HUSH: u8 = b'h';
/// The end of the connection, from its side.
const BYE: u8 = b'b';
/// A [`stream`] in both directions at once.
const TRANSFER: u8 = b't';

/// How fast a transfer goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it can.
    Full,
    /// A frame every few milliseconds, so that several of them leave the machine time for something else.
    Steady,
}

/// The bytes of a frame of a transfer. An empty frame is the last one.
const FRAME: u32 = 64 << 10;

pub(crate) fn ask_who(stream: &mut TcpStream) -> io::Result<String> {
    stream.write_all(&[WHO])?;
    let mut length = [0];
    stream.read_exact(&mut length)?;
    let mut name = vec![0; usize::from(length[0])];
    stream.read_exact(&mut name)?;
    String::from_utf8(name).map_err(|_| io::Error::new(ErrorKind::InvalidData, "an unreadable name"))
}

/// The first half of an echo, so that many can be under way at once.
pub(crate) fn say(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
    let length = text.len() as u32;
    stream.write_all(&[&[ECHO], &length.to_be_bytes()[..], text].concat())
}

/// The second half.
pub(crate) fn hear(stream: &mut TcpStream, text: &[u8]) -> io::Result<()> {
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back)?;
    if back == text { Ok(()) } else { Err(io::Error::new(ErrorKind::InvalidData, "another text came back")) }
}

pub(crate) fn hush(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[HUSH])
}

/// Asks for the end, and waits for it.
pub(crate) fn bye(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(&[BYE])?;
    end(stream)
}

/// Ends what we say, and waits until the other end has as well.
pub(crate) fn leave(stream: &mut TcpStream) -> io::Result<()> {
    stream.shutdown(Shutdown::Write)?;
    end(stream)
}

fn end(stream: &mut TcpStream) -> io::Result<()> {
    match stream.read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::new(ErrorKind::InvalidData, "more than was asked for")),
    }
}

/// A transfer, at the caller's end: both ends send until `stop`, and check all that they receive. `moved` counts the
/// received bytes. The connection can only be closed afterwards.
pub(crate) fn transfer(stream: &mut TcpStream, pace: Pace, stop: &AtomicBool, moved: &AtomicU64) -> io::Result<()> {
    stream.write_all(&[TRANSFER, u8::from(pace == Pace::Steady)])?;
    both_ways(stream, pace, [1, 2], stop, moved, false)?;
    leave(stream)
}

/// Answers what is asked until the other end has finished, or something fails. `gate` is passed before each answer.
pub(crate) fn answer(stream: &mut TcpStream, name: &str, gate: impl Fn()) -> io::Result<()> {
    let mut question = [0];
    while stream.read(&mut question)? > 0 {
        gate();
        match question[0] {
            WHO => stream.write_all(&[&[name.len() as u8], name.as_bytes()].concat())?,
            ECHO => {
                let mut length = [0; 4];
                stream.read_exact(&mut length)?;
                let mut text = vec![0; u32::from_be_bytes(length) as usize];
                stream.read_exact(&mut text)?;
                stream.write_all(&text)?;
            }
            HUSH => {}
            BYE => return leave(stream),
            TRANSFER => {
                stream.read_exact(&mut question)?;
                let pace = if question[0] == 0 { Pace::Full } else { Pace::Steady };
                both_ways(stream, pace, [2, 1], &AtomicBool::new(false), &AtomicU64::new(0), true)?;
            }
            _ => return Err(io::Error::new(ErrorKind::InvalidData, "an unknown question")),
        }
    }
    Ok(())
}

/// Sends one pattern and checks the other one. `follows`: stops when the other end has.
fn both_ways(
    stream: &TcpStream,
    pace: Pace,
    [ours, theirs]: [u64; 2],
    stop: &AtomicBool,
    moved: &AtomicU64,
    follows: bool,
) -> io::Result<()> {
    let (mut to, mut from) = (stream, stream);
    thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let sent = send_frames(&mut to, pace, Pattern::new(ours), stop);
            if sent.is_err() {
                let _ = to.shutdown(Shutdown::Both);
            }
            sent
        });
        let checked = check_frames(&mut from, Pattern::new(theirs), moved);
        if checked.is_err() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        if follows || checked.is_err() {
            stop.store(true, Ordering::Release);
        }
        // If one half fails so does the other, but only the first of them knows why.
        match (checked, sending.join().expect("sending doesn't panic")) {
            (Err(error), Err(_)) if error.kind() != ErrorKind::UnexpectedEof => Err(error),
            (_, Err(error)) | (Err(error), _) => Err(error),
            (Ok(()), Ok(())) => Ok(()),
        }
    })
}

fn send_frames(to: &mut impl Write, pace: Pace, mut pattern: Pattern, stop: &AtomicBool) -> io::Result<()> {
    while !stop.load(Ordering::Acquire) {
        to.write_all(&FRAME.to_be_bytes())?;
        pattern.send(to, u64::from(FRAME))?;
        if pace == Pace::Steady {
            thread::sleep(Duration::from_millis(10));
        }
    }
    to.write_all(&[0; 4])
}

fn check_frames(from: &mut impl Read, mut pattern: Pattern, moved: &AtomicU64) -> io::Result<()> {
    loop {
        let mut length = [0; 4];
        from.read_exact(&mut length)?;
        match u32::from_be_bytes(length) {
            0 => return Ok(()),
            FRAME => pattern.check(from, u64::from(FRAME))?,
            _ => return Err(io::Error::new(ErrorKind::InvalidData, "wrong bytes between two frames")),
        }
        moved.fetch_add(u64::from(FRAME), Ordering::AcqRel);
    }
}
