//! What a program can be started with: execve(2), «Limits on size of arguments and environment».

use std::{collections::BTreeMap, fs};

/// What to do about it where a container starts.
pub(crate) const HINT_CONTAINERS: &str = "leave out those that lead to other deployments' services, with foreign_variables = false under \
    [containers] in the agent's config.toml: host names lead there nevertheless";

/// The kernel's own: three quarters of `_STK_LIM` (fs/exec.c).
const MOST: u64 = 6 << 20;
/// The least that it takes, whatever the limit of the stack (`ARG_MAX`, linux/limits.h).
const LEAST: u64 = 128 << 10;
/// The program's path, the auxiliary vector and what else lies on a new stack.
const BESIDE: u64 = 8 << 10;

/// Whether a program can be started with arguments and variables of these lengths, and with `ours` beside. `stack`: the limit of its
/// stack, if it is another one than this process's.
///
/// # Errors
/// How much it would be.
pub(crate) fn fits(
    whose: &str,
    theirs: impl Iterator<Item = usize>,
    ours: &BTreeMap<String, String>,
    stack: Option<u64>,
) -> Result<(), String> {
    let limit = (stack.unwrap_or_else(own_stack) / 4).clamp(LEAST, MOST);
    // A NUL behind each text, and a pointer to it.
    let text = |length: usize| (length + 1 + size_of::<usize>()) as u64;
    let theirs: u64 = theirs.map(text).sum();
    let sum: u64 = ours.iter().map(|(name, value)| text(name.len() + 1 + value.len())).sum();
    match theirs + sum + BESIDE > limit {
        false => Ok(()),
        true => Err(format!(
            "{whose} can't be started: its arguments and environment would take {} bytes, of which {sum} are the {} variables of the \
             mesh, and the kernel takes {limit} (E2BIG)",
            theirs + sum,
            ours.len(),
        )),
    }
}

/// The limit of this process's stack (proc(5), «limits»).
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
