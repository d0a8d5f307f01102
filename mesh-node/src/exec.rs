//! Whether the kernel starts a program with these arguments and variables: execve(2), "Limits on size of arguments and
//! environment".

use std::{collections::BTreeMap, fs};

/// The most that arguments and environment may take, in bytes: three quarters of `_STK_LIM` (fs/exec.c).
const MOST: u64 = 6 << 20;
/// What the kernel accepts under any stack limit, in bytes (`ARG_MAX`, linux/limits.h).
const LEAST: u64 = 128 << 10;
/// The program's path, the auxiliary vector and what else lies on a new stack, in bytes.
const OVERHEAD: u64 = 8 << 10;

/// Arguments and environment are larger than the kernel accepts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{program} cannot be started: its arguments and environment would take {total} bytes, of which {ours} are the {count} \
     variables of the mesh, and the kernel accepts {limit} (E2BIG)"
)]
pub(crate) struct TooLarge {
    /// What was to be started, in words.
    program: &'static str,
    /// The size of everything, in bytes.
    total: u64,
    /// The size of the mesh's variables, in bytes.
    ours: u64,
    /// The number of the mesh's variables.
    count: usize,
    /// The limit, in bytes.
    limit: u64,
}

/// Checks that a program can be started with arguments and variables of these lengths, and with `ours` added. `stack`: the limit
/// of its stack in bytes, if it differs from this process's.
///
/// # Errors
/// If the kernel would refuse.
pub(crate) fn fits(
    program: &'static str,
    theirs: impl Iterator<Item = usize>,
    ours: &BTreeMap<String, String>,
    stack: Option<u64>,
) -> Result<(), TooLarge> {
    let limit = (stack.unwrap_or_else(own_stack) / 4).clamp(LEAST, MOST);
    // Each text has a NUL behind it and a pointer to it.
    let size = |length: usize| (length + 1 + size_of::<usize>()) as u64;
    let theirs: u64 = theirs.map(size).sum();
    let count = ours.len();
    let ours: u64 = ours.iter().map(|(name, value)| size(name.len() + 1 + value.len())).sum();
    let total = theirs + ours;
    if total + OVERHEAD > limit { Err(TooLarge { program, total, ours, count, limit }) } else { Ok(()) }
}

/// The limit of this process's stack in bytes (proc(5), "limits").
fn own_stack() -> u64 {
    const USUAL: u64 = 8 << 20;
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits.lines().find_map(|line| line.strip_prefix("Max stack size")?.split_ascii_whitespace().next());
    match soft {
        Some("unlimited") => u64::MAX,
        Some(bytes) => bytes.parse().unwrap_or(USUAL),
        None => USUAL,
    }
}
