//! Docker by its API (podman's service speaks it as well): containers that were started without `mesh-runc` are attached a
//! moment after their start, and those that started while no agent ran when one is back.

mod api;
mod container;
mod image;
mod retry;
mod watch;

#[cfg(test)]
mod tests;

pub(crate) use image::{Manifest, image_labels};
pub(crate) use watch::watch;
