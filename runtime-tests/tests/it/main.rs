//! mesh with real container runtimes: a file a runtime. `scripts/test runtimes` runs it.

mod cni;
mod compose;
mod containerd;
mod docker;
mod docker_ends;
mod docker_refusals;
mod docker_watch;
mod images;
mod packages;
mod podman;
mod postgres;
mod refusals;
mod setup;
mod systemd;
mod two_runners;
