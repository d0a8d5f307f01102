//! mesh in network namespaces: the built programs, kernel TCP, a file a behaviour. `scripts/test` runs it.

mod agent_restart;
mod cli;
mod common;
mod containment;
mod coordinator_away;
mod coordinator_crash;
mod deploy;
mod harness;
mod hostile;
mod hostile_control;
mod hostile_flood;
mod hosts_file;
mod leave;
mod load;
mod names;
mod refusals;
mod replicas;
mod replicas_out;
mod replicas_silent;
mod revocation;
mod revocation_ends;
mod roaming;
mod tokens;
mod traffic;
mod trust;
mod truth;
