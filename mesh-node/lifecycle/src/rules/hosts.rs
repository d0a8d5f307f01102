//! Which hosts files hold the names of instances: one service for each file.

use std::sync::Arc;

use mesh_proto::{InstanceId, ServicePath};

use crate::{
    Attachment, Effect, Error, FileId, FileKind, HostLines, HostsLeft, HostsPlace, Lifecycle, NamespaceId, Notice,
    OpId, Outcome,
    effect::KeptHosts,
    patience,
    state::{
        Context, Owner,
        attaching::Step,
        names::ServiceNames,
        request::HostsWait,
        space::State,
        standing::{Doing, Said, Standing},
    },
};

/// How many names that are left out the log names at a time.
const WARNINGS: usize = 20;

impl Lifecycle {
    /// Whether to wait for a file that the service `by` keeps. How long depends on whether an instance of it is about
    /// to end.
    pub(crate) fn wait_for_hosts(&self, wait: &mut HostsWait, by: &ServicePath, cx: &Context<'_>) -> bool {
        let ending = |state: &State| matches!(state, State::Ending(ending) if ending.shown.attachment.service == *by);
        let is_ending = self.spaces.values().any(|space| ending(&space.state));
        let patience = if is_ending { patience::HOSTS_ENDING } else { patience::HOSTS_UNHEARD };
        let left = patience.saturating_sub(cx.now.saturating_duration_since(wait.since));
        // Whether one ends may change meanwhile.
        wait.retry = Some(cx.now + left.min(patience::HOSTS_UNHEARD));
        !left.is_zero()
    }

    pub(crate) fn hosts_refused(&self, hosts: String, by: ServicePath, there: Option<FileId>) -> Error {
        match there.and_then(|there| self.keeper(there)) {
            Some(instance) => Error::HostsTaken { hosts, instance, service: by },
            None => Error::HostsBusy { hosts, service: by },
        }
    }

    pub(super) fn keeper(&self, file: FileId) -> Option<InstanceId> {
        let mut keepers = self.spaces.values().filter(|space| space.hosts().iter().any(|hosts| hosts.file == file));
        keepers.find_map(|space| Some(space.attachment()?.instance))
    }

    /// A file is not kept any more: attachments that wait for a file try again.
    pub(crate) fn hosts_released(&mut self) {
        for space in self.spaces.values_mut() {
            let wait = match &mut space.state {
                State::Attaching(attaching) => match &mut attaching.step {
                    Step::Hosts(wait) => wait,
                    _ => continue,
                },
                State::Standing(standing) => match &mut standing.doing {
                    Doing::KeepingHosts(_, wait) => wait,
                    _ => continue,
                },
                _ => continue,
            };
            wait.retry = wait.retry.map(|_| wait.since);
        }
        self.stirred = true;
    }

    /// Clears those of these hosts files that no instance keeps any more. A clearing is under way when the next effect
    /// begins, so that an instance that keeps the file from then on writes after it.
    pub(crate) fn let_go(&mut self, standing: &Standing, hosts: Vec<KeptHosts>, cx: &mut Context<'_>) {
        let Attachment { namespace, service, .. } = &standing.attachment;
        let owner = |place| Owner::Clear(HostsLeft { namespace: *namespace, service: service.clone(), place });
        self.clear_hosts(hosts, &standing.hosts, owner, cx);
    }

    /// The same. The namespace, whose state the caller holds, waits for the clearings that are returned.
    pub(crate) fn let_go_of(
        &mut self,
        standing: &Standing,
        hosts: Vec<KeptHosts>,
        cx: &mut Context<'_>,
    ) -> Vec<(OpId, HostsPlace)> {
        let namespace = standing.attachment.namespace;
        self.clear_hosts(hosts, &standing.hosts, |_| Owner::Space(namespace), cx)
    }

    /// The same, for an instance that has ended.
    pub(crate) fn let_go_for(
        &mut self,
        namespace: NamespaceId,
        hosts: Vec<KeptHosts>,
        cx: &mut Context<'_>,
    ) -> Vec<(OpId, Option<HostsPlace>)> {
        let clearings = self.clear_hosts(hosts, &[], |_| Owner::Space(namespace), cx);
        clearings.into_iter().map(|(op, place)| (op, Some(place))).collect()
    }

    pub(super) fn clear_hosts(
        &mut self,
        hosts: Vec<KeptHosts>,
        others: &[KeptHosts],
        owner: impl Fn(HostsPlace) -> Owner,
        cx: &mut Context<'_>,
    ) -> Vec<(OpId, HostsPlace)> {
        let mut clearing = vec![];
        for KeptHosts { place, handle, file } in hosts {
            if self.keeper(file).is_some() || others.iter().any(|other| other.file == file) {
                cx.push(Effect::CloseHosts(handle));
            } else {
                let op = self.op(owner(place.clone()));
                cx.push(Effect::ClearNames(op, handle));
                clearing.push((op, place));
            }
        }
        clearing
    }

    /// A hosts file is cleared, and is not remembered any more.
    pub(crate) fn cleared(&mut self, place: HostsPlace, outcome: Outcome, cx: &mut Context<'_>) {
        let was_left = place.pid().is_none();
        Self::say_not_cleared(place, outcome, cx);
        if was_left {
            self.save(cx);
        }
    }

    pub(crate) fn say_not_cleared(place: HostsPlace, outcome: Outcome, cx: &mut Context<'_>) {
        if let Outcome::Did(Err(why)) = outcome {
            cx.push(Effect::Log(Notice::HostsNotCleared { place, why }));
        }
    }

    /// The names for the hosts files of an instance, if the view holds it. Names that are left out are logged once.
    pub(crate) fn names_of(
        &mut self,
        attachment: &Attachment,
        said: &mut Said,
        cx: &mut Context<'_>,
    ) -> Option<HostLines> {
        let view = self.view.as_ref()?;
        let service = view.instance(attachment.instance)?.service;
        // Once for all instances of a service: a runner can have thousands, and each change of the view concerns all.
        let before = &mut self.names_before;
        let names = self.names.entry(service).or_insert_with(|| {
            let before = before.remove(&service).flatten();
            ServiceNames::of(view, service, before)
        });
        let names = Arc::clone(names.as_ref()?);
        let (instance, service) = (attachment.instance, &attachment.service);
        let news = said.news(&names);
        let more = news.len().saturating_sub(WARNINGS);
        for warning in news.into_iter().take(WARNINGS) {
            cx.push(Effect::Log(Notice::NameLeftOut { instance, service: service.clone(), warning }));
        }
        if more > 0 {
            cx.push(Effect::Log(Notice::MoreNamesLeftOut { instance, service: service.clone(), more }));
        }
        Some(Arc::clone(&names.hosts))
    }

    /// What belongs into the file at a place: the names for the hosts files of an instance, or its resolver.
    pub(crate) fn lines_for(
        &mut self,
        place: &HostsPlace,
        attachment: &Attachment,
        said: &mut Said,
        cx: &mut Context<'_>,
    ) -> Option<HostLines> {
        match place.kind() {
            FileKind::Hosts => self.names_of(attachment, said, cx),
            FileKind::Resolv => {
                let view = self.view.as_ref()?;
                view.instance(attachment.instance)?;
                // In a mesh of version 0.2 or older an instance may have its address.
                let at = view.network.range.resolver();
                let is_there = view.instances().all(|instance| instance.address != at);
                let line = (at, format!("{}.warp warp", attachment.service.deployment));
                Some(is_there.then_some(line).into_iter().collect())
            }
        }
    }

    /// Hosts files that are being cleared, or looked for to be cleared, and that no instance remembers any more.
    pub(crate) fn hosts_left(&self) -> Vec<HostsLeft> {
        let sought = self.seeks.iter().filter(|(_, seek)| seek.follows.is_none());
        let sought = sought.map(|((namespace, place), seek)| HostsLeft {
            namespace: *namespace,
            service: seek.service.clone(),
            place: place.clone(),
        });
        let is_left = |left: &HostsLeft| {
            let remembered = self.spaces.get(&left.namespace).and_then(|space| space.remembered());
            // A file that is found by a process is gone with the process. Of a resolv.conf the ledger of files knows.
            left.place.pid().is_none()
                && left.place.kind() == FileKind::Hosts
                && !remembered.is_some_and(|(attachment, _)| attachment.hosts.contains(&left.place))
        };
        let mut all: Vec<HostsLeft> = sought.chain(self.clearings()).filter(is_left).collect();
        all.sort_by(|a, b| (a.namespace, &a.place).cmp(&(b.namespace, &b.place)));
        all.dedup();
        all
    }
}
