//! System calls: the only modules with `unsafe`. Each file wraps one kernel interface in types that can't be misused,
//! and makes no decisions about the mesh.

pub(crate) mod borrow;
pub(crate) mod epoll;
pub(crate) mod fd;
pub(crate) mod handle;
#[cfg(test)]
#[path = "../../engine/tests/heap/mod.rs"]
pub(crate) mod heap;
pub(crate) mod inotify;
pub(crate) mod mmap;
pub(crate) mod mounts;
pub(crate) mod netns;
pub(crate) mod process;
pub(crate) mod tcp;
pub(crate) mod tun;
pub(crate) mod turns;
