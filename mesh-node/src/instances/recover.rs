//! After a restart of the agent: takes up what the one before left.

use std::{os::fd::OwnedFd, path::Path, sync::Arc};

use super::{
    hosts::Left,
    manager::{Instances, blocking},
    store::Remembered,
    table::{Attachment, Entry, Told},
    upkeep::Attached,
    watch::Watch,
};
use crate::{
    attach::{self, Made, Namespace, NamespaceId},
    local::NamespacePlace,
    sys::process,
};

impl Instances {
    /// Takes up every instance whose namespace is still there. The others have ended. Their hosts files come after that: each
    /// can keep whoever opens it waiting, and no connection is to wait for that.
    pub(super) async fn recover(&self, remembered: Remembered) {
        // The map may hold them until the coordinator has heard: nobody is to wait for them.
        let dataplane = &self.inner.parts.dataplane;
        for held in remembered.ended {
            dataplane.ended(held.instance);
            self.table().bury(held);
        }
        let mut hosts = vec![];
        for attachment in remembered.attachments {
            let (instance, held, namespace) = (attachment.instance, attachment.held(), attachment.namespace);
            let service = &held.service;
            hosts.extend(attachment.hosts.iter().cloned().map(|place| Left {
                namespace,
                service: service.clone(),
                place,
            }));
            match self.take_up(attachment).await {
                Ok(()) => tracing::info!(%instance, service = %held.service, "taken up again"),
                Err(why) => {
                    tracing::info!(%instance, service = %held.service, why, "not there any more: detached");
                    dataplane.ended(instance);
                    self.table().bury(held);
                }
            }
        }
        self.save();
        self.reopen_hosts(hosts).await;
    }

    async fn take_up(&self, old: Attachment) -> Result<(), String> {
        // What an earlier version made is marked from now on.
        let attachment = Attachment { mark: old.mark.or_else(|| attach::draw_mark().ok()), ..old.clone() };
        let (inner, addressing) = (Arc::clone(&self.inner), attachment.addressing());
        let (Made { queue, seen }, process) = blocking(move || {
            let namespace = reopen(&old).ok_or("its namespace is gone")?;
            // The numbers of namespaces are given again. One without our interface is somebody else's by now.
            if !attach::holds(&namespace, old.mark).map_err(|e| e.to_string())? {
                return Err("its mesh0 is not there".to_owned());
            }
            let process = match old.place {
                NamespacePlace::Path(_) => None,
                NamespacePlace::Process(pid) => match process_in(pid, old.namespace) {
                    Some(process) => Some(process),
                    None => {
                        attach::remove(&namespace).map_err(|e| e.to_string())?;
                        return Err("its process has ended".to_owned());
                    }
                },
            };
            let made = attach::recover(&inner.parts.staging, &namespace, &addressing).map_err(|e| e.to_string())?;
            Ok((made, process))
        })
        .await
        .map_err(|refusal| refusal.error)?;
        let instance = attachment.instance;
        let watch = process.and_then(|fd| Watch::new(fd, attachment.namespace, self.inner.processes.clone()).ok());
        let port = Some(self.inner.parts.dataplane.attach(queue, instance));
        let namespace = attachment.namespace;
        self.table().add(Entry {
            attachment,
            port,
            hosts: vec![],
            told: Told::default(),
            since: None,
            ending: false,
            _watch: watch,
        });
        let _ = self.inner.attached.send(Attached { namespace, seen });
        Ok(())
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

/// The process with this number, if it is still one of those in a namespace.
pub(crate) fn process_in(pid: i32, namespace: NamespaceId) -> Option<OwnedFd> {
    // First hold on to the process, then see that it is the one.
    let process = process::pidfd(pid).ok()?;
    let found = Namespace::of_pid(pid.cast_unsigned()).ok()?;
    (found.id() == namespace).then_some(process)
}
