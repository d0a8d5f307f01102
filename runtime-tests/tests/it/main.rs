//! mesh with real container runtimes: a file a runtime. `scripts/test runtimes` runs it.

mod cni;
mod containerd;
mod docker;
mod docker_ends;
mod docker_refusals;
mod docker_watch;
mod podman;
mod postgres;
mod setup;
mod two_runners;
