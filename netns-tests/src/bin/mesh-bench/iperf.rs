//! Bulk transfers, by iperf3(1).

use std::{process::Command, thread, time::Duration};

use mesh_netns_tests::{run, run_for};
use serde_json::{Value, json};

use crate::pingpong::Path;

/// What a transfer came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer {
    /// What arrived.
    pub(crate) gbits: f64,
    pub(crate) bytes: f64,
    pub(crate) retransmits: f64,
}

impl Transfer {
    pub(crate) fn json(&self) -> Value {
        json!({ "gbit_per_s": self.gbits, "octets": self.bytes, "retransmits": self.retransmits })
    }
}

/// From the client to the server, or the other way; so many streams at once.
pub(crate) fn transfer(path: &Path<'_>, time: Duration, streams: usize, reverse: bool) -> Transfer {
    let (to, seconds, streams) = (path.to.to_string(), time.as_secs().to_string(), streams.to_string());
    // A server that is still closing the transfer before refuses the next one.
    for _ in 0..30 {
        let mut command = path.from.command("iperf3");
        command.args(["-c", &to, "-t", &seconds, "-P", &streams, "-C", path.cc, "-J"]);
        command.args(reverse.then_some("-R"));
        let outcome = run_for(time + Duration::from_secs(30), command);
        let said: Value = serde_json::from_str(&outcome.stdout).unwrap_or_default();
        if !said["error"].as_str().is_some_and(|error| error.contains("busy")) {
            return read(&said).unwrap_or_else(|| panic!("{}: iperf3: {said:#} {}", path.from.name(), outcome.stderr));
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("{}: the server of iperf3 is busy all the time", path.from.name())
}

fn read(said: &Value) -> Option<Transfer> {
    let (sent, received) = (&said["end"]["sum_sent"], &said["end"]["sum_received"]);
    Some(Transfer {
        gbits: received["bits_per_second"].as_f64()? / 1e9,
        bytes: received["bytes"].as_f64()?,
        retransmits: sent["retransmits"].as_f64()?,
    })
}

/// Which one it is.
pub(crate) fn version() -> String {
    let mut command = Command::new("iperf3");
    command.arg("--version");
    let said = run(command).stdout;
    said.split_whitespace().nth(1).unwrap_or("unknown").to_owned()
}
