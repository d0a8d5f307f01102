//! Keeps the instances as the view has them: their names, their addresses, and whether they are there at all.

use std::sync::Arc;

use mesh_proto::{
    InstanceId, View,
    message::{Answer, Ask, Have, Held, Refusal},
    view::InstanceState,
};

use super::{
    begin::service_address,
    end::Cause,
    manager::{Instances, blocking},
    recover::reopen,
    table::{Attachment, Entry},
    upkeep::{Attached, Kind},
};
use crate::{
    attach::{self, AttachError, Made},
    control::AskError,
};

/// What an instance needs to be as the view has it.
#[derive(Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// Other addresses.
    Addresses(Attachment),
    /// To be attached anew: the view does not hold it.
    Anew,
}

impl Instances {
    /// Follows the view until the agent ends.
    pub(crate) async fn follow(self) {
        let (mut views, mut links) = (self.inner.parts.control.views(), self.inner.parts.control.links());
        let (mut synced, mut range) = (false, None);
        loop {
            tokio::select! {
                changed = views.changed() => if changed.is_err() { return },
                changed = links.changed() => {
                    let Ok(()) = changed else { return };
                    let now = links.borrow_and_update().clone();
                    if now.connected {
                        self.welcome();
                    }
                    // The link changes with every message; only its beginning is of interest.
                    if std::mem::replace(&mut synced, now.synced) == now.synced {
                        continue;
                    }
                }
            }
            let view = views.borrow_and_update().clone();
            if let Some(view) = view {
                if range.replace(view.network.range).is_some_and(|before| before != view.network.range) {
                    tokio::spawn(attach::warn_of_clash(view.network.range));
                }
                self.reconcile(&view).await;
            }
        }
    }

    async fn reconcile(&self, view: &Arc<View>) {
        let synced = self.inner.parts.control.link().synced;
        let all: Vec<InstanceId> = self.table().iter().map(|entry| entry.attachment.instance).collect();
        for instance in all {
            let Some(_turn) = self.turn_of(instance).await else { continue };
            if synced {
                self.learn_draining(view, instance);
            }
            let need = self.table().get(instance).map(|entry| need(view, entry));
            let instance = match need {
                Some(Need::Addresses(next)) => {
                    self.readdress(next).await;
                    Some(instance)
                }
                // What an earlier run remembers says nothing about what the coordinator has now.
                Some(Need::Anew) if synced => self.attach_anew(instance).await,
                Some(Need::Nothing | Need::Anew) => Some(instance),
                None => None,
            };
            if let Some(instance) = instance {
                self.renew_names(instance);
            }
        }
    }

    /// An administrator of the coordinator drains and undrains instances as well.
    fn learn_draining(&self, view: &View, instance: InstanceId) {
        let learned = self.table().get_mut(instance).and_then(|entry| {
            let draining = draining(view, entry).filter(|draining| *draining != entry.attachment.draining)?;
            entry.attachment.draining = draining;
            Some((entry.attachment.service.clone(), draining))
        });
        let Some((service, draining)) = learned else { return };
        if draining {
            tracing::info!(%instance, %service, "the coordinator has drained it: no new connections");
        } else {
            tracing::info!(%instance, %service, "the coordinator has undrained it: new connections again");
        }
        self.save();
    }

    fn renew_names(&self, instance: InstanceId) {
        let files = self.table().get(instance).map(Entry::files).unwrap_or_default();
        let Some(names) = self.names_of(instance) else { return };
        for file in files {
            // In turn from here on; nobody waits for a file system that doesn't answer.
            let put = file.put(names.clone());
            tokio::spawn(async move {
                if let Some(error) = file.news(put.await) {
                    tracing::warn!(%instance, %error, "its names are out of date");
                }
            });
        }
    }

    async fn readdress(&self, next: Attachment) {
        let (instance, address) = (next.instance, next.address);
        let (remembered, addressing) = (next.clone(), next.addressing());
        let before = self.table().get(instance).map(|entry| entry.attachment.network.range);
        let done = blocking(move || {
            let Some(namespace) = reopen(&remembered) else { return Ok(()) };
            let is_new = before != Some(addressing.range);
            match if is_new { attach::clash_in(&namespace, addressing.range)? } else { None } {
                Some(clash) => Err(AttachError::Clash(clash)),
                None => attach::readdress(&namespace, &addressing),
            }
        });
        match done.await {
            Ok(()) => {
                self.inner.troubles.clear(next.namespace, Kind::Addresses);
                tracing::info!(%instance, %address, "has other addresses now");
            }
            Err(error) => {
                let trouble = format!("it cannot be given its new addresses: {}", error.error);
                self.inner.troubles.set(next.namespace, Kind::Addresses, trouble);
                tracing::warn!(%instance, %error, "cannot be given its new addresses");
                return;
            }
        }
        if let Some(entry) = self.table().get_mut(instance) {
            entry.attachment = next;
        }
        self.save();
    }

    /// The coordinator doesn't have an instance that is here (its database may be an older one, or the service was removed
    /// and made again): asks for another one in its place. Gives that one.
    async fn attach_anew(&self, old: InstanceId) -> Option<InstanceId> {
        let attachment = self.table().get(old).map(|entry| entry.attachment.clone())?;
        let ask = Ask::Attach { service: attachment.service.clone(), client: attachment.client };
        let (instance, address, revision) = match self.inner.parts.control.ask(ask).await {
            Ok(Answer::Attached { instance, address, revision }) if self.is_of_the_mesh(address) => {
                (instance, address, revision)
            }
            // The next stream brings the next occasion.
            Ok(_) | Err(AskError::Away(_) | AskError::Mismatch) => return Some(old),
            Err(AskError::Refused(why)) => {
                tracing::warn!(instance = %old, service = %attachment.service, %why, "the coordinator does not have it any more: detached");
                self.end_in_turn(old, Cause::Order).await;
                return None;
            }
        };
        let held = Held {
            instance,
            service: attachment.service.clone(),
            address,
            client: attachment.client,
            draining: attachment.draining,
        };
        self.table().start(held.clone());
        match self.exchange(&attachment, held.clone(), revision).await {
            Ok(()) => {
                if attachment.draining
                    && let Err(why) = self.inner.parts.control.ask(Ask::Drain { instance }).await
                {
                    tracing::warn!(%instance, why = %Refusal::from(why), "it was drained, and takes connections again");
                }
                tracing::warn!(%old, new = %instance, service = %held.service, %address, "the coordinator did not have it: attached anew");
                Some(instance)
            }
            Err(why) => {
                tracing::warn!(%old, service = %held.service, why, "cannot be attached anew: detached");
                self.table().give_up(instance);
                // Not told any more, so ended with the next stream at the latest.
                self.table().bury(held);
                self.end_in_turn(old, Cause::Order).await;
                None
            }
        }
    }

    /// Gives the interface of one instance to another one of the same service.
    async fn exchange(&self, old: &Attachment, held: Held, revision: mesh_proto::Revision) -> Result<(), String> {
        let view = self.view_with(held.instance).await.map_err(|refusal| refusal.error)?;
        let service_address = service_address(&view, held.instance).unwrap_or(held.address);
        let next = Attachment {
            instance: held.instance,
            address: held.address,
            service_address,
            network: view.network,
            ..old.clone()
        };
        let port = self.table().get_mut(old.instance).and_then(|entry| entry.port.take());
        if let Some(port) = port {
            self.inner.parts.dataplane.detach(port);
            // Commands are carried out in turn: once this is answered the queue is free.
            let _ = self.inner.parts.dataplane.report().await;
        }
        let (inner, remembered) = (Arc::clone(&self.inner), next.clone());
        let Made { queue, seen } = blocking(move || {
            let namespace = reopen(&remembered).ok_or("its namespace is gone")?;
            attach::recover(&inner.parts.staging, &namespace, &remembered.addressing()).map_err(|e| e.to_string())
        })
        .await
        .map_err(|refusal| refusal.error)?;
        let port = self.inner.parts.dataplane.attach(queue, held.instance);
        let since = Some(Have { epoch: view.epoch, revision });
        let mut table = self.table();
        if let Some(entry) = table.remove(old.instance) {
            table.add(Entry { attachment: next, port: Some(port), since, ..entry });
        }
        drop(table);
        let _ = self.inner.attached.send(Attached { namespace: old.namespace, seen });
        self.save();
        Ok(())
    }
}

/// Whether the view is older than what is known of an instance.
fn is_older(view: &View, entry: &Entry) -> bool {
    entry.since.is_some_and(|since| since.epoch == view.epoch && view.revision < since.revision)
}

/// Whether an instance is drained, if the view says so.
fn draining(view: &View, entry: &Entry) -> Option<bool> {
    let here = view.instance(entry.attachment.instance).filter(|instance| instance.runner == view.runner)?;
    (!entry.ending && !is_older(view, entry)).then_some(here.state == InstanceState::Draining)
}

/// What has to be done about an instance, seen from a view.
fn need(view: &View, entry: &Entry) -> Need {
    let Entry { attachment, ending, port, .. } = entry;
    if *ending || port.is_none() || is_older(view, entry) {
        return Need::Nothing;
    }
    let here = view.instance(attachment.instance).filter(|instance| instance.runner == view.runner);
    let (Some(instance), Some(service_address)) = (here, service_address(view, attachment.instance)) else {
        return Need::Anew;
    };
    let next = Attachment { address: instance.address, service_address, network: view.network, ..attachment.clone() };
    if next == *attachment { Need::Nothing } else { Need::Addresses(next) }
}
