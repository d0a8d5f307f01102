//! The names that the instances of one service may ask for.

use std::{
    collections::{HashMap, HashSet},
    net::Ipv4Addr,
};

use mesh_proto::{
    ServiceId, View,
    names::{host_label, hosts},
};

/// The top of our names.
pub(crate) const TOP: &str = "warp";

/// The names of [`mesh_proto::names`] for one service, in lower case.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Zone {
    names: HashMap<Box<str>, Ipv4Addr>,
    /// Names beneath [`TOP`] that have nothing themselves, but names beneath them (RFC 8020).
    between: HashSet<Box<str>>,
    /// The name that an address is known by.
    known_by: HashMap<Ipv4Addr, Box<str>>,
}

impl Zone {
    /// `None` if the view doesn't hold the service.
    pub(crate) fn of(view: &View, service: ServiceId) -> Option<Self> {
        let mut zone = Self { names: HashMap::new(), between: HashSet::new(), known_by: HashMap::new() };
        for (address, name) in hosts(view, service)? {
            let name = name.to_ascii_lowercase().into_boxed_str();
            if is_ours(&name) {
                zone.known_by.entry(address).or_insert_with(|| name.clone());
                zone.between.extend(parents(&name).map(Box::from));
            }
            zone.names.insert(name, address);
        }
        let Self { names, between, known_by } = &mut zone;
        between.retain(|name| !names.contains_key(name));
        for service in view.services() {
            if let (Ok(label), Some(deployment)) = (host_label(&service.name), view.deployment(service.deployment))
                && let full = format!("{label}.{}.{TOP}", deployment.name)
                && names.get(&*full) == Some(&service.address)
            {
                known_by.insert(service.address, full.into());
            }
        }
        Some(zone)
    }

    /// The address of a name.
    pub(crate) fn address(&self, name: &str) -> Option<Ipv4Addr> {
        self.names.get(name).copied()
    }

    /// Whether there are names beneath this one.
    pub(crate) fn is_between(&self, name: &str) -> bool {
        self.between.contains(name)
    }

    /// The name beneath [`TOP`] of the service at an address.
    pub(crate) fn known_by(&self, address: Ipv4Addr) -> Option<&str> {
        self.known_by.get(&address).map(|name| &**name)
    }
}

/// Whether a name is beneath [`TOP`].
pub(crate) fn is_ours(name: &str) -> bool {
    name.strip_suffix(TOP).is_some_and(|rest| rest.ends_with('.'))
}

/// The names between a name beneath [`TOP`] and that.
fn parents(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent))
        .skip(1)
        .take_while(|parent| *parent != TOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_between_a_name_and_the_top() {
        assert_eq!(parents("a.b.c.warp").collect::<Vec<_>>(), ["b.c.warp", "c.warp"]);
        assert_eq!(parents("a.warp").count(), 0);
        assert!(is_ours("a.warp") && !is_ours("warp") && !is_ours("a.xwarp") && !is_ours("warp.a"));
    }
}
