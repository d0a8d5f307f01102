//! How an instance ends: for the others first, so that nothing is left to wait for it.

use futures_util::future::join_all;
use mesh_proto::{
    InstanceId,
    message::{Answer, Ask, Have, Held},
};

use super::{
    manager::{Instances, blocking},
    recover::reopen,
    table::Attachment,
};
use crate::{
    attach::{self, NamespaceId},
    control::AskError,
    hosts::Place,
};

/// Why an instance ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody asked for it: its namespace is put back as it was.
    Order,
    /// Its process has ended or its `mesh0` is gone. Whoever is left in its namespace must not reach the range by another
    /// interface: it stays barred.
    Death,
}

impl Instances {
    /// Takes an instance out: first out of everybody's map, so that the ends of its connections hear of it while it can
    /// still be reached, then out of its namespace.
    pub(super) async fn end_in_turn(&self, instance: InstanceId, cause: Cause) -> Option<Attachment> {
        let (attachment, hosts, alive) = {
            let mut table = self.table();
            let entry = table.get_mut(instance)?;
            entry.ending = true;
            (entry.attachment.clone(), std::mem::take(&mut entry.hosts), entry.port.is_some())
        };
        if let Some(since) = self.tell_end(attachment.held()).await.filter(|_| alive) {
            self.in_force(since).await;
        }
        let ended = attachment.clone();
        let silenced = blocking(move || {
            let namespace = reopen(&ended);
            namespace.map_or(Ok(0), |ns| attach::end_connections(&ns, &[ended.address, ended.service_address]))
        });
        if let Err(error) = silenced.await {
            tracing::warn!(%instance, %error, "programs in its namespace may wait on connections that are no more");
        }
        let port = self.table().get_mut(instance).and_then(|entry| entry.port.take());
        if let Some(port) = port {
            self.inner.parts.dataplane.detach(port);
        }
        let hosts = {
            let mut table = self.table();
            // Only now can another one take its place.
            table.remove(instance);
            table.let_go(hosts)
        };
        self.inner.ends.send_replace(());
        let remembered = attachment.clone();
        let cleared = blocking(move || {
            let Some(namespace) = reopen(&remembered) else { return Ok(()) };
            match cause {
                Cause::Order => attach::remove(&namespace),
                Cause::Death => attach::withdraw(&namespace),
            }
        });
        let (cleared, _) = tokio::join!(cleared, join_all(hosts));
        if let Err(error) = cleared {
            tracing::warn!(%instance, %error, "mesh0 could not be taken out of the namespace");
        }
        self.save();
        Some(attachment)
    }

    /// Takes the instance's names out of one of its hosts files, and keeps that no longer.
    pub(crate) async fn drop_hosts(&self, namespace: NamespaceId, place: Place) {
        let _turn = self.turn(namespace).await;
        let dropped = {
            let mut table = self.table();
            let instance = table.by_namespace(namespace);
            let dropped = instance.and_then(|instance| Some(table.get_mut(instance)?.drop_hosts(&place)));
            table.let_go(dropped.unwrap_or_default())
        };
        self.save();
        join_all(dropped).await;
    }

    /// Tells the coordinator that an instance has ended, now or when it is back. Gives the view without it.
    pub(super) async fn tell_end(&self, held: Held) -> Option<Have> {
        let (instance, control) = (held.instance, &self.inner.parts.control);
        self.table().bury(held);
        self.save();
        let answer = control.ask(Ask::Detach { instance }).await;
        if !matches!(answer, Err(AskError::Away(_))) {
            self.table().forget(instance);
            self.save();
        }
        match answer {
            Ok(Answer::Detached { revision }) => control.view().map(|view| Have { epoch: view.epoch, revision }),
            _ => None,
        }
    }
}
