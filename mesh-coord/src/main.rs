//! The coordinator: it holds the truth about runners, deployments, trust and instances, and tells each runner what
//! concerns it. The decisions are `mesh-model`'s; here are its store, its streams, its API and its command line.

use std::process::ExitCode;

mod api;
mod cli;
mod clock;
mod coordinator;
mod data;
mod http;
mod places;
mod random;
mod rate;
mod store;
mod tenant;
#[cfg(test)]
mod testing;
mod tls;
mod watch;

fn main() -> ExitCode {
    cli::main()
}
