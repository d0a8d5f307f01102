//! What callers ask for, with what is open for it.

use std::{os::fd::OwnedFd, path::PathBuf, sync::Arc};

use mesh_lifecycle::{ContainerId, HostsPlace, NamespacePlace};
use mesh_proto::{Release, ServicePath, message::Refusal};

use crate::{attach::Namespace, hosts::HostsFile};

/// An instance is to come into a namespace.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Of which service.
    pub(crate) service: ServicePath,
    /// Whether it only calls.
    pub(crate) client: bool,
    /// The release that it runs.
    pub(crate) release: Option<Release>,
    /// The namespace, open.
    pub(crate) namespace: Arc<Namespace>,
    /// Where that was found.
    pub(crate) place: NamespacePlace,
    /// The hosts file, open, and where it was found.
    pub(crate) hosts: Option<(HostsPlace, HostsFile)>,
    /// Why a hosts file that is there is not to be kept.
    pub(crate) unkept: Option<Refusal>,
    /// A pidfd of the process whose end is the instance's.
    pub(crate) process: Option<OwnedFd>,
}

/// A container that starts.
#[derive(Debug)]
pub(crate) struct Start {
    /// Which.
    pub(crate) id: ContainerId,
    /// The service that it belongs to.
    pub(crate) service: ServicePath,
    /// Whether it only calls.
    pub(crate) client: bool,
    /// The release that it runs.
    pub(crate) release: Option<Release>,
    /// Its network namespace, open.
    pub(crate) namespace: Arc<Namespace>,
    /// Its hosts file, open, and where it was found.
    pub(crate) hosts: Option<(HostsPlace, HostsFile)>,
    /// Why a hosts file that is there is not to be kept.
    pub(crate) unkept: Option<Refusal>,
    /// How its end shows.
    pub(crate) life: Life,
}

/// How the end of a container shows.
#[derive(Debug)]
pub(crate) enum Life {
    /// As the end of its first process: a pidfd.
    Process(OwnedFd),
    /// Its runtime tells. What is known is where its namespace was found.
    Namespace(PathBuf),
}
