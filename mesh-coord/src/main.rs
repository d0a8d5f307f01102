//! The coordinator: it keeps the records of runners, deployments, trust and instances, and sends each runner its
//! view. `mesh-model` decides; this crate holds the store, the streams, the API and the command line.

use std::process::ExitCode;

mod api;
mod backup;
mod cli;
mod clock;
mod coordinator;
mod data;
mod exposition;
mod http;
mod metrics;
mod peers;
mod places;
mod random;
mod rate;
mod relay;
mod relay_secrets;
mod store;
mod telemetry;
mod tenant;
#[cfg(test)]
mod testing;
mod tls;
mod trial;
mod watch;
mod webhook;

fn main() -> ExitCode {
    cli::main()
}
