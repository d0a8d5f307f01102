//! Removes control characters from texts of the other end, because they are shown on terminals and in logs.

use serde::{Deserialize as _, Deserializer};

pub(super) fn plain<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    String::deserialize(from).map(without_controls)
}

pub(super) fn plain_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(from)?.map(without_controls))
}

fn without_controls(text: String) -> String {
    let controls = |c: char| c.is_control() && c != '\n';
    if text.contains(controls) { text.replace(controls, "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use crate::message::{Refusal, Step};

    #[test]
    fn what_a_coordinator_says_does_nothing_to_a_terminal() {
        let refusal: Refusal = serde_json::from_str(r#"{"error": "a\u001b[2Jb\nc", "hint": "\u009b1m\rd"}"#).unwrap();
        assert_eq!(
            (refusal.error.as_str(), refusal.hint.as_deref()),
            ("a\u{fffd}[2Jb\nc", Some("\u{fffd}1m\u{fffd}d"))
        );
        let step: Step = serde_json::from_str(r#"{"step": "rule", "ok": true, "detail": "\u0007x"}"#).unwrap();
        assert_eq!(step.detail, "\u{fffd}x");
    }
}
