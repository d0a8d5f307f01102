//! How an instance begins: given by the coordinator, remembered, made, known to everybody concerned.

use std::{mem, net::Ipv4Addr, os::fd::OwnedFd, sync::Arc, time::Duration};

use mesh_proto::{
    InstanceId, Label, ServicePath, View,
    message::{Answer, Ask, Have, Held, Refusal},
};

use tokio::task::spawn_blocking;

use super::{
    hosts::Hosts,
    manager::{Instances, blocking, one_line},
    table::{Attachment, Entry, Told},
    upkeep::Attached,
    watch::Watch,
};
use crate::{
    attach::{self, AttachError, Birthplace, Made, Namespace, Prepared},
    control::AskError,
    hint::with_nearest,
    hosts::{HostsFile, Kept, Place},
    local::NamespacePlace,
};

/// How long an attachment waits for a coordinator that is just being connected to.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// How long the view that holds a new instance may take to come.
const VIEW_PATIENCE: Duration = Duration::from_secs(5);
/// How long a view may take to come into force.
const APPLY_PATIENCE: Duration = Duration::from_secs(2);
/// How long the end of a stream may take to show.
const AWAY_PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of an instance that is being taken out may take, when the coordinator is away.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// An attachment that is asked for.
#[derive(Debug)]
pub(crate) struct Wish {
    /// Of which service.
    pub(crate) service: ServicePath,
    /// Whether it only calls.
    pub(crate) client: bool,
    /// The namespace, open.
    pub(crate) namespace: Arc<Namespace>,
    /// Where that was found.
    pub(crate) place: NamespacePlace,
    /// The hosts file, open, and where it was found.
    pub(crate) hosts: Option<(Place, HostsFile)>,
    /// Why a hosts file that is there is not to be kept.
    pub(crate) unkept: Option<Refusal>,
    /// A pidfd of the process whose end is the instance's.
    pub(crate) process: Option<OwnedFd>,
    /// Whether the instance's end shows without that of the namespace.
    pub(crate) watched: bool,
}

impl Instances {
    /// The same attachment once more, perhaps with a hosts file now.
    pub(super) async fn again(&self, instance: InstanceId, hosts: Option<Hosts>) -> Result<Attachment, Refusal> {
        if let Some(hosts) = hosts {
            let (file, place) = (hosts.file.clone(), hosts.place.clone());
            let (is_new, replaced) = match self.table().get_mut(instance) {
                Some(entry) => {
                    let is_new = !entry.wants(&place);
                    let replaced = entry.keep_hosts(hosts);
                    (is_new, replaced)
                }
                None => (false, vec![]),
            };
            drop(self.table().let_go(replaced));
            if let Err(refusal) = self.put_names(instance, &file).await {
                if is_new {
                    let mut table = self.table();
                    let dropped = table.get_mut(instance).map(|entry| entry.drop_hosts(&place)).unwrap_or_default();
                    // Should they come to stand there after all, they go again.
                    drop(table.let_go(dropped));
                }
                return Err(refusal);
            }
            if let Some(entry) = self.table().get_mut(instance) {
                entry.attachment.unkept = None;
            }
            self.save();
        }
        let found = self.table().get(instance).map(|entry| entry.attachment.clone());
        found.ok_or_else(|| Refusal::bare(format!("{instance} has just ended")))
    }

    pub(super) async fn anew(&self, wish: Wish, hosts: Option<Hosts>) -> Result<(Attachment, Option<Have>), Refusal> {
        let (inner, namespace) = (Arc::clone(&self.inner), Arc::clone(&wish.namespace));
        // While the coordinator thinks the kernel works.
        let at = if wish.watched { Birthplace::There } else { Birthplace::Staging };
        let prepared = blocking(move || attach::prepare(&inner.parts.staging, &namespace, at));
        let (obtained, mut prepared) = tokio::join!(self.obtain(&wish), prepared);
        let (held, since) = match obtained {
            Ok(obtained) => obtained,
            Err(refusal) => {
                discard(prepared).await;
                return Err(refusal);
            }
        };
        let made = match &mut prepared {
            Ok(prepared) => self.make(&held, since, (wish, hosts), prepared).await,
            Err(refusal) => Err(refusal.clone()),
        };
        match made {
            Ok(attachment) => {
                tracing::info!(instance = %held.instance, service = %held.service, address = %held.address, "attached");
                Ok((attachment, since))
            }
            Err(refusal) => {
                discard(prepared).await;
                self.table().give_up(held.instance);
                self.tell_end(held).await;
                Err(refusal)
            }
        }
    }

    /// An instance from the coordinator; while that is away, one that ended here.
    async fn obtain(&self, wish: &Wish) -> Result<(Held, Option<Have>), Refusal> {
        let control = &self.inner.parts.control;
        if let Some(view) = control.view() {
            let (namespace, range) = (Arc::clone(&wish.namespace), view.network.range);
            if let Some(clash) = blocking(move || attach::clash_in(&namespace, range)).await? {
                return Err(Refusal::bare(AttachError::Clash(clash).to_string()));
            }
        }
        if self.may_take_over()
            && let Some(held) = self.take_over(wish).await
        {
            return Ok((held, None));
        }
        control.connected(CONNECT_PATIENCE).await;
        let (service, client) = (wish.service.clone(), wish.client);
        match control.ask(Ask::Attach { service: service.clone(), client }).await {
            Ok(Answer::Attached { address, .. }) if !self.is_of_the_mesh(address) => {
                Err(Refusal::bare(format!("the coordinator gives the address {address}, which is none of the mesh's")))
            }
            Ok(Answer::Attached { instance, address, revision }) => {
                let held = Held { instance, service, address, client, draining: false };
                self.table().start(held.clone());
                let since = control.view().map(|view| Have { epoch: view.epoch, revision });
                Ok((held, since))
            }
            Ok(_) => Err(Refusal::bare("the coordinator's answer doesn't fit the question")),
            // It had fallen silent, and that shows only now. An instance that it may have given us ends with the next stream.
            Err(AskError::Away(why)) if self.is_away().await && self.may_take_over() => {
                self.take_over(wish).await.map(|held| (held, None)).ok_or_else(|| why.into())
            }
            Err(why) => Err(with_nearest(why.into(), &[&wish.service], control.view().as_deref())),
        }
    }

    /// Whether an address can be one of an instance's: any other one would take traffic that is none of the mesh's.
    pub(super) fn is_of_the_mesh(&self, address: Ipv4Addr) -> bool {
        self.inner.parts.control.view().is_none_or(|view| view.network.range.holds(address))
    }

    /// Whether the stream has ended, or does right now.
    async fn is_away(&self) -> bool {
        let mut links = self.inner.parts.control.links();
        matches!(tokio::time::timeout(AWAY_PATIENCE, links.wait_for(|link| !link.connected)).await, Ok(Ok(_)))
    }

    /// Whether the coordinator is away. One that refuses this runner is there: it has removed the runner, or this machine is a
    /// copy, and the instance is another machine's.
    fn may_take_over(&self) -> bool {
        let link = self.inner.parts.control.link();
        !link.connected && !link.unknown
    }

    /// Takes over an instance of the service that has ended here, or is about to.
    async fn take_over(&self, wish: &Wish) -> Option<Held> {
        let (service, client, mut ends) = (&wish.service, wish.client, self.ends());
        let taken = async {
            loop {
                ends.mark_unchanged();
                let view = self.inner.parts.control.view()?;
                {
                    let mut table = self.table();
                    let taken = table.take_over(service, client, |id| view.instance(id).is_some());
                    if taken.is_some() || !table.is_leaving(service, client) {
                        return taken;
                    }
                }
                ends.changed().await.ok()?;
            }
        };
        let held = tokio::time::timeout(END_PATIENCE, taken).await.ok().flatten()?;
        tracing::info!(instance = %held.instance, %service, "the coordinator is away: taking over the instance that ended here");
        Some(held)
    }

    /// Makes the interface of an instance that the coordinator has given us.
    async fn make(
        &self,
        held: &Held,
        since: Option<Have>,
        (wish, hosts): (Wish, Option<Hosts>),
        prepared: &mut Prepared,
    ) -> Result<Attachment, Refusal> {
        let instance = held.instance;
        let view = self.view_with(instance).await?;
        let mark = attach::draw_mark().map_err(|e| Refusal::bare(format!("the system gives no randomness: {e}")))?;
        let attachment = Attachment {
            instance,
            service: held.service.clone(),
            address: held.address,
            service_address: service_address(&view, instance).unwrap_or(held.address),
            client: held.client,
            draining: held.draining,
            network: view.network,
            namespace: wish.namespace.id(),
            place: wish.place,
            mark: Some(mark),
            hosts: hosts.iter().map(|hosts| hosts.place.clone()).collect(),
            unkept: wish.unkept.map(|why| one_line(&why)),
        };
        let watch = match wish
            .process
            .map(|fd| Watch::new(fd, wish.namespace.id(), self.inner.processes.clone()))
            .transpose()
        {
            Ok(watch) => watch,
            Err(e) => return Err(Refusal::bare(format!("the process can't be watched: {e}"))),
        };
        // Remembered before it is made: an agent that is killed in between finds and finishes it.
        let file = hosts.as_ref().map(|hosts| hosts.file.clone());
        let entry = Entry {
            attachment: attachment.clone(),
            port: None,
            hosts: hosts.into_iter().collect(),
            told: Told::default(),
            since,
            ending: false,
            _watch: watch,
        };
        self.table().add(entry);
        self.save();
        let prepared = mem::take(prepared);
        let made = self.make_interface(&attachment, (wish.namespace, prepared), file).await;
        if made.is_err() {
            let mut table = self.table();
            let hosts = table.remove(instance).map(|entry| entry.hosts).unwrap_or_default();
            // Should they come to stand there after all, they go again.
            drop(table.let_go(hosts));
            drop(table);
            self.save();
        }
        made.map(|()| attachment)
    }

    async fn make_interface(
        &self,
        attachment: &Attachment,
        (namespace, prepared): (Arc<Namespace>, Prepared),
        hosts: Option<Kept>,
    ) -> Result<(), Refusal> {
        let (inner, addressing) = (Arc::clone(&self.inner), attachment.addressing());
        let made = blocking(move || {
            attach::create(&inner.parts.staging, &namespace, &addressing, prepared).map(|made| (namespace, made))
        });
        let (namespace, Made { queue, seen }) = made.await?;
        if let Some(file) = hosts
            && let Err(refusal) = self.put_names(attachment.instance, &file).await
        {
            drop(queue);
            let _ = blocking(move || attach::remove(&namespace)).await;
            return Err(refusal);
        }
        let port = self.inner.parts.dataplane.attach(queue, attachment.instance);
        if let Some(entry) = self.table().get_mut(attachment.instance) {
            entry.port = Some(port);
        }
        // Nobody listens only when the agent ends.
        let _ = self.inner.attached.send(Attached { namespace: attachment.namespace, seen });
        Ok(())
    }

    /// Waits for the view that holds an instance.
    pub(super) async fn view_with(&self, instance: InstanceId) -> Result<Arc<View>, Refusal> {
        let holds = |view: &View| service_address(view, instance).is_some();
        self.inner.parts.control.view_where(VIEW_PATIENCE, holds).await.ok_or_else(|| {
            Refusal::new(format!("the coordinator has not sent the view with {instance}"), "try again when it answers")
        })
    }

    /// Waits until a view is in force here and at every runner concerned; gives those that were too slow.
    pub(super) async fn settle(&self, since: Have) -> Vec<Label> {
        self.in_force(since).await;
        match self.inner.parts.control.ask(Ask::Settle { revision: since.revision }).await {
            Ok(Answer::Settled { pending }) => pending,
            _ => vec![],
        }
    }

    pub(super) async fn in_force(&self, since: Have) {
        let mut applied = self.inner.parts.applied.clone();
        let there = applied.wait_for(|applied| {
            applied.is_some_and(|applied| applied.epoch != since.epoch || applied.revision >= since.revision)
        });
        let _ = tokio::time::timeout(APPLY_PATIENCE, there).await;
    }
}

/// Lets go of what was prepared, which blocks for as long as to make it.
async fn discard(prepared: Result<Prepared, Refusal>) {
    let _ = spawn_blocking(move || drop(prepared)).await;
}

/// The address of an instance's service.
pub(super) fn service_address(view: &View, instance: InstanceId) -> Option<Ipv4Addr> {
    view.service(view.instance(instance)?.service).map(|service| service.address)
}
