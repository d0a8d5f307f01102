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
    /// The resolv.conf that is to have the resolver.
    pub(crate) resolv: Resolv,
    /// A pidfd of the process whose end is the instance's.
    pub(crate) process: Option<OwnedFd>,
}

impl Wish {
    /// The same once more, for its resolv.conf. The process is watched for the container, else by the first.
    ///
    /// # Errors
    /// If the system has no more descriptors.
    pub(super) fn for_resolver(&self, at: HostsPlace, file: HostsFile, watch: bool) -> Result<Self, Refusal> {
        let process = self.process.as_ref().filter(|_| watch).map(OwnedFd::try_clone).transpose();
        Ok(Self {
            service: self.service.clone(),
            client: self.client,
            release: self.release.clone(),
            namespace: Arc::clone(&self.namespace),
            place: self.place.clone(),
            hosts: Some((HostsPlace::Resolv(Box::new(at)), file)),
            unkept: None,
            resolv: Resolv::Untouched,
            process: process.map_err(|e| Refusal::bare(e.to_string()))?,
        })
    }
}

/// The resolv.conf of an instance.
#[derive(Debug)]
pub(crate) enum Resolv {
    /// It stays as it is.
    Untouched,
    /// It is to have the resolver.
    File(HostsPlace, HostsFile),
    /// It should, and can't.
    Unkept(Refusal),
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
    /// The resolv.conf that is to have the resolver.
    pub(crate) resolv: Resolv,
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
