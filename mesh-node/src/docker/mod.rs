//! Docker by its API, which podman's service offers too. Containers that start without `mesh-runc` are attached a moment after their
//! start, and those that start while no agent runs, when one is back.

mod api;
mod container;
mod error;
mod image;
mod retry;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use image::{Manifest, image_labels};
pub(crate) use watch::watch;
