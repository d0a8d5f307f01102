//! Errors that say what to try next.

use mesh_proto::message::Refusal;

/// An error of this program. Its `Display` says what happened and where.
pub(crate) trait Hint: std::error::Error {
    /// What to try next, if anything is known to help.
    fn hint(&self) -> Option<String>;

    /// The error as it is sent and shown.
    fn refusal(&self) -> Refusal {
        Refusal { error: self.to_string(), hint: self.hint() }
    }
}

impl Hint for Refusal {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}
