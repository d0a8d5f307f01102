//! The names of services that were in the view, so that `denied` shows refused connections with the names of their time.

use std::{
    collections::BTreeMap,
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
};

use mesh_proto::{ServiceId, View};
use tokio::sync::watch;

/// How many names outside the view are remembered.
const REMEMBERED: usize = 4096;

/// The names of services. Identifiers are never reused.
#[derive(Debug, Default, Clone)]
pub(super) struct Names(Arc<Mutex<BTreeMap<ServiceId, String>>>);

impl Names {
    /// Remembers the names in a view.
    pub(super) fn learn(&self, view: &View) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let gone = |names: &BTreeMap<ServiceId, String>| -> Vec<ServiceId> {
            names.keys().filter(|service| view.service(**service).is_none()).copied().collect()
        };
        let excess = gone(&names).len().saturating_sub(REMEMBERED);
        for service in gone(&names).into_iter().take(excess) {
            names.remove(&service);
        }
        for service in view.services() {
            if let Some(deployment) = view.deployment(service.deployment) {
                names.entry(service.id).or_insert_with(|| format!("{}/{}", deployment.name, service.name));
            }
        }
    }

    /// A service's name for people; its address if it was never in a view.
    pub(super) fn of(&self, service: Option<ServiceId>, address: Ipv4Addr) -> String {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        service.and_then(|service| names.get(&service).cloned()).unwrap_or_else(|| address.to_string())
    }

    /// Remembers the names in each view, until there are no more views.
    pub(super) async fn follow(self, mut views: watch::Receiver<Option<Arc<View>>>) {
        views.mark_changed();
        while views.changed().await.is_ok() {
            let view = views.borrow_and_update().clone();
            if let Some(view) = view {
                self.learn(&view);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_proto::{DeploymentId, Epoch, Range, Record, Revision, RunnerId, view};

    use super::*;

    fn view(services: impl Iterator<Item = u64>) -> View {
        let network = view::Network { range: Range::DEFAULT, mtu: 1344 };
        let mut view = View::empty(Epoch([0; 16]), Revision(1), RunnerId(1), network);
        let (name, team) = ("shop".parse().unwrap(), "acme".parse().unwrap());
        view.put(Record::Deployment(view::Deployment { id: DeploymentId(1), name, team, trust_source: None }.into()));
        for id in services {
            let record = view::Service {
                id: ServiceId(id),
                deployment: DeploymentId(1),
                name: format!("s{id}").parse().unwrap(),
                address: Ipv4Addr::from_bits(0x6470_0000 + id as u32),
                automatic_names: true,
            };
            view.put(Record::Service(record.into()));
        }
        view
    }

    #[test]
    fn a_service_that_has_left_the_view_keeps_its_name_and_few_are_kept() {
        let (names, address) = (Names::default(), Ipv4Addr::new(100, 112, 0, 1));
        names.learn(&view(1..2));
        names.learn(&view(2..3));
        assert_eq!(names.of(Some(ServiceId(1)), address), "shop/s1");
        assert_eq!(names.of(Some(ServiceId(9)), address), "100.112.0.1");
        assert_eq!(names.of(None, address), "100.112.0.1");
        for chunk in 0..10 {
            names.learn(&view(chunk * 1000..(chunk + 1) * 1000));
        }
        assert!(names.0.lock().unwrap().len() <= REMEMBERED + 2000);
        assert_eq!(names.of(Some(ServiceId(9999)), address), "shop/s9999");
    }
}
