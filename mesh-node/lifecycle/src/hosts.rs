//! The hosts files in which instances' names are kept: one service each, found again after a restart and where another file has taken
//! the place.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use mesh_proto::{
    ServicePath,
    message::Refusal,
    names::{Names, names},
};

use crate::{
    Attachment, Effect, Error, FileId, HostsAnswer, HostsLeft, HostsPlace, HostsSource, Lifecycle, NamespaceId, Notice,
    OpId, Opened, Outcome,
    attach::one_line,
    effect::KeptHosts,
    lifecycle::{Context, Owner},
    patience,
    space::{Doing, HostsWait, Job, Said, Standing, State, Step},
};

/// How many names that are left out the log names at a time.
const WARNINGS: usize = 20;
/// How many looks in a row find no other file at a place until it is believed.
const QUIET_LOOKS: u32 = 2;

/// The search for the file at a place.
#[derive(Debug)]
pub(crate) struct Seek {
    service: ServicePath,
    pause: Duration,
    step: SeekStep,
    /// Another file may stand there: it is followed until it is the one that is kept, and has been for a while.
    follows: Option<Follow>,
    /// The agent that starts waits for the first attempt.
    at_start: bool,
    /// It was said that another service keeps the file.
    said: bool,
}

#[derive(Debug, Clone, Copy)]
struct Follow {
    quiet: u32,
    /// It has moved again while it was looked at.
    again: bool,
}

#[derive(Debug)]
enum SeekStep {
    Waiting {
        until: Instant,
    },
    Comparing,
    Opening,
    /// It is open, and waits for its turn, or is written to.
    Keeping,
}

impl Seek {
    /// When it goes on.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.step {
            SeekStep::Waiting { until } => Some(until),
            SeekStep::Comparing | SeekStep::Opening | SeekStep::Keeping => None,
        }
    }
}

impl Lifecycle {
    /// Whether a file that `by` keeps is waited for: for how long depends on whether that one is about to end.
    pub(crate) fn wait_for_hosts(&self, wait: &mut HostsWait, by: &ServicePath, cx: &Context<'_>) -> bool {
        let ending = |state: &State| matches!(state, State::Ending(ending) if ending.shown.attachment.service == *by);
        let is_ending = self.spaces.values().any(|space| ending(&space.state));
        let patience = if is_ending { patience::HOSTS_ENDING } else { patience::HOSTS_UNHEARD };
        let left = patience.saturating_sub(cx.now.saturating_duration_since(wait.since));
        // The one that keeps it may begin to end meanwhile, and the other way round.
        wait.retry = Some(cx.now + left.min(patience::HOSTS_UNHEARD));
        !left.is_zero()
    }

    pub(crate) fn hosts_refused(&self, hosts: String, by: ServicePath, there: Option<FileId>) -> Error {
        match there.and_then(|there| self.keeper(there)) {
            Some(instance) => Error::HostsTaken { hosts, instance, service: by },
            None => Error::HostsBusy { hosts, service: by },
        }
    }

    fn keeper(&self, file: FileId) -> Option<mesh_proto::InstanceId> {
        let mut keepers = self.spaces.values().filter(|space| space.hosts().iter().any(|hosts| hosts.file == file));
        keepers.find_map(|space| Some(space.attachment()?.instance))
    }

    /// A file has been let go: those who wait for one try again.
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

    /// Takes the names of an instance out of those of these hosts files in which no instance keeps its own. Each clearing is under way
    /// when the next effect begins, so that what keeps one from now on writes after it.
    pub(crate) fn let_go(&mut self, standing: &Standing, hosts: Vec<KeptHosts>, cx: &mut Context<'_>) {
        let Attachment { namespace, service, .. } = &standing.attachment;
        let owner = |place| Owner::Clear(HostsLeft { namespace: *namespace, service: service.clone(), place });
        self.clear_hosts(hosts, &standing.hosts, owner, cx);
    }

    /// The same, where a namespace whose state is just being changed waits for the clearings that it returns.
    pub(crate) fn let_go_of(
        &mut self,
        standing: &Standing,
        hosts: Vec<KeptHosts>,
        cx: &mut Context<'_>,
    ) -> Vec<(OpId, HostsPlace)> {
        let namespace = standing.attachment.namespace;
        self.clear_hosts(hosts, &standing.hosts, |_| Owner::Space(namespace), cx)
    }

    /// The same, of an instance that is no more.
    pub(crate) fn let_go_for(
        &mut self,
        namespace: NamespaceId,
        hosts: Vec<KeptHosts>,
        cx: &mut Context<'_>,
    ) -> Vec<(OpId, Option<HostsPlace>)> {
        let clearings = self.clear_hosts(hosts, &[], |_| Owner::Space(namespace), cx);
        clearings.into_iter().map(|(op, place)| (op, Some(place))).collect()
    }

    fn clear_hosts(
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

    /// A hosts file is cleared, and needs not be remembered any more.
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

    /// What belongs into an instance's hosts files, if the view holds it. What is left out is said once.
    pub(crate) fn names_of(
        &self,
        attachment: &Attachment,
        said: &mut Said,
        cx: &mut Context<'_>,
    ) -> Option<Vec<(Ipv4Addr, String)>> {
        let view = self.view.as_ref()?;
        let Names { hosts, warnings, beyond, .. } = names(view, view.instance(attachment.instance)?.service)?;
        let (instance, service) = (attachment.instance, &attachment.service);
        let news = said.news(warnings, beyond);
        let more = news.len().saturating_sub(WARNINGS);
        for warning in news.into_iter().take(WARNINGS) {
            cx.push(Effect::Log(Notice::NameLeftOut { instance, service: service.clone(), warning }));
        }
        if more > 0 {
            cx.push(Effect::Log(Notice::MoreNamesLeftOut { instance, service: service.clone(), more }));
        }
        Some(hosts)
    }

    /// Looks for a hosts file of an earlier agent: for an instance that is here to keep its names in, else to take them out.
    pub(crate) fn seek_left(
        &mut self,
        namespace: NamespaceId,
        service: ServicePath,
        place: HostsPlace,
        cx: &mut Context<'_>,
    ) {
        let step = SeekStep::Opening;
        let seek = Seek { service, pause: patience::HOSTS_SOON, step, follows: None, at_start: true, said: false };
        self.seeks.insert((namespace, place.clone()), seek);
        self.open_hosts(namespace, place, cx);
    }

    /// Hosts files that are cleared, or looked for to be cleared, and have no instance any more that remembers them.
    pub(crate) fn hosts_left(&self) -> Vec<HostsLeft> {
        let sought = self.seeks.iter().filter(|(_, seek)| seek.follows.is_none());
        let sought = sought.map(|((namespace, place), seek)| HostsLeft {
            namespace: *namespace,
            service: seek.service.clone(),
            place: place.clone(),
        });
        let is_left = |left: &HostsLeft| {
            let remembered = self.spaces.get(&left.namespace).and_then(|space| space.remembered());
            // A file that a process leads to is gone with it.
            left.place.pid().is_none() && !remembered.is_some_and(|attachment| attachment.hosts.contains(&left.place))
        };
        let mut all: Vec<HostsLeft> = sought.chain(self.clearings()).filter(is_left).collect();
        all.sort_by(|a, b| (a.namespace, &a.place).cmp(&(b.namespace, &b.place)));
        all.dedup();
        all
    }

    /// Whether the agent that starts still waits for a first attempt.
    pub(crate) fn seeks_at_start(&self) -> bool {
        self.seeks.values().any(|seek| seek.at_start)
    }

    /// Another file may stand in the place of one that is kept.
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
                    let follows = Some(Follow { quiet: 0, again: false });
                    let (pause, step) = (patience::HOSTS_SOON, SeekStep::Comparing);
                    let seek = Seek { service, pause, step, follows, at_start: false, said: false };
                    self.seeks.insert((namespace, place.clone()), seek);
                    self.compare(namespace, place, cx);
                }
            }
        }
    }

    /// The time has come to look once more.
    pub(crate) fn seek_again(&mut self, namespace: NamespaceId, place: HostsPlace, cx: &mut Context<'_>) {
        match self.seeks.get(&(namespace, place.clone())).map(|seek| seek.follows.is_some()) {
            Some(true) => self.compare(namespace, place, cx),
            Some(false) => self.open_hosts(namespace, place, cx),
            None => {}
        }
    }

    /// The instance that is there, and whose names belong into the file.
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

    /// A look has found another file, the same, or none.
    fn followed(&mut self, namespace: NamespaceId, place: HostsPlace, moved: Option<bool>, cx: &mut Context<'_>) {
        // One that could not be kept may be gone again: then nothing is wrong any more.
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
            // Not there yet, as while it is made; or none to be written to.
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

    /// An attempt is over for good; one that follows goes on looking.
    fn sought(&mut self, namespace: NamespaceId, place: &HostsPlace, cx: &mut Context<'_>) {
        match self.seeks.get(&(namespace, place.clone())).is_some_and(|seek| seek.follows.is_some()) {
            true => self.later(namespace, place, cx),
            false => {
                let was_left = self.hosts_left().iter().any(|left| left.place == *place);
                self.seeks.remove(&(namespace, place.clone()));
                if was_left {
                    self.save(cx);
                }
            }
        }
    }

    fn open_hosts(&mut self, namespace: NamespaceId, place: HostsPlace, cx: &mut Context<'_>) {
        // The process was the instance's: it is gone with that, or before it, and its number may be another's by now.
        if place.pid().is_some() && !self.may_want(namespace, &place) {
            return self.sought(namespace, &place, cx);
        }
        let op = self.op(Owner::Seek(namespace, place.clone()));
        cx.push(Effect::OpenHosts(op, place.clone(), namespace));
        self.set_seek(namespace, &place, SeekStep::Opening);
    }

    /// Whether an instance that is there, or is being taken up, has its names there.
    fn may_want(&self, namespace: NamespaceId, place: &HostsPlace) -> bool {
        match self.spaces.get(&namespace).map(|space| &space.state) {
            Some(State::Standing(standing)) => standing.attachment.hosts.contains(place),
            Some(State::TakingUp(attachment)) => attachment.ending.is_none() && attachment.hosts.contains(place),
            _ => false,
        }
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
            // No instance wants its names there: they are taken out, unless another service has put its own in their place.
            Outcome::Hosts(answer) => {
                let file = match answer {
                    HostsAnswer::Kept(file) => file,
                    HostsAnswer::Taken { there, .. } if there.is_some_and(|file| self.keeper(file).is_some()) => {
                        return self.sought(namespace, &place, cx);
                    }
                    // What has it may not come to write to it.
                    HostsAnswer::Taken { .. } => return self.later(namespace, &place, cx),
                };
                let hosts = vec![KeptHosts { place: place.clone(), handle: op, file }];
                let owner = |place| Owner::Seek(namespace, place);
                if self.clear_hosts(hosts, &[], owner, cx).is_empty() {
                    self.sought(namespace, &place, cx);
                }
            }
            Outcome::Opened(Opened::Unkept(why)) => {
                self.not_kept(namespace, &place, why, cx);
                self.sought(namespace, &place, cx);
            }
            _ => {}
        }
    }

    /// The file does not follow changes any more.
    fn not_kept(&mut self, namespace: NamespaceId, place: &HostsPlace, why: Refusal, cx: &mut Context<'_>) {
        // Else it has gone with the instance.
        if self.wants(namespace, place).is_none() {
            return;
        }
        let Some(State::Standing(standing)) = self.spaces.get_mut(&namespace).map(|space| &mut space.state) else {
            return;
        };
        let text = Some(one_line(&why));
        if std::mem::replace(&mut standing.attachment.unkept, text.clone()) != text {
            let service = standing.attachment.service.clone();
            cx.push(Effect::Log(Notice::HostsUnkept { service, why }));
            self.save(cx);
        }
    }

    /// It is the turn of a file that is open.
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
        if let Some(State::Standing(standing)) = self.spaces.get_mut(&namespace).map(|space| &mut space.state) {
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
                self.put(namespace, State::Standing(Box::new(standing)));
                return self.taken_again(namespace, &place, (wanted, hosts, by, there), cx);
            }
        };
        let hosts = KeptHosts { place: place.clone(), handle: op, file };
        if !standing.attachment.hosts.contains(&place) {
            standing.doing = Doing::Nothing;
            self.let_go(&standing, vec![hosts], cx);
            self.put(namespace, State::Standing(Box::new(standing)));
            return self.sought(namespace, &place, cx);
        }
        standing.attachment.unkept = None;
        let replaced = standing.keep_hosts(hosts);
        self.let_go(&standing, replaced, cx);
        // A runtime may have rewritten it while no agent looked.
        let names = self.names_of(&standing.attachment, &mut standing.said, cx);
        match names {
            Some(names) => {
                let put = self.op(Owner::Space(namespace));
                cx.push(Effect::PutNames(put, op, names));
                standing.doing = Doing::Renaming(place);
                self.put(namespace, State::Standing(Box::new(standing)));
            }
            None => self.renamed(namespace, standing, place, Ok(()), cx),
        }
    }

    /// Another service has the file, and has put its names in place of those that were there.
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

    /// The names stand in a file that was found again, or can't be written there.
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
        self.put(namespace, State::Standing(Box::new(standing)));
        self.sought(namespace, &place, cx);
        self.save(cx);
    }
}
