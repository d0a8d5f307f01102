//! An instance that is there.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use mesh_proto::{InstanceId, View, message::Have, view::InstanceState};

use super::{
    attaching::Grant,
    ending::Then,
    names::ServiceNames,
    request::{Attach, HostsWait, LetGoCaller},
};
use crate::{
    Attachment, CallId, ContainerId, HostsLeft, HostsPlace, Nsid, OpId, Port, SaveId, Shown, WatchId,
    effect::KeptHosts, pace::Pace,
};

/// An instance that is there.
#[derive(Debug)]
pub(crate) struct Standing {
    pub(crate) attachment: Attachment,
    pub(crate) port: Port,
    pub(crate) watch: Option<WatchId>,
    pub(crate) hosts: Vec<KeptHosts>,
    /// The first view that holds it as it is: earlier views say nothing about it.
    pub(crate) since: Option<Have>,
    pub(crate) said: Said,
    pub(crate) upkeep: Option<Upkeep>,
    pub(crate) doing: Doing,
}

/// What was said of an instance, and is not said again.
#[derive(Debug, Default)]
pub(crate) struct Said {
    /// The names about which the log has the warnings.
    pub(crate) names: Option<Arc<ServiceNames>>,
    /// Its addresses are not those of the view.
    pub(crate) addresses: Option<String>,
    /// Something else changes its network.
    pub(crate) network: Option<String>,
}

impl Said {
    /// Which warnings about names are new in the log. That names don't fit is said once, however many they are, until
    /// they do.
    pub(crate) fn news(&mut self, names: &Arc<ServiceNames>) -> Vec<String> {
        let before = self.names.replace(Arc::clone(names));
        let before = before.as_deref();
        if before.is_some_and(|before| std::ptr::eq(before, &raw const **names)) {
            return vec![];
        }
        let said: BTreeSet<&String> = before.into_iter().flat_map(ServiceNames::clashes).collect();
        let clashes: BTreeSet<&String> = names.clashes().collect();
        let beyond = names.beyond.iter().filter(|_| before.is_none_or(|before| before.beyond.is_none()));
        beyond.chain(clashes.difference(&said).copied()).cloned().collect()
    }

    /// The warning that there are more names than a hosts file takes.
    pub(crate) fn beyond(&self) -> Option<&String> {
        self.names.as_ref()?.beyond.as_ref()
    }
}

/// What keeps a namespace as it was set up.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    pub(crate) pace: Pace,
    /// The number of the namespace in messages about changes. The first look asks for it, and changes are heard from
    /// then on, before the number is known here: a change in a namespace of any number may concern one whose number is
    /// unknown.
    pub(crate) nsid: Option<Nsid>,
}

impl Upkeep {
    /// Of a namespace that was just set up.
    pub(crate) fn begun(now: Instant) -> Self {
        let mut upkeep = Self { pace: Pace::default(), nsid: None };
        upkeep.pace.heard(now);
        upkeep
    }

    /// Whether a change in the namespace with this number may concern this one.
    pub(crate) fn may_be(&self, nsid: Nsid) -> bool {
        self.nsid.is_none_or(|known| known == nsid)
    }
}

/// What is being done with an instance that is there.
#[derive(Debug, Default)]
pub(crate) enum Doing {
    #[default]
    Nothing,
    /// A further attachment first looks whether the instance is really there: the kernel gives identities of namespaces
    /// again.
    Checking(Box<Attach>),
    /// A further attachment waits for its hosts file.
    KeepingHosts(Box<Attach>, HostsWait),
    /// The place of that file is written down, so that the next agent takes the names out again. Whether the place is
    /// new.
    SavingHosts(Box<Attach>, HostsPlace, bool, SaveId),
    /// The names are written there.
    Naming(Box<Attach>, HostsPlace, bool),
    /// A further attachment is written down.
    Saving(Box<Attach>, SaveId),
    AskingDrain(CallId, bool),
    SavingDrain(CallId, SaveId, Option<Have>),
    Readdressing(Box<Attachment>),
    /// The coordinator does not have the instance, and was asked for another one.
    AskingAnew,
    /// Waits for the view with the other one.
    AwaitingAnew {
        grant: Grant,
        until: Instant,
    },
    /// The interface becomes that of the other one. The port is closed.
    Replacing {
        next: Box<Attachment>,
        since: Option<Have>,
    },
    ServingAnew {
        next: Box<Attachment>,
        since: Option<Have>,
    },
    /// The other one is drained as the first one was.
    DrainingAnew(InstanceId),
    /// Its last container has ended: looks whether a process is left.
    FindingProcesses(Then),
    /// A container has ended, and the names are taken out of its hosts file.
    LettingGo {
        left: BTreeMap<OpId, HostsPlace>,
        container: ContainerId,
        caller: LetGoCaller,
    },
    /// The names are written into a file that was found again.
    Renaming(HostsPlace),
    /// The namespace is looked at, and what has changed is put back.
    Mending,
}

impl Standing {
    /// Whether a view is older than what is known of the instance.
    pub(crate) fn is_new_to(&self, view: &View) -> bool {
        self.since.is_some_and(|since| since.epoch == view.epoch && view.revision < since.revision)
    }

    /// Whether it is drained, if the view says so.
    pub(crate) fn draining_in(&self, view: &View) -> Option<bool> {
        let here = view.instance(self.attachment.instance).filter(|instance| instance.runner == view.runner)?;
        (!self.is_new_to(view)).then_some(here.state == InstanceState::Draining)
    }

    /// When its network is looked at.
    pub(crate) fn mends_at(&self) -> Option<Instant> {
        self.upkeep.as_ref()?.pace.due()
    }

    /// As callers see it, with what its hosts files lack.
    pub(crate) fn shown(&self) -> Shown {
        let mut shown = Shown::of(self.attachment.clone());
        shown.warnings.extend(self.said.beyond().filter(|_| !self.hosts.is_empty()).cloned());
        shown
    }

    /// From now on its names are kept in this hosts file as well. A container may have mounted a file that stood at
    /// this place before: the first one stays beside the last one. Returns the others.
    pub(crate) fn keep_hosts(&mut self, hosts: KeptHosts) -> Vec<KeptHosts> {
        let mut there = self.drop_hosts(&hosts.place);
        let mut others: Vec<KeptHosts> = there.extract_if(.., |kept| kept.file == hosts.file).collect();
        others.extend(there.split_off(there.len().min(1)));
        self.attachment.hosts.push(hosts.place.clone());
        self.hosts.extend(there);
        self.hosts.push(hosts);
        others
    }

    /// From now on its names are not kept at this place any more.
    pub(crate) fn drop_hosts(&mut self, place: &HostsPlace) -> Vec<KeptHosts> {
        self.attachment.hosts.retain(|kept| kept != place);
        self.hosts.extract_if(.., |kept| kept.place == *place).collect()
    }

    /// The file at a place into which its names were written last.
    pub(crate) fn latest(&self, place: &HostsPlace) -> Option<OpId> {
        self.hosts.iter().rfind(|hosts| hosts.place == *place).map(|hosts| hosts.handle)
    }

    /// The hosts files of ended containers that are being cleared.
    pub(crate) fn clearings(&self) -> Vec<HostsLeft> {
        let Doing::LettingGo { left, .. } = &self.doing else { return vec![] };
        let Attachment { namespace, service, .. } = &self.attachment;
        let left_at =
            |place: &HostsPlace| HostsLeft { namespace: *namespace, service: service.clone(), place: place.clone() };
        left.values().map(left_at).collect()
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::{Range, view::Network};

    use super::*;
    use crate::{FileId, NamespaceId, NamespacePlace, Places};

    fn standing() -> Standing {
        let attachment = Attachment {
            instance: InstanceId(3),
            service: "shop/db".parse().unwrap(),
            address: [100, 112, 0, 9].into(),
            service_address: [100, 112, 0, 2].into(),
            client: false,
            draining: false,
            release: None,
            network: Network { range: Range::DEFAULT, mtu: 1344 },
            namespace: NamespaceId { dev: 4, ino: 1 },
            place: NamespacePlace::Path("/run/netns/x".into()),
            mark: None,
            hosts: Places::default(),
            unkept: None,
            ending: None,
        };
        let (said, doing) = (Said::default(), Doing::Nothing);
        Standing { attachment, port: Port(1), watch: None, hosts: vec![], since: None, said, upkeep: None, doing }
    }

    fn kept(place: &str, handle: u64, ino: u64) -> KeptHosts {
        KeptHosts { place: HostsPlace::Path(place.into()), handle: OpId(handle), file: FileId { dev: 1, ino } }
    }

    fn handles(hosts: &[KeptHosts]) -> Vec<u64> {
        hosts.iter().map(|hosts| hosts.handle.0).collect()
    }

    #[test]
    fn a_hosts_file_is_kept_once_however_often_it_is_given() {
        let mut standing = standing();
        assert!(standing.keep_hosts(kept("/a", 1, 11)).is_empty() && standing.keep_hosts(kept("/b", 2, 12)).is_empty());
        assert_eq!(handles(&standing.keep_hosts(kept("/a", 3, 11))), [1]);
        assert_eq!((standing.attachment.hosts.len(), standing.hosts.len()), (2, 2));
        let place = HostsPlace::Path("/a".into());
        assert_eq!([(); 2].map(|()| standing.drop_hosts(&place).len()), [1, 0]);
        assert_eq!(*standing.attachment.hosts, [HostsPlace::Path("/b".into())]);
    }

    #[test]
    fn of_the_files_at_a_place_the_first_and_the_last_are_kept() {
        let mut standing = standing();
        let others = [1, 2, 3].map(|n| handles(&standing.keep_hosts(kept("/a", n, n))));
        assert_eq!(others, [vec![], vec![], vec![2]]);
        assert_eq!(standing.latest(&HostsPlace::Path("/a".into())), Some(OpId(3)));
    }

    #[test]
    fn that_names_do_not_fit_is_said_once_however_many_they_are() {
        let mut said = Said::default();
        let over = |count: u32| Some(format!("{count} host names are left out"));
        let mut news = |clash: &[&str], beyond: Option<String>| {
            let warnings = clash.iter().map(|&text| text.to_owned()).chain(beyond.clone()).collect();
            said.news(&Arc::new(ServiceNames { hosts: [].into(), warnings, beyond }))
        };
        assert_eq!(news(&["a"], over(3)), ["3 host names are left out", "a"]);
        assert_eq!(news(&["a", "b"], over(4)), ["b"]);
        assert_eq!(news(&["a"], None), [""; 0]);
        assert_eq!(news(&["a"], over(2)), ["2 host names are left out"], "once more");
    }
}
