//! What a simulation finds.

use std::fmt;

use crate::errors;

/// A violation, with everything that led to it.
pub struct Failure {
    /// The violation.
    pub what: String,
    /// Every operation and arrival before it.
    pub trace: Vec<String>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let last = self.trace.len().saturating_sub(40);
        write!(f, "{}\nthe last steps:\n{}", self.what, self.trace[last..].join("\n"))
    }
}

/// Runs `life`, which fails if it logs an error. `trace_of`: the trace of a life without another violation.
pub(crate) fn watched<T>(
    life: impl FnOnce() -> Result<T, Failure>,
    trace_of: impl FnOnce(&T) -> Vec<String>,
) -> Result<T, Failure> {
    let (result, errors) = errors::watched(life);
    let result = result?;
    if errors.is_empty() {
        Ok(result)
    } else {
        Err(Failure { what: format!("errors were logged: {errors:?}"), trace: trace_of(&result) })
    }
}

/// Whether a planted bug is found: a failure has one of these words, which the check for the bug says.
///
/// # Errors
/// What was found instead.
pub fn found_by(words: &[&str], failures: impl Iterator<Item = Failure>) -> Result<(), Vec<String>> {
    let mut seen = vec![];
    for failure in failures {
        if words.iter().any(|words| failure.what.contains(words)) {
            return Ok(());
        }
        seen.push(failure.what);
    }
    Err(seen)
}
