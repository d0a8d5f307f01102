//! Which instances there are: the bookkeeping, pure, so that every rule of it can be tried without a namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use mesh_engine::Port;
use mesh_proto::{
    InstanceId, ServicePath,
    message::{Have, Held, Refusal},
    view::Network,
};
use serde::{Deserialize, Serialize};

use super::hosts::{self, Hosts};

use crate::{
    attach::{Addressing, Mark, NamespaceId},
    hosts::{FileId, Kept, Place},
    local::{self, NamespacePlace},
};

/// An instance in a namespace, as it is remembered across restarts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Attachment {
    /// The instance.
    pub(super) instance: InstanceId,
    /// Its service.
    pub(super) service: ServicePath,
    /// Its own address.
    pub(super) address: Ipv4Addr,
    /// Its service's address.
    pub(super) service_address: Ipv4Addr,
    /// Whether it only calls.
    pub(super) client: bool,
    /// Whether it takes no new connections any more.
    #[serde(default)]
    pub(super) draining: bool,
    /// What all instances share.
    pub(super) network: Network,
    /// The namespace that it is in.
    pub(super) namespace: NamespaceId,
    /// Where that was found.
    pub(super) place: NamespacePlace,
    /// By what its interface is known again; `None`: an earlier version made it.
    #[serde(default)]
    pub(super) mark: Option<Mark>,
    /// Where its hosts files were found: each container of a shared namespace has its own.
    #[serde(deserialize_with = "hosts::places")]
    pub(super) hosts: Vec<Place>,
    /// Why there is a hosts file in which its names are not kept, if that is so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) unkept: Option<Box<str>>,
}

impl Attachment {
    pub(super) fn addressing(&self) -> Addressing {
        let Network { range, mtu } = self.network;
        Addressing { instance: self.address, service: self.service_address, range, mtu, mark: self.mark }
    }

    pub(super) fn held(&self) -> Held {
        Held {
            instance: self.instance,
            service: self.service.clone(),
            address: self.address,
            client: self.client,
            draining: self.draining,
        }
    }

    pub(super) fn answer(&self) -> local::Instance {
        local::Instance {
            id: self.instance,
            service: self.service.clone(),
            address: self.address,
            service_address: self.service_address,
            interface: super::INTERFACE.into(),
            client: self.client,
            draining: self.draining,
            connections: None,
            containers: vec![],
            warnings: self.unkept.iter().map(ToString::to_string).collect(),
        }
    }
}

/// An instance, and what holds it here.
#[derive(Debug)]
pub(super) struct Entry {
    /// What is remembered of it.
    pub(super) attachment: Attachment,
    /// The data plane's number for its TUN; `None` while it is being made.
    pub(super) port: Option<Port>,
    /// Its hosts files, open.
    pub(super) hosts: Vec<Hosts>,
    /// What has been said of its names: those that were left out, and why.
    pub(super) told: Told,
    /// The view that holds it first: earlier ones can't be expected to. `None`: any.
    pub(super) since: Option<Have>,
    /// It is being taken out.
    pub(super) ending: bool,
    /// Ends the watch over its process when dropped.
    pub(super) _watch: Option<super::watch::Watch>,
}

/// What has been said of an instance's names.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// In the log.
    pub(super) logged: BTreeSet<String>,
    /// That there are more names than a hosts file takes.
    pub(super) beyond: Option<String>,
}

impl Told {
    /// What is new in the log. That names don't fit is said once, however many they are, until they do.
    pub(super) fn news(&mut self, warnings: Vec<String>, beyond: Option<String>) -> Vec<String> {
        let (counted, all): (BTreeSet<_>, BTreeSet<_>) =
            warnings.into_iter().partition(|warning| Some(warning) == beyond.as_ref());
        let others = all.difference(&self.logged).cloned();
        let news = counted.into_iter().filter(|_| self.beyond.is_none()).chain(others).collect();
        *self = Self { logged: all, beyond };
        news
    }
}

impl Entry {
    /// As it is told.
    pub(super) fn answer(&self) -> local::Instance {
        let mut answer = self.attachment.answer();
        answer.warnings.extend(self.told.beyond.iter().filter(|_| !self.hosts.is_empty()).cloned());
        answer
    }

    /// From now on its names are kept in this hosts file as well. One that stood at the same place before may be mounted
    /// somewhere: the first one stays beside the last one. Gives those that don't.
    pub(super) fn keep_hosts(&mut self, hosts: Hosts) -> Vec<Hosts> {
        let mut there = self.drop_hosts(&hosts.place);
        there.retain(|kept| !kept.file.is(&hosts.file));
        let others = there.split_off(there.len().min(1));
        self.attachment.hosts.push(hosts.place.clone());
        self.hosts.extend(there);
        self.hosts.push(hosts);
        others
    }

    /// The places of a hosts file in whose stead another one may stand.
    pub(super) fn places_of(&self, file: FileId) -> impl Iterator<Item = &Place> {
        self.hosts.iter().filter(move |hosts| hosts.file.id() == file).map(|hosts| &hosts.place)
    }

    /// The file that its names were put into last, of those at a place.
    pub(super) fn latest(&self, place: &Place) -> Option<Kept> {
        self.hosts.iter().rfind(|hosts| hosts.place == *place).map(|hosts| hosts.file.clone())
    }

    /// Whether its names belong into this hosts file.
    pub(super) fn wants(&self, place: &Place) -> bool {
        !self.ending && self.attachment.hosts.contains(place)
    }

    /// All of them, open.
    pub(super) fn files(&self) -> Vec<Kept> {
        self.hosts.iter().map(|hosts| hosts.file.clone()).collect()
    }

    /// From now on they aren't any more.
    pub(super) fn drop_hosts(&mut self, place: &Place) -> Vec<Hosts> {
        self.attachment.hosts.retain(|kept| kept != place);
        self.hosts.extract_if(.., |kept| kept.place == *place).collect()
    }

    fn keeps(&self, file: &Kept) -> bool {
        self.hosts.iter().any(|kept| kept.file.is(file))
    }
}

/// An instance that ended while the coordinator was away.
#[derive(Debug, Clone)]
struct Ended {
    held: Held,
    /// A stream has begun since, which did not name it.
    told: bool,
}

/// The instances of this runner.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: BTreeMap<InstanceId, Entry>,
    /// Instances that the coordinator has given us, whose interface isn't made yet.
    starting: Vec<Held>,
    ended: Vec<Ended>,
}

impl Table {
    /// What an attachment of `service` to a namespace comes to: the instance that is there already, or a new one.
    ///
    /// # Errors
    /// If something else is there.
    pub(super) fn plan(
        &self,
        namespace: NamespaceId,
        service: &ServicePath,
        client: bool,
    ) -> Result<Option<InstanceId>, Refusal> {
        let Some(entry) = self.entries.values().find(|entry| entry.attachment.namespace == namespace) else {
            return Ok(None);
        };
        let Attachment { instance, service: there, client: only_calls, .. } = &entry.attachment;
        let hint = format!("one namespace holds one instance; `mesh-node detach {instance}` makes room");
        if there != service {
            return Err(Refusal::new(format!("this namespace holds {instance} of {there} already"), hint));
        }
        if *only_calls != client {
            let kind = if *only_calls { "with --client" } else { "without --client" };
            return Err(Refusal::new(
                format!("this namespace holds {instance} of {there} already, attached {kind}"),
                hint,
            ));
        }
        if entry.ending || entry.port.is_none() {
            return Err(Refusal::new(format!("{instance} of this namespace is just being taken out"), "try again"));
        }
        Ok(Some(*instance))
    }

    /// Takes over an instance of `service` that ended here while the coordinator was away: it never hears of that end.
    /// Only one that the view still `holds` is of any use, and that is not here any more.
    pub(super) fn take_over(
        &mut self,
        service: &ServicePath,
        client: bool,
        holds: impl Fn(InstanceId) -> bool,
    ) -> Option<Held> {
        let gone = |instance| !self.entries.contains_key(&instance);
        let fits = |held: &Held| is_like(held, service, client) && holds(held.instance) && gone(held.instance);
        let found = self.ended.iter().position(|ended| fits(&ended.held))?;
        let held = self.ended.remove(found).held;
        self.starting.push(held.clone());
        Some(held)
    }

    /// Whether there is about to be one to take over.
    pub(super) fn is_leaving(&self, service: &ServicePath, client: bool) -> bool {
        self.entries.values().any(|entry| entry.ending && is_like(&entry.attachment.held(), service, client))
    }

    /// The coordinator has given us an instance.
    pub(super) fn start(&mut self, held: Held) {
        self.starting.push(held);
    }

    /// What [`Self::start`] or [`Self::take_over`] began comes to nothing.
    pub(super) fn give_up(&mut self, instance: InstanceId) {
        self.starting.retain(|held| held.instance != instance);
    }

    /// Adds an instance.
    pub(super) fn add(&mut self, entry: Entry) {
        self.give_up(entry.attachment.instance);
        self.entries.insert(entry.attachment.instance, entry);
    }

    /// Removes an instance.
    pub(super) fn remove(&mut self, instance: InstanceId) -> Option<Entry> {
        self.entries.remove(&instance)
    }

    /// An instance has ended, and the coordinator doesn't know yet.
    pub(super) fn bury(&mut self, held: Held) {
        self.ended.push(Ended { held, told: false });
    }

    /// The coordinator knows of the end of an instance.
    pub(super) fn forget(&mut self, instance: InstanceId) {
        self.ended.retain(|ended| ended.held.instance != instance);
    }

    /// What is told when a stream begins. By what it doesn't hold the coordinator learns what has ended.
    pub(super) fn hello(&mut self) -> Vec<Held> {
        self.ended.iter_mut().for_each(|ended| ended.told = true);
        let live = self.entries.values().filter(|entry| !entry.ending).map(|entry| entry.attachment.held());
        live.chain(self.starting.iter().cloned()).collect()
    }

    /// The stream has begun: what [`Self::hello`] did not hold is ended at the coordinator too.
    pub(super) fn welcome(&mut self) -> bool {
        let before = self.ended.len();
        self.ended.retain(|ended| !ended.told);
        self.ended.len() != before
    }

    pub(super) fn get(&self, instance: InstanceId) -> Option<&Entry> {
        self.entries.get(&instance)
    }

    pub(super) fn get_mut(&mut self, instance: InstanceId) -> Option<&mut Entry> {
        self.entries.get_mut(&instance)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The instance whose TUN has this number.
    pub(super) fn by_port(&self, port: Port) -> Option<InstanceId> {
        self.entries.values().find(|entry| entry.port == Some(port)).map(|entry| entry.attachment.instance)
    }

    /// The instance in a namespace.
    pub(super) fn by_namespace(&self, namespace: NamespaceId) -> Option<InstanceId> {
        self.entries.values().find(|e| e.attachment.namespace == namespace).map(|entry| entry.attachment.instance)
    }

    /// Whether an instance of a service is about to end.
    pub(super) fn is_ending(&self, service: &ServicePath) -> bool {
        self.entries.values().any(|entry| entry.attachment.service == *service && entry.ending)
    }

    /// Which instance keeps its names in this hosts file.
    pub(super) fn keeper(&self, file: &Kept) -> Option<InstanceId> {
        self.entries.values().find(|entry| entry.keeps(file)).map(|entry| entry.attachment.instance)
    }

    /// Takes the names out of those of these hosts files that no instance keeps its own in; that is under way when this returns,
    /// so that whoever keeps one from now on writes his after it.
    pub(super) fn let_go(&self, hosts: Vec<Hosts>) -> Vec<impl Future<Output = ()> + use<>> {
        hosts.into_iter().filter(|hosts| self.keeper(&hosts.file).is_none()).map(Hosts::clear).collect()
    }

    /// What is to be remembered.
    pub(super) fn remembered(&self) -> (Vec<Attachment>, Vec<Held>) {
        let attachments = self.entries.values().map(|entry| entry.attachment.clone()).collect();
        (attachments, self.ended.iter().map(|ended| ended.held.clone()).collect())
    }
}

/// Whether it can take the place of one of `service`: one that was drained would get no connections.
fn is_like(held: &Held, service: &ServicePath, client: bool) -> bool {
    held.service == *service && held.client == client && !held.draining
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::hosts::{Files, HostsFile};

    pub(in super::super) fn attachment(id: u64, service: &str, ino: u64) -> Attachment {
        Attachment {
            instance: InstanceId(id),
            service: service.parse().unwrap(),
            address: Ipv4Addr::new(100, 112, 0, 9),
            service_address: Ipv4Addr::new(100, 112, 0, 2),
            client: false,
            draining: false,
            network: Network { range: mesh_proto::Range::DEFAULT, mtu: 1344 },
            namespace: namespace(ino),
            place: NamespacePlace::Path("/run/netns/x".into()),
            mark: Some(crate::attach::draw_mark().unwrap()),
            hosts: vec![],
            unkept: None,
        }
    }

    fn namespace(ino: u64) -> NamespaceId {
        NamespaceId { dev: 4, ino }
    }

    fn entry(id: u64, service: &str, ino: u64) -> Entry {
        let port = Some(Port(u32::try_from(id).unwrap()));
        Entry {
            attachment: attachment(id, service, ino),
            port,
            hosts: vec![],
            told: Told::default(),
            since: None,
            ending: false,
            _watch: None,
        }
    }

    fn db() -> ServicePath {
        "shop/db".parse().unwrap()
    }

    #[test]
    fn a_second_attachment_of_the_same_is_the_same_and_another_is_refused() {
        let mut table = Table::default();
        assert_eq!(table.plan(namespace(1), &db(), false), Ok(None));
        table.add(entry(3, "shop/db", 1));
        assert_eq!(table.plan(namespace(1), &db(), false), Ok(Some(InstanceId(3))));
        assert_eq!(table.plan(namespace(2), &db(), false), Ok(None), "another namespace is another instance");
        let error = table.plan(namespace(1), &"shop/app".parse().unwrap(), false).unwrap_err();
        assert!(error.error.contains("holds i-3 of shop/db"), "{error}");
        assert!(error.hint.unwrap().contains("mesh-node detach i-3"));
        assert!(table.plan(namespace(1), &db(), true).unwrap_err().error.contains("without --client"));
    }

    #[test]
    fn a_namespace_that_is_being_left_is_neither_free_nor_attached() {
        let mut table = Table::default();
        table.add(Entry { ending: true, ..entry(3, "shop/db", 1) });
        assert!(table.plan(namespace(1), &db(), false).is_err());
        assert!(table.hello().is_empty());
        table.remove(InstanceId(3));
        assert_eq!(table.plan(namespace(1), &db(), false), Ok(None));
    }

    #[test]
    fn what_ended_in_the_coordinators_absence_is_taken_over_once_by_its_own_service() {
        let mut table = Table::default();
        table.bury(Attachment { draining: true, ..attachment(2, "shop/db", 2) }.held());
        assert_eq!(table.take_over(&db(), false, |_| true), None, "one that gets no connections");
        table.bury(attachment(3, "shop/db", 1).held());
        assert_eq!(table.take_over(&"shop/app".parse().unwrap(), false, |_| true), None);
        assert_eq!(table.take_over(&db(), true, |_| true), None, "what only calls is something else");
        assert_eq!(table.take_over(&db(), false, |_| false), None, "the view doesn't hold it any more");
        let held = table.take_over(&db(), false, |_| true).unwrap();
        assert_eq!(held.instance, InstanceId(3));
        assert_eq!(table.take_over(&db(), false, |_| true), None);
        assert_eq!(table.hello(), [held], "it is told before its interface is made");
    }

    #[test]
    fn an_end_is_remembered_until_a_stream_has_begun_without_it() {
        let mut table = Table::default();
        table.bury(attachment(3, "shop/db", 1).held());
        assert!(!table.welcome(), "no stream has begun since");
        assert!(table.hello().is_empty());
        table.bury(attachment(4, "shop/db", 2).held());
        assert!(table.welcome());
        assert_eq!(table.remembered().1.len(), 1, "the second ended after the stream began");
        table.forget(InstanceId(4));
        assert!(table.remembered().1.is_empty());
    }

    #[tokio::test]
    async fn a_hosts_file_is_kept_once_however_often_it_is_given() {
        let (mut entry, files) = (entry(3, "shop/db", 1), Files::new(None));
        let scratch = crate::state::tests::Scratch::new("hosts-kept");
        let places = ["a", "b"].map(|name| Place::Path(scratch.0.join(name)));
        let keep = |place: &Place| {
            let Place::Path(path) = place else { unreachable!() };
            std::fs::write(path, "").unwrap();
            let file = HostsFile::open(&place.reach().unwrap()).unwrap();
            Hosts { place: place.clone(), file: files.keep(file, &"shop/db".parse().unwrap()).unwrap() }
        };
        [&places[0], &places[1], &places[0]]
            .into_iter()
            .for_each(|place| assert!(entry.keep_hosts(keep(place)).is_empty()));
        assert_eq!((entry.attachment.hosts.len(), entry.hosts.len()), (2, 2));
        assert_eq!([(); 2].map(|()| entry.drop_hosts(&places[0]).len()), [1, 0]);
        assert_eq!(entry.attachment.hosts, [places[1].clone()]);
    }

    #[test]
    fn what_earlier_versions_remembered_of_hosts_files_is_understood() {
        for (hosts, places) in [
            ("null", vec![]),
            (r#"{"path":"/h"}"#, vec![Place::Path("/h".into())]),
            (r#"[{"path":"/h"},{"process":7}]"#, vec![Place::Path("/h".into()), Place::Process(7)]),
        ] {
            let mut value = serde_json::to_value(attachment(3, "shop/db", 1)).unwrap();
            value["hosts"] = serde_json::from_str(hosts).unwrap();
            assert_eq!(serde_json::from_value::<Attachment>(value).unwrap().hosts, places);
        }
    }

    #[test]
    fn that_names_do_not_fit_is_said_once_however_many_they_are() {
        let mut told = Told::default();
        let over = |count: u32| Some(format!("{count} host names are left out"));
        let mut news = |clash: &[&str], beyond: Option<String>| {
            let warnings = clash.iter().map(|&text| text.to_owned()).chain(beyond.clone()).collect();
            told.news(warnings, beyond)
        };
        assert_eq!(news(&["a"], over(3)), ["3 host names are left out", "a"]);
        assert_eq!(news(&["a", "b"], over(4)), ["b"]);
        assert_eq!(news(&["a"], None), [""; 0]);
        assert_eq!(news(&["a"], over(2)), ["2 host names are left out"], "once more");
    }

    #[test]
    fn instances_are_found_by_namespace_and_by_port() {
        let mut table = Table::default();
        table.add(entry(3, "shop/db", 1));
        assert_eq!(table.by_port(Port(3)), Some(InstanceId(3)));
        assert_eq!(table.by_port(Port(4)), None);
        assert_eq!(table.by_namespace(namespace(1)), Some(InstanceId(3)));
        assert_eq!(table.by_namespace(namespace(2)), None);
    }
}
