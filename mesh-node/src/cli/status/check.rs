//! Whether all is well with an agent: for monitoring.

use serde::Serialize;

use crate::local::{self, LinkState};

/// The age from which on the map counts as old, in seconds. The coordinator confirms it every 2 s.
const OLD: u64 = 60;

/// `status --check`.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Check {
    /// [`local::VERSION`].
    version: u32,
    /// Whether nothing is wrong.
    pub(super) ok: bool,
    /// What is wrong.
    pub(in crate::cli) problems: Vec<Problem>,
}

/// Something that is wrong.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(in crate::cli) struct Problem {
    /// A stable code.
    code: &'static str,
    /// In words.
    pub(in crate::cli) text: String,
}

impl Check {
    pub(in crate::cli) fn of(status: &local::Status) -> Self {
        let mut problems = Vec::new();
        let mut add = |code, text| problems.push(Problem { code, text });
        if !status.map.connected {
            let error = status.coordinator.error.as_deref().unwrap_or("it has not been reached yet");
            match status.map.state {
                Some(LinkState::Refused) => add("refused", format!("the coordinator refuses this runner: {error}")),
                _ => add("away", format!("no stream to the coordinator: {error}")),
            }
        }
        match status.map.age_seconds {
            None => add("no-map", "no map has come yet: nothing is allowed".to_owned()),
            Some(age) if age >= OLD => add("old-map", format!("the map was last known to be the latest {age} s ago")),
            Some(_) => {}
        }
        for peer in &status.peers {
            if let Some(seconds) = peer.failed_seconds {
                let tries = peer.tries;
                add("no-path", format!("the runner {} has not answered for {seconds} s ({tries} tries)", peer.name));
            }
        }
        Self { version: local::VERSION, ok: problems.is_empty(), problems }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(map: serde_json::Value, peers: serde_json::Value) -> local::Status {
        serde_json::from_value(json!({
            "version": 1, "runner": {"id": "r-1", "name": "a"}, "map": map,
            "coordinator": {"url": "https://c:7443", "error": null, "hint": null},
            "port": 51820, "endpoints": [], "peers": peers, "instances": [], "drops": {}, "traffic": {}
        }))
        .unwrap()
    }

    fn peer(failed: Option<u64>) -> serde_json::Value {
        json!({"name": "b", "provider": "p", "path": "none", "endpoint": null, "handshake_age_seconds": null,
            "tries": 3, "failed_seconds": failed, "rx_bytes": 0, "tx_bytes": 0})
    }

    #[test]
    fn what_is_wrong_has_a_code_each() {
        let fine = json!({"revision": 7, "age_seconds": 1, "connected": true, "state": "connected"});
        let codes = |map: &serde_json::Value, peers| {
            let check = Check::of(&status(map.clone(), peers));
            assert_eq!(check.ok, check.problems.is_empty());
            check.problems.into_iter().map(|problem| problem.code).collect::<Vec<_>>()
        };
        assert_eq!(codes(&fine, json!([])), [""; 0]);
        assert_eq!(codes(&fine, json!([peer(None)])), [""; 0], "no path was needed");
        assert_eq!(codes(&fine, json!([peer(Some(6))])), ["no-path"]);
        let away = json!({"revision": 7, "age_seconds": 60, "connected": false, "state": "away"});
        assert_eq!(codes(&away, json!([])), ["away", "old-map"]);
        let refused = json!({"revision": 7, "age_seconds": 59, "connected": false, "state": "refused"});
        assert_eq!(codes(&refused, json!([])), ["refused"]);
        let none = json!({"revision": null, "age_seconds": null, "connected": true});
        assert_eq!(codes(&none, json!([])), ["no-map"]);
    }

    #[test]
    fn the_json_is_frozen() {
        let map = json!({"revision": 7, "age_seconds": 1, "connected": true, "state": "connected"});
        let check = Check::of(&status(map, json!([peer(Some(6))])));
        let shape = json!({"version": 1, "ok": false, "problems": [
            {"code": "no-path", "text": "the runner b has not answered for 6 s (3 tries)"}]});
        assert_eq!(serde_json::to_value(check).unwrap(), shape);
    }
}
