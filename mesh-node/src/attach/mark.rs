//! The mark by which a `mesh0` is recognized: a random alias (`IFLA_IFALIAS`, which `ip link` shows).
//!
//! With `CAP_NET_ADMIN` a container can make an interface that looks like `mesh0`. Without the mark a restarted agent could
//! assign it the instance of the namespace that had the number before. The container itself can read the mark and, with
//! `CAP_NET_ADMIN`, change it. The mark doesn't protect against that and need not, since the instance is the container's own.

use std::io;

use mesh_lifecycle::Mark;

/// Draws a mark.
///
/// # Errors
/// If the system has no randomness.
pub(crate) fn draw() -> io::Result<Mark> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(Mark(u128::from_ne_bytes(bytes)))
}

/// The alias. Its beginning explains it to people.
pub(super) fn alias(mark: Mark) -> String {
    format!("mesh-node {}", String::from(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_are_alike_and_each_is_read_as_written() {
        let marks = [draw().unwrap(), draw().unwrap(), Mark(7)];
        assert_ne!(marks[0], marks[1]);
        for mark in marks {
            let text = serde_json::to_string(&mark).unwrap();
            assert_eq!((text.len(), serde_json::from_str::<Mark>(&text).unwrap()), (34, mark));
        }
    }
}
