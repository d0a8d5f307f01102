//! `mesh-node ping`: how another runner is reached, and how long that takes.

use std::{process::ExitCode, thread, time::Duration};

use clap::Args;

use super::{
    Context,
    output::{Failure, Ink, complain},
};
use crate::{
    hint::Hint as _,
    local::{self, ClientError, Path, Request},
};

/// The time from an answer to the next ping.
const PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct Ping {
    /// The runner's name, or a service with an instance on another runner: DEPLOYMENT/SERVICE
    #[arg(value_name = "RUNNER|DEPLOYMENT/SERVICE")]
    target: String,
    /// How many pings are sent, a second apart
    #[arg(short, long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

impl Ping {
    pub(super) fn run(self, context: &Context) -> Result<ExitCode, Failure> {
        let mut answered = false;
        for seq in 1..=self.count {
            if seq > 1 {
                thread::sleep(PAUSE);
            }
            match context.agent().ask::<local::Ping>(&Request::Ping { target: self.target.clone() }, &[]) {
                Ok(ping) => {
                    answered = true;
                    print(context, &local::Ping { seq, ..ping })?;
                }
                // The next one may be answered: that is what is being looked at.
                Err(error @ ClientError::Refused(_)) if seq < self.count => complain(&error.refusal()),
                Err(error) if answered => complain(&error.refusal()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn print(context: &Context, ping: &local::Ping) -> Result<(), Failure> {
    let output = &context.output;
    if output.json {
        return output.print_json(ping);
    }
    let way = match (ping.path, &ping.relay) {
        (Path::Direct | Path::None, _) => output.ink(Ink::Good, "direct"),
        (Path::Relay, relay) => format!("by relay {}", relay.as_deref().unwrap_or("(gone)")),
    };
    let reach = ping.mtu.map_or_else(String::new, |mtu| format!(", packets of {mtu} bytes"));
    output.print(&format!("{}: {}, {way} at {}{reach}\n", ping.runner, ping.rtt_ms, ping.endpoint))
}
