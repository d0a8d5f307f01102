//! Black-box tests of mesh with real container runtimes, as Debian packages them, in a private lab. This is the harness;
//! the tests are in `tests/it/`, a file a runtime.
//!
//! A test runs within [`mesh_netns_tests::isolated`]: in network, mount and PID namespaces of its own. [`Lab`] adds what
//! runtimes need besides: an /etc, a /var/lib and a /opt of the test's own, and control groups that are removed at its end.
//! Images are made on the spot; nothing is fetched.

mod census;
mod compose;
mod containerd;
mod docker;
mod image;
mod lab;
mod packages;
mod plugin;
mod podman;
mod systemd;

pub use census::Census;
pub use compose::{compose, example, make_images};
pub use containerd::Containerd;
pub use docker::{Container, Docker};
pub use lab::{Lab, Stage, mesh_node, offer};
pub use packages::{dpkg, machine, package};
pub use plugin::Plugin;
pub use podman::Podman;
pub use systemd::{DOCKER_COMMANDS, Systemd};
