//! What can be done with the instances of this runner. In each namespace one change at a time.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh_engine::Port;
use mesh_proto::{
    InstanceId,
    message::{Answer, Ask, Have, Held, Refusal},
};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
};

use super::{
    begin::Wish,
    end::Cause,
    hosts::moved,
    store::{self, Remembered},
    table::{Entry, Table},
    upkeep::{self, Attached, Troubles},
};
use crate::{
    attach::{self, AttachError, Namespace, NamespaceId, Staging},
    control::Control,
    dataplane::Dataplane,
    hosts::{Files, Guards, Place},
    local,
    state::StateDir,
    turns::{Turn, Turns},
};

/// What the instances need of the rest of the agent.
#[derive(Debug)]
pub(crate) struct Parts {
    /// Where they are remembered.
    pub(crate) state: StateDir,
    /// The stream to the coordinator.
    pub(crate) control: Control,
    /// What serves their TUNs.
    pub(crate) dataplane: Arc<Dataplane>,
    /// Where their TUNs are made.
    pub(crate) staging: Staging,
    /// What keeps the names in hosts files.
    pub(crate) guards: Guards,
    /// The view that is in force.
    pub(crate) applied: watch::Receiver<Option<Have>>,
}

/// An instance that others may not know yet.
#[derive(Debug)]
pub(crate) struct Begun {
    instance: local::Instance,
    /// The view that holds it first; `None` if it was there already, or took an ended one's place.
    since: Option<Have>,
}

/// The instances of this runner.
#[derive(Debug, Clone)]
pub(crate) struct Instances {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) parts: Parts,
    pub(super) files: Files,
    /// Where it is looked for a hosts file that has been replaced.
    following: Mutex<HashSet<(NamespaceId, Place)>>,
    pub(super) processes: mpsc::UnboundedSender<NamespaceId>,
    /// Told of every end of an instance.
    pub(super) ends: watch::Sender<()>,
    /// Notified of every namespace that is attached.
    pub(super) attached: mpsc::UnboundedSender<Attached>,
    /// What is wrong with instances.
    pub(super) troubles: Troubles,
    /// Held by the one that tries a connection.
    pub(super) probing: tokio::sync::Mutex<()>,
    pub(super) table: Mutex<Table>,
    /// Whoever changes what a namespace holds has its turn. Nobody waits for another's coordinator or kernel.
    turns: Turns<NamespaceId>,
    /// Shared by those that attach; whoever takes all out waits for these.
    coming: tokio::sync::RwLock<()>,
    /// Held while the file is written, so that what is later is written last.
    saving: Mutex<()>,
}

impl Instances {
    /// Takes up the instances that an earlier agent left, and gives with them the stream of those whose process has
    /// ended, for [`Self::end`].
    pub(crate) async fn start(parts: Parts, remembered: Remembered) -> (Self, mpsc::UnboundedReceiver<NamespaceId>) {
        let (processes, ended) = mpsc::unbounded_channel();
        let (files, moves) = Files::watched(Some(parts.guards.clone()), parts.state.clone());
        let (attached, attachments) = mpsc::unbounded_channel();
        let inner = Inner {
            files,
            following: Mutex::default(),
            parts,
            processes,
            ends: watch::Sender::default(),
            attached,
            troubles: Troubles::default(),
            probing: tokio::sync::Mutex::default(),
            table: Mutex::default(),
            turns: Turns::default(),
            coming: tokio::sync::RwLock::default(),
            saving: Mutex::default(),
        };
        let instances = Self { inner: Arc::new(inner) };
        tokio::spawn(moved::follow(Arc::downgrade(&instances.inner), moves));
        tokio::spawn(upkeep::keep(Arc::downgrade(&instances.inner), attachments));
        instances.recover(remembered).await;
        instances.inner.files.take_out_left();
        (instances, ended)
    }

    /// What is told when a stream begins.
    pub(crate) fn hello(&self) -> Vec<Held> {
        self.table().hello()
    }

    /// The stream has begun.
    pub(crate) fn welcome(&self) {
        if self.table().welcome() {
            self.save();
        }
    }

    /// The instances, by identifier.
    pub(crate) fn list(&self) -> Vec<local::Instance> {
        let table = self.table();
        let shown = table.iter().filter(|entry| !entry.ending).map(|entry| {
            let mut instance = entry.answer();
            instance.warnings.extend(self.inner.troubles.of(entry.attachment.namespace));
            instance
        });
        shown.collect()
    }

    /// Changes when an instance has ended.
    pub(crate) fn ends(&self) -> watch::Receiver<()> {
        self.inner.ends.subscribe()
    }

    /// The namespace of an instance.
    pub(crate) fn namespace_of(&self, instance: InstanceId) -> Option<NamespaceId> {
        self.table().get(instance).map(|entry| entry.attachment.namespace)
    }

    /// Whether there is an instance in a namespace.
    pub(crate) fn holds(&self, namespace: NamespaceId) -> bool {
        self.table().by_namespace(namespace).is_some()
    }

    /// Puts an instance into a namespace, and waits until the runners concerned know it, two seconds at most.
    ///
    /// # Errors
    /// If that can't be; then nothing has changed.
    pub(crate) async fn attach(&self, wish: Wish) -> Result<local::Attach, Refusal> {
        let begun = self.begin(wish).await?;
        Ok(self.settled(begun).await)
    }

    /// The first half of [`Self::attach`]: the instance is there, and others may not know it yet.
    ///
    /// # Errors
    /// If that can't be; then nothing has changed.
    pub(crate) async fn begin(&self, mut wish: Wish) -> Result<Begun, Refusal> {
        if wish.namespace.is_host() {
            return Err(Refusal::bare(AttachError::Host.to_string()));
        }
        let _coming = self.inner.coming.read().await;
        let _turn = self.turn(wish.namespace.id()).await;
        self.supersede(&wish.namespace).await;
        if let Some(Refusal { error, hint }) = &wish.unkept {
            tracing::warn!(service = %wish.service, error, hint, "attached without its names in that hosts file");
        }
        let there = self.table().plan(wish.namespace.id(), &wish.service, wish.client)?;
        let hosts = match wish.hosts.take() {
            Some(found) => Some(self.keep(&wish.service, found).await?),
            None => None,
        };
        let (attachment, since) = match there {
            Some(instance) => {
                if let Some(entry) = self.table().get_mut(instance).filter(|_| wish.unkept.is_some()) {
                    entry.attachment.unkept = wish.unkept.as_ref().map(one_line);
                }
                (self.again(instance, hosts).await?, None)
            }
            None => self.anew(wish, hosts).await?,
        };
        let instance = self.table().get(attachment.instance).map_or_else(|| attachment.answer(), Entry::answer);
        Ok(Begun { instance, since })
    }

    /// The numbers of namespaces are given again: the end of whoever had this one before may not have been heard of yet.
    async fn supersede(&self, namespace: &Arc<Namespace>) {
        let there = {
            let table = self.table();
            let entry = table.by_namespace(namespace.id()).and_then(|instance| table.get(instance));
            entry.filter(|entry| !entry.ending && entry.port.is_some()).map(|entry| entry.attachment.clone())
        };
        let Some(there) = there else { return };
        let namespace = Arc::clone(namespace);
        if let Ok(false) = blocking(move || attach::holds(&namespace, there.mark)).await
            && let Some(attachment) = self.end_in_turn(there.instance, Cause::Death).await
        {
            tracing::info!(instance = %there.instance, service = %attachment.service, "its mesh0 is gone: detached");
        }
    }

    /// The second half: waits until the runners concerned know it, two seconds at most.
    pub(crate) async fn settled(&self, begun: Begun) -> local::Attach {
        let pending = match begun.since {
            Some(since) => self.settle(since).await,
            None => vec![],
        };
        local::Attach { version: local::VERSION, instance: begun.instance, pending }
    }

    /// Takes an instance out.
    ///
    /// # Errors
    /// If it isn't here.
    pub(crate) async fn detach(&self, instance: InstanceId) -> Result<local::Detach, Refusal> {
        let _turn = self.turn_of(instance).await.ok_or_else(|| missing(instance))?;
        let attachment = self.end_in_turn(instance, Cause::Order).await.ok_or_else(|| missing(instance))?;
        tracing::info!(%instance, service = %attachment.service, "detached");
        Ok(local::Detach { version: local::VERSION, instance: attachment.answer() })
    }

    /// Takes out the instance of a namespace.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) async fn detach_from(&self, namespace: NamespaceId) -> Result<local::Detach, Refusal> {
        let instance = self.table().by_namespace(namespace);
        match instance {
            Some(instance) => self.detach(instance).await,
            None => Err(Refusal::new(
                "there is no instance in this namespace",
                "`mesh-node status` lists the instances of this runner",
            )),
        }
    }

    /// No new connections to an instance from now on; waits until the runners concerned know it, two seconds at most.
    ///
    /// # Errors
    /// If it isn't here, only calls, or the coordinator is away.
    pub(crate) async fn drain(&self, instance: InstanceId) -> Result<local::Drain, Refusal> {
        let drained = self.turn_connections(instance, Ask::Drain { instance }).await?;
        tracing::info!(%instance, service = %drained.instance.service, "drained: no new connections");
        Ok(drained)
    }

    /// New connections to an instance that was drained; waits as [`Self::drain`] does.
    ///
    /// # Errors
    /// If it isn't here, only calls, or the coordinator is away.
    pub(crate) async fn undrain(&self, instance: InstanceId) -> Result<local::Drain, Refusal> {
        let undrained = self.turn_connections(instance, Ask::Undrain { instance }).await?;
        tracing::info!(%instance, service = %undrained.instance.service, "undrained: new connections again");
        Ok(undrained)
    }

    async fn turn_connections(&self, instance: InstanceId, ask: Ask) -> Result<local::Drain, Refusal> {
        let turn = self.turn_of(instance).await.ok_or_else(|| missing(instance))?;
        if self.table().get(instance).is_none_or(|entry| entry.ending) {
            return Err(missing(instance));
        }
        let control = &self.inner.parts.control;
        let (revision, draining) = match control.ask(ask).await? {
            Answer::Drained { revision } => (revision, true),
            Answer::Undrained { revision } => (revision, false),
            _ => return Err(Refusal::bare("the coordinator's answer doesn't fit the question")),
        };
        let since = control.view().map(|view| Have { epoch: view.epoch, revision });
        let attachment = {
            let mut table = self.table();
            let entry = table.get_mut(instance).ok_or_else(|| missing(instance))?;
            entry.attachment.draining = draining;
            // Earlier views say otherwise.
            entry.since = since.or(entry.since);
            entry.attachment.clone()
        };
        self.save();
        drop(turn);
        let pending = match since {
            Some(since) => self.settle(since).await,
            None => vec![],
        };
        Ok(local::Drain { version: local::VERSION, instance: attachment.answer(), pending })
    }

    /// Takes all instances out.
    pub(crate) async fn detach_all(&self) -> Vec<local::Instance> {
        let _all = self.inner.coming.write().await;
        let all: Vec<NamespaceId> = self.table().iter().map(|entry| entry.attachment.namespace).collect();
        let mut ended = vec![];
        for namespace in all {
            let _turn = self.turn(namespace).await;
            let Some(instance) = self.table().by_namespace(namespace) else { continue };
            ended.extend(self.end_in_turn(instance, Cause::Order).await.map(|attachment| attachment.answer()));
        }
        ended
    }

    /// The end of the instance in a namespace whose process has ended.
    pub(crate) async fn end(&self, namespace: NamespaceId) {
        let _turn = self.turn(namespace).await;
        let instance = self.table().by_namespace(namespace);
        let Some(instance) = instance else { return };
        if let Some(attachment) = self.end_in_turn(instance, Cause::Death).await {
            tracing::info!(%instance, service = %attachment.service, "its process has ended: detached");
        }
    }

    /// The end of the instance in a namespace that nobody holds any more. Where no process is left in there, it is put back
    /// as it was; else the range stays barred to what is.
    pub(crate) async fn release(&self, namespace: NamespaceId) -> Option<local::Instance> {
        let _turn = self.turn(namespace).await;
        let instance = self.table().by_namespace(namespace)?;
        let deserted = blocking(move || Ok::<_, AttachError>(!Namespace::is_inhabited(namespace))).await;
        let cause = if deserted.unwrap_or_default() { Cause::Order } else { Cause::Death };
        let attachment = self.end_in_turn(instance, cause).await?;
        tracing::info!(%instance, service = %attachment.service, "its container has ended: detached");
        Some(attachment.answer())
    }

    /// The end of an instance whose TUN has gone, with its namespace or alone.
    pub(crate) async fn gone(&self, port: Port) {
        let holder = self.table().by_port(port);
        let Some(instance) = holder else { return };
        let Some(_turn) = self.turn_of(instance).await else { return };
        // Somebody else may have ended it before it was our turn, or given its TUN to another instance.
        if self.table().by_port(port) != Some(instance) {
            return;
        }
        if let Some(entry) = self.table().get_mut(instance) {
            entry.port = None;
        }
        if let Some(attachment) = self.end_in_turn(instance, Cause::Death).await {
            tracing::info!(%instance, service = %attachment.service, "its mesh0 is gone: detached");
        }
    }

    /// The turn at a namespace.
    pub(super) async fn turn(&self, namespace: NamespaceId) -> Turn {
        self.inner.turns.of(namespace).await
    }

    /// The turn at an instance's namespace, if the instance is here.
    pub(super) async fn turn_of(&self, instance: InstanceId) -> Option<Turn> {
        let namespace = self.namespace_of(instance)?;
        Some(self.turn(namespace).await)
    }

    pub(super) fn table(&self) -> MutexGuard<'_, Table> {
        self.inner.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn following(&self) -> MutexGuard<'_, HashSet<(NamespaceId, Place)>> {
        self.inner.following.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers the instances as they are. What can't be remembered works nevertheless, until the agent restarts.
    pub(super) fn save(&self) {
        let _saving = self.inner.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let (attachments, ended) = self.table().remembered();
        if let Err(error) = store::save(&self.inner.parts.state, attachments, ended) {
            tracing::warn!(%error, "cannot remember the instances: a restart of the agent would lose the latest changes");
        }
    }
}

/// A refusal and what to do about it, as one text.
pub(super) fn one_line(Refusal { error, hint }: &Refusal) -> Box<str> {
    hint.iter().fold(error.clone(), |text, hint| format!("{text}; {hint}")).into()
}

fn missing(instance: InstanceId) -> Refusal {
    Refusal::new(format!("there is no instance {instance} on this runner"), "`mesh-node status` lists those that are")
}

/// Runs what blocks where it may. What there is to try next is in these errors' texts already.
pub(super) async fn blocking<T: Send + 'static, E: std::fmt::Display + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, Refusal> {
    match spawn_blocking(work).await {
        Ok(result) => result.map_err(|e| Refusal::bare(e.to_string())),
        Err(panic) => Err(Refusal::new(format!("the agent failed: {panic}"), "this is a bug: please report it")),
    }
}
