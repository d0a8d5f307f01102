//! How hosts files are found again: after a restart of the agent, and where another file has taken the place.

use mesh_proto::{ServicePath, message::Refusal};

use crate::{
    Effect, FileId, HostsAnswer, HostsPlace, HostsSource, Lifecycle, NamespaceId, Notice, OpId, Opened, Outcome,
    attachment::one_line,
    effect::KeptHosts,
    patience,
    state::{
        Context, Owner,
        seek::{Seek, SeekStep},
        space::{Job, State},
        standing::{Doing, Standing},
    },
};

/// After how many looks in a row that find no other file a place is not looked at any more.
const QUIET_LOOKS: u32 = 2;

impl Lifecycle {
    /// Looks for a hosts file of an earlier agent: to keep the names of an instance there, or, if it has ended, to take
    /// them out.
    pub(crate) fn seek_left(
        &mut self,
        namespace: NamespaceId,
        service: ServicePath,
        place: HostsPlace,
        cx: &mut Context<'_>,
    ) {
        let seek = Seek::left(service);
        self.seeks.insert((namespace, place.clone()), seek);
        self.open_hosts(namespace, place, cx);
    }

    /// Whether the start of the agent still waits for a first attempt.
    pub(crate) fn seeks_at_start(&self) -> bool {
        self.seeks.values().any(|seek| seek.at_start)
    }

    /// Another file may have taken the place of one that is kept.
    pub(crate) fn hosts_moved(&mut self, file: FileId, cx: &mut Context<'_>) {
        let mut found = vec![];
        for (namespace, space) in &self.spaces {
            let State::Standing(standing) = &space.state else { continue };
            let places = standing.hosts.iter().filter(|hosts| hosts.file == file).map(|hosts| &hosts.place);
            found.extend(places.map(|place| (*namespace, standing.attachment.service.clone(), place.clone())));
        }
        for (namespace, service, place) in found {
            match self.seeks.get_mut(&(namespace, place.clone())) {
                // One search at a time at each place.
                Some(Seek { follows: Some(follow), .. }) => follow.again = true,
                Some(_) => {}
                None => {
                    let seek = Seek::moved(service);
                    self.seeks.insert((namespace, place.clone()), seek);
                    self.compare(namespace, place, cx);
                }
            }
        }
    }

    /// The next look is due.
    pub(crate) fn seek_again(&mut self, namespace: NamespaceId, place: HostsPlace, cx: &mut Context<'_>) {
        match self.seeks.get(&(namespace, place.clone())).map(|seek| seek.follows.is_some()) {
            Some(true) => self.compare(namespace, place, cx),
            Some(false) => self.open_hosts(namespace, place, cx),
            None => {}
        }
    }

    /// The instance that is there, if its names belong into the file.
    fn wants(&self, namespace: NamespaceId, place: &HostsPlace) -> Option<&Standing> {
        match &self.spaces.get(&namespace)?.state {
            State::Standing(standing) => Some(standing.as_ref()).filter(|s| s.attachment.hosts.contains(place)),
            _ => None,
        }
    }

    fn compare(&mut self, namespace: NamespaceId, place: HostsPlace, cx: &mut Context<'_>) {
        let latest = self.wants(namespace, &place).map(|standing| standing.latest(&place));
        match latest {
            None => drop(self.seeks.remove(&(namespace, place))),
            Some(None) => self.followed(namespace, place, None, cx),
            Some(Some(latest)) => {
                let op = self.op(Owner::Seek(namespace, place.clone()));
                cx.push(Effect::CompareHosts(op, place.clone(), latest));
                self.set_seek(namespace, &place, SeekStep::Comparing);
            }
        }
    }

    fn set_seek(&mut self, namespace: NamespaceId, place: &HostsPlace, step: SeekStep) {
        if let Some(seek) = self.seeks.get_mut(&(namespace, place.clone())) {
            seek.step = step;
        }
    }

    /// A look has found another file, the same file, or none.
    fn followed(&mut self, namespace: NamespaceId, place: HostsPlace, moved: Option<bool>, cx: &mut Context<'_>) {
        // A file that could not be kept may be gone again. Then the one that is kept is opened once more, and the
        // warning goes.
        let unkept = self.wants(namespace, &place).is_some_and(|standing| standing.attachment.unkept.is_some());
        let moved = moved.map(|moved| moved || unkept);
        let Some(seek) = self.seeks.get_mut(&(namespace, place.clone())) else { return };
        let Some(follow) = &mut seek.follows else { return };
        match moved {
            Some(true) => {
                follow.quiet = 0;
                return self.open_hosts(namespace, place, cx);
            }
            Some(false) => follow.quiet += 1,
            // The file is not there yet, as while a program replaces it, or must not be written to.
            None => follow.quiet = 0,
        }
        if follow.quiet >= QUIET_LOOKS && !std::mem::take(&mut follow.again) {
            self.seeks.remove(&(namespace, place));
            return;
        }
        self.later(namespace, &place, cx);
    }

    fn later(&mut self, namespace: NamespaceId, place: &HostsPlace, cx: &Context<'_>) {
        if let Some(seek) = self.seeks.get_mut(&(namespace, place.clone())) {
            seek.step = SeekStep::Waiting { until: cx.now + seek.pause };
            seek.pause = (seek.pause * 2).min(patience::HOSTS_LATE);
            seek.at_start = false;
        }
    }

    /// An attempt is over. A search that follows a file goes on.
    fn sought(&mut self, namespace: NamespaceId, place: &HostsPlace, cx: &mut Context<'_>) {
        match self.seeks.get(&(namespace, place.clone())).is_some_and(|seek| seek.follows.is_some()) {
            true => self.later(namespace, place, cx),
            false => {
                self.seeks.remove(&(namespace, place.clone()));
                // As [`Self::hosts_left`] has it.
                let holder = self.spaces.get(&namespace).and_then(|space| space.remembered());
                let is_held = holder.is_some_and(|(attachment, _)| attachment.hosts.contains(place));
                if place.pid().is_none() && !is_held {
                    self.save(cx);
                }
            }
        }
    }

    fn open_hosts(&mut self, namespace: NamespaceId, place: HostsPlace, cx: &mut Context<'_>) {
        // The process has ended with the instance or before it, and another process may have its number by now.
        if place.pid().is_some() && !self.may_want(namespace, &place) {
            return self.sought(namespace, &place, cx);
        }
        let op = self.op(Owner::Seek(namespace, place.clone()));
        cx.push(Effect::OpenHosts(op, place.clone(), namespace));
        self.set_seek(namespace, &place, SeekStep::Opening);
    }

    /// Whether an instance that is there, or that is being taken up, has its names there.
    fn may_want(&self, namespace: NamespaceId, place: &HostsPlace) -> bool {
        match self.spaces.get(&namespace).map(|space| &space.state) {
            Some(State::Standing(standing)) => standing.attachment.hosts.contains(place),
            Some(State::TakingUp(attachment)) => attachment.ending.is_none() && attachment.hosts.contains(place),
            _ => false,
        }
    }

    fn is_taking_up(&self, namespace: NamespaceId) -> bool {
        matches!(self.spaces.get(&namespace).map(|space| &space.state), Some(State::TakingUp(_)))
    }

    pub(crate) fn seek_done(
        &mut self,
        namespace: NamespaceId,
        place: HostsPlace,
        op: OpId,
        outcome: Outcome,
        cx: &mut Context<'_>,
    ) {
        match outcome {
            Outcome::Moved(moved) => self.followed(namespace, place, moved, cx),
            Outcome::Opened(Opened::Open) => {
                self.set_seek(namespace, &place, SeekStep::Keeping);
                self.queue(namespace, Job::KeepOpened(place, op));
            }
            Outcome::Did(result) => {
                Self::say_not_cleared(place.clone(), Outcome::Did(result), cx);
                self.sought(namespace, &place, cx);
            }
            Outcome::Opened(Opened::Leased) => self.later(namespace, &place, cx),
            Outcome::Opened(Opened::Gone) => self.sought(namespace, &place, cx),
            // No instance wants its names there: they are taken out, unless another service has put its names in their
            // place.
            Outcome::Hosts(answer) => {
                let file = match answer {
                    HostsAnswer::Kept(file) => file,
                    HostsAnswer::Taken { there, .. } if there.is_some_and(|file| self.keeper(file).is_some()) => {
                        return self.sought(namespace, &place, cx);
                    }
                    // That service may not write to it after all.
                    HostsAnswer::Taken { .. } => return self.later(namespace, &place, cx),
                };
                let hosts = vec![KeptHosts { place: place.clone(), handle: op, file }];
                let owner = |place| Owner::Seek(namespace, place);
                if self.clear_hosts(hosts, &[], owner, cx).is_empty() {
                    self.sought(namespace, &place, cx);
                }
            }
            // Whether an instance wants it shows when that is taken up.
            Outcome::Opened(Opened::Unkept(_)) if self.is_taking_up(namespace) => self.later(namespace, &place, cx),
            Outcome::Opened(Opened::Unkept(why)) => {
                self.not_kept(namespace, &place, why, cx);
                self.sought(namespace, &place, cx);
            }
            _ => {}
        }
    }

    /// The names in the file do not follow changes any more.
    fn not_kept(&mut self, namespace: NamespaceId, place: &HostsPlace, why: Refusal, cx: &mut Context<'_>) {
        // If no instance wants it, it has gone with the instance.
        if self.wants(namespace, place).is_none() {
            return;
        }
        let Some(standing) = self.standing_mut(namespace) else { return };
        let text = Some(one_line(&why));
        if std::mem::replace(&mut standing.attachment.unkept, text.clone()) != text {
            let service = standing.attachment.service.clone();
            cx.push(Effect::Log(Notice::HostsUnkept { service, why }));
            self.save(cx);
        }
    }

    /// An open file has its turn.
    pub(crate) fn begin_keeping(
        &mut self,
        namespace: NamespaceId,
        place: HostsPlace,
        opened: OpId,
        cx: &mut Context<'_>,
    ) {
        let Some(seek) = self.seeks.get(&(namespace, place.clone())) else {
            return cx.push(Effect::CloseOpened(opened));
        };
        let service = seek.service.clone();
        let mut owner = Owner::Seek(namespace, place.clone());
        if let Some(standing) = self.standing_mut(namespace) {
            standing.doing = Doing::Renaming(place);
            owner = Owner::Space(namespace);
        }
        let op = self.op(owner);
        cx.push(Effect::KeepHosts(op, HostsSource::Opened(opened), service));
    }

    /// A file that was found again is kept, or another service has it.
    pub(crate) fn kept_again(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        place: HostsPlace,
        op: OpId,
        answer: HostsAnswer,
        cx: &mut Context<'_>,
    ) {
        let file = match answer {
            HostsAnswer::Kept(file) => file,
            HostsAnswer::Taken { hosts, by, there } => {
                let wanted = standing.attachment.hosts.contains(&place);
                standing.doing = Doing::Nothing;
                self.stand(namespace, standing);
                return self.taken_again(namespace, &place, (wanted, hosts, by, there), cx);
            }
        };
        let hosts = KeptHosts { place: place.clone(), handle: op, file };
        if !standing.attachment.hosts.contains(&place) {
            standing.doing = Doing::Nothing;
            self.let_go(&standing, vec![hosts], cx);
            self.stand(namespace, standing);
            return self.sought(namespace, &place, cx);
        }
        let was_unkept = standing.attachment.unkept.take().is_some();
        let before = standing.attachment.hosts.clone();
        let replaced = standing.keep_hosts(hosts);
        // Mostly a restart of the agent finds what is remembered.
        let is_new = was_unkept || standing.attachment.hosts != before;
        self.let_go(&standing, replaced, cx);
        // A runtime may have rewritten it while no agent ran.
        let names = self.lines_for(&place, &standing.attachment, &mut standing.said, cx);
        match names {
            Some(names) => {
                let put = self.op(Owner::Space(namespace));
                cx.push(Effect::PutNames(put, op, names));
                standing.doing = Doing::Renaming(place);
                self.stand(namespace, standing);
            }
            None => self.renamed(namespace, standing, place, Ok(()), cx),
        }
        if is_new {
            self.save(cx);
        }
    }

    /// Another service keeps the file, and has put its names in place of those that were there.
    fn taken_again(
        &mut self,
        namespace: NamespaceId,
        place: &HostsPlace,
        (wanted, hosts, by, there): (bool, String, ServicePath, Option<FileId>),
        cx: &mut Context<'_>,
    ) {
        if !wanted {
            return self.sought(namespace, place, cx);
        }
        let why = self.hosts_refused(hosts, by, there).into();
        if let Some(seek) = self.seeks.get_mut(&(namespace, place.clone()))
            && !std::mem::replace(&mut seek.said, true)
            && seek.follows.is_none()
        {
            cx.push(Effect::Log(Notice::HostsLater { service: seek.service.clone(), why }));
        }
        self.later(namespace, place, cx);
    }

    /// The names are in a file that was found again, or can't be written there.
    pub(crate) fn renamed(
        &mut self,
        namespace: NamespaceId,
        mut standing: Standing,
        place: HostsPlace,
        result: Result<(), Refusal>,
        cx: &mut Context<'_>,
    ) {
        if let Err(why) = result {
            let service = standing.attachment.service.clone();
            cx.push(Effect::Log(Notice::HostsStale { service, place: place.clone(), why }));
        }
        standing.doing = Doing::Nothing;
        self.stand(namespace, standing);
        self.sought(namespace, &place, cx);
    }
}
