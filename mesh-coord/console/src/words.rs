//! Numbers and states as people read them.

pub(crate) use mesh_process::date::date;
use mesh_process::duration::show;

/// How long something is ago.
pub(crate) fn ago(seconds: u64) -> String {
    format!("{} ago", show(seconds))
}

/// A number of bytes.
pub(crate) fn bytes(number: u64) -> String {
    mesh_process::amount::bytes(number as f64)
}

/// A mark for a state, which shows it beside the word.
pub(crate) fn mark(state: &str) -> &'static str {
    match state {
        "online" | "live" | "allow" | "done" => "●",
        "draining" | "warning" | "client" => "▲",
        "silent" | "unreachable" | "removed" | "deny" | "refused" | "error" => "✖",
        _ => "·",
    }
}
