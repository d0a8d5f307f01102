//! mesh with real container runtimes, one file for each. `scripts/test runtimes` runs it.

mod cdi;
mod cni;
mod compose;
mod containerd;
mod docker;
mod docker_ends;
mod docker_fronts;
mod docker_refusals;
mod docker_watch;
mod fail_open;
mod front;
mod getting_started;
mod images;
mod packages;
mod podman;
mod podman_ends;
mod podman_labels;
mod postgres;
mod refusals;
mod setup;
mod systemd;
mod takeover;
mod two_runners;
