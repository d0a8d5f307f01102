//! Hides what other processes could read from this one: its arguments, its initial environment, and its memory after
//! a crash.
//!
//! The kernel shows arguments and environment from their place at the start (`/proc/PID/cmdline`, `environ`). They
//! are overwritten there through `/proc/self/mem`, which needs no unsafe code. Without `/proc`, other processes can't
//! read them either.

use std::{
    convert::Infallible,
    env, fmt,
    fs::{self, OpenOptions},
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
};

use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
};
use zeroize::Zeroizing;

/// The prefixes of tokens and credentials.
const PREFIXES: [&[u8]; 8] = [
    b"mesh1.",
    b"mesh2.",
    b"meshadmin1.",
    b"meshadmin2.",
    b"meshrelay1.",
    b"meshrelay2.",
    b"meshrunner1.",
    b"meshrelaycred1.",
];
/// A token's text is longer than this, and no part of a host name with such a prefix is.
const SHORTEST: usize = 64;

/// Overwrites every token among this process's arguments, and the credentials of URLs. Call it once they are parsed.
pub fn hide_arguments() {
    let _ = memory(Area::Arguments).and_then(|(start, mut bytes)| {
        for secret in secrets(&bytes) {
            if let Some(secret) = bytes.get_mut(secret) {
                secret.fill(b'*');
            }
        }
        put_back(start, &bytes)
    });
}

/// A token as it was typed, or where it is read from: it appears in no error and no log.
#[derive(Clone)]
pub struct TokenArgument(Zeroizing<String>);

impl TokenArgument {
    /// This text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Zeroizing::new(text.to_owned()))
    }

    /// The same, for clap.
    ///
    /// # Errors
    /// None.
    pub fn parse(text: &str) -> Result<Self, Infallible> {
        Ok(Self::of(text))
    }

    /// Its text, which is to be shown nowhere.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<Zeroizing<String>> for TokenArgument {
    fn from(text: Zeroizing<String>) -> Self {
        Self(text)
    }
}

impl fmt::Debug for TokenArgument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenArgument(..)")
    }
}

/// Takes a secret out of the environment: neither this process's `/proc/PID/environ` nor programs that it starts will
/// have it.
#[must_use]
pub fn take_variable(name: &str) -> Option<Zeroizing<String>> {
    let value = env::var(name).ok().map(Zeroizing::new)?;
    let _ = memory(Area::Environment).and_then(|(start, mut bytes)| {
        for entry in bytes.split_mut(|byte| *byte == 0) {
            let is_it = entry.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.starts_with(b"="));
            if is_it {
                entry.fill(0);
            }
        }
        put_back(start, &bytes)
    });
    Some(value)
}

/// Keeps this process's memory out of core dumps, and from other processes of the same user. Only for a process that
/// reads nothing of its own in `/proc` afterwards, or that runs as root.
pub fn forbid_dumps() {
    // These fail only in a sandbox that forbids them, which the program accepts.
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    let _ = prctl::set_dumpable(false);
}

/// Prevents core dumps, for processes for which [`forbid_dumps`] would go too far.
pub fn forbid_core_files() {
    let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
}

/// A text with every token in it starred out, and the credentials of URLs.
#[must_use]
pub fn starred(text: &[u8]) -> Vec<u8> {
    let mut starred = text.to_vec();
    for secret in secrets(text) {
        starred.get_mut(secret).into_iter().flatten().for_each(|byte| *byte = b'*');
    }
    starred
}

/// Where tokens are among NUL-terminated arguments, without their prefixes, and credentials of URLs.
fn secrets(arguments: &[u8]) -> Vec<Range<usize>> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
    let mut found = Vec::new();
    for prefix in PREFIXES {
        let places = arguments.windows(prefix.len()).enumerate().filter(|(_, window)| *window == prefix);
        for (place, _) in places {
            let start = place + prefix.len();
            let length = arguments.iter().skip(start).take_while(|byte| is_token(byte)).count();
            if length >= SHORTEST {
                found.push(start..start + length);
            }
        }
    }
    found.extend(credentials(arguments));
    found
}

/// Where URLs hold credentials: between `://` and the last `@` before the URL's end.
fn credentials(arguments: &[u8]) -> Vec<Range<usize>> {
    const SCHEME: &[u8] = b"://";
    let ends = |byte: &u8| byte.is_ascii_whitespace() || b"\0\"'".contains(byte);
    let mut found = Vec::new();
    let begins = arguments.windows(SCHEME.len()).enumerate().filter(|(_, window)| *window == SCHEME);
    for start in begins.map(|(place, _)| place + SCHEME.len()) {
        let rest = arguments.iter().skip(start).take_while(|byte| !ends(byte));
        let last = rest.enumerate().filter(|(_, byte)| **byte == b'@').last();
        found.extend(last.map(|(length, _)| start..start + length));
    }
    found
}

#[derive(Debug, Clone, Copy)]
enum Area {
    Arguments,
    Environment,
}

/// Reads an area of this process's memory. Returns its address and its bytes.
fn memory(area: Area) -> io::Result<(u64, Zeroizing<Vec<u8>>)> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let Range { start, end } = place(&stat, area).ok_or(io::ErrorKind::InvalidData)?;
    let length = usize::try_from(end - start).map_err(io::Error::other)?;
    let mut bytes = Zeroizing::new(vec![0; length]);
    fs::File::open("/proc/self/mem")?.read_exact_at(&mut bytes, start)?;
    Ok((start, bytes))
}

fn put_back(start: u64, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().write(true).open("/proc/self/mem")?.write_all_at(bytes, start)
}

/// proc(5): `arg_start` is the 48th field and `env_start` the 50th. The second field is in parentheses and may
/// contain blanks.
fn place(stat: &str, area: Area) -> Option<Range<u64>> {
    let (_, rest) = stat.rsplit_once(')')?;
    let first = match area {
        Area::Arguments => 48,
        Area::Environment => 50,
    };
    let mut fields = rest.split_ascii_whitespace().skip(first - 3).map(str::parse::<u64>);
    let (start, end) = (fields.next()?.ok()?, fields.next()?.ok()?);
    // The kernel allows less than four megabytes for both.
    (start > 0 && start <= end && end - start <= 4 << 20).then_some(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_found_among_arguments_and_host_names_that_look_alike_are_not() {
        let token = "A".repeat(96);
        let line = format!("join\0https://mesh1.example.org\0mesh1.{token}\0--token=meshadmin1.{token}\0--json\0");
        assert_eq!(starred(line.as_bytes()), line.replace(&token, &"*".repeat(96)).as_bytes());
        assert!(secrets(b"mesh1.").is_empty() && secrets(b"").is_empty());
        let line = b"--proxy=http://me:p@ss@proxy:1\0https://coord\0me@here";
        assert_eq!(starred(line), b"--proxy=http://*******@proxy:1\0https://coord\0me@here");
        let text = b"proxy = \"http://me:pw@proxy:1\" # https://here is me@here\n";
        assert_eq!(starred(text), b"proxy = \"http://*****@proxy:1\" # https://here is me@here\n");
    }

    #[test]
    fn the_areas_are_where_the_kernel_says() {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        assert_eq!(place(&stat, Area::Arguments).unwrap().end, place(&stat, Area::Environment).unwrap().start);
        let (_, arguments) = memory(Area::Arguments).unwrap();
        assert_eq!(*arguments, fs::read("/proc/self/cmdline").unwrap());
        assert_eq!(place("1 (a) b) S 1", Area::Arguments), None);
    }
}
