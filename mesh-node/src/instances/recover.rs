//! After a restart of the agent: takes up what the one before left.

use std::{
    os::fd::{AsFd as _, OwnedFd},
    path::Path,
    sync::Arc,
};

use mesh_proto::message::Refusal;
use tokio::task::spawn_blocking;

use super::{
    INTERFACE,
    hosts::{Hosts, put_names},
    manager::{Instances, blocking},
    store::Remembered,
    table::{Attachment, Entry},
    watch::Watch,
};
use crate::{
    attach::{self, Namespace},
    hosts::{HostsFile, Place},
    local::NamespacePlace,
    sys::{netns, process},
};

impl Instances {
    /// Takes up every instance whose namespace is still there. The others have ended.
    pub(super) async fn recover(&self, remembered: Remembered) {
        // The map may hold them until the coordinator has heard: nobody is to wait for them.
        let dataplane = &self.inner.parts.dataplane;
        for held in remembered.ended {
            dataplane.ended(held.instance);
            self.table().bury(held);
        }
        for attachment in remembered.attachments {
            let (instance, held, hosts) = (attachment.instance, attachment.held(), attachment.hosts.clone());
            match self.take_up(attachment).await {
                Ok(()) => tracing::info!(%instance, service = %held.service, "taken up again"),
                Err(why) => {
                    tracing::info!(%instance, service = %held.service, why, "not there any more: detached");
                    dataplane.ended(instance);
                    self.table().bury(held);
                    clear(hosts).await;
                }
            }
        }
        self.save();
    }

    async fn take_up(&self, attachment: Attachment) -> Result<(), String> {
        let (inner, old) = (Arc::clone(&self.inner), attachment.clone());
        let (tun, process) = blocking(move || {
            let namespace = reopen(&old).ok_or("its namespace is gone")?;
            // The numbers of namespaces are given again. One without our interface is somebody else's by now.
            if !holds_interface(&namespace) {
                return Err("its namespace has no mesh0".to_owned());
            }
            let process = match old.place {
                NamespacePlace::Path(_) => None,
                NamespacePlace::Process(pid) => match process_in(&old, pid) {
                    Some(process) => Some(process),
                    None => {
                        attach::remove(&namespace).map_err(|e| e.to_string())?;
                        return Err("its process has ended".to_owned());
                    }
                },
            };
            let tun =
                attach::recover(&inner.parts.staging, &namespace, &old.addressing()).map_err(|e| e.to_string())?;
            Ok((tun, process))
        })
        .await
        .map_err(|refusal| refusal.error)?;
        let instance = attachment.instance;
        let hosts = self.reopen_hosts(&attachment).await;
        let watch = process.and_then(|fd| Watch::new(fd, attachment.namespace, self.inner.processes.clone()).ok());
        let port = Some(self.inner.parts.dataplane.attach(tun, instance));
        self.table().add(Entry { attachment, port, hosts, since: None, ending: false, _watch: watch });
        Ok(())
    }

    async fn reopen_hosts(&self, attachment: &Attachment) -> Vec<Hosts> {
        let view = self.inner.parts.control.view();
        let mut files = vec![];
        for place in attachment.hosts.clone() {
            let opened = spawn_blocking(move || Ok((HostsFile::open(&place.reach()?)?, place))).await;
            match opened.unwrap_or_else(|e| Err(Refusal::bare(e.to_string()))) {
                Ok((file, place)) => {
                    let file = Arc::new(file);
                    // A runtime may have rewritten it while nobody looked.
                    if let Err(error) = put_names(view.as_deref(), attachment.instance, Arc::clone(&file)).await {
                        tracing::warn!(instance = %attachment.instance, %error, "its names are out of date");
                    }
                    files.push(self.guarded(place, file));
                }
                Err(error) => {
                    tracing::warn!(instance = %attachment.instance, %error, "a hosts file of it does not follow changes any more");
                }
            }
        }
        files
    }
}

/// Takes the names out of hosts files that have outlived their instance. One that was found by process is gone with that.
async fn clear(places: Vec<Place>) {
    for place in places.into_iter().filter(|place| matches!(place, Place::Path(_))) {
        let cleared = spawn_blocking(move || Ok::<_, Refusal>(HostsFile::open(&place.reach()?)?.clear()));
        if let Ok(Ok(Err(error))) = cleared.await {
            tracing::warn!(%error, "the names could not be taken out of the hosts file");
        }
    }
}

/// The namespace of an instance, if it is still there.
pub(super) fn reopen(attachment: &Attachment) -> Option<Namespace> {
    let found = match &attachment.place {
        NamespacePlace::Path(path) => Namespace::open(Path::new(path)),
        NamespacePlace::Process(pid) => Namespace::of_pid(pid.cast_unsigned()),
    };
    found
        .ok()
        .filter(|namespace| namespace.id() == attachment.namespace)
        .or_else(|| Namespace::find(attachment.namespace))
}

fn holds_interface(namespace: &Namespace) -> bool {
    netns::within(namespace.as_fd(), || nix::net::if_::if_nametoindex(INTERFACE).is_ok()).unwrap_or(false)
}

/// The instance's process, if it is still there.
fn process_in(attachment: &Attachment, pid: i32) -> Option<OwnedFd> {
    // First hold on to the process, then see that it is the one.
    let process = process::pidfd(pid).ok()?;
    let namespace = Namespace::of_pid(pid.cast_unsigned()).ok()?;
    (namespace.id() == attachment.namespace).then_some(process)
}
