//! mesh in network namespaces: the built programs, kernel TCP, a file a behaviour. `scripts/test` runs it.

mod cli;
mod common;
mod containment;
mod coordinator_away;
mod deploy;
mod harness;
mod hosts_file;
mod names;
mod refusals;
mod roaming;
mod tokens;
mod traffic;
mod trust;
