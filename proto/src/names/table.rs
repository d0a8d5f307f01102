//! All names that the instances of a service see: the lines of their hosts file and their environment variables. A
//! pure function of the view.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    net::Ipv4Addr,
};

use super::{
    claim::{Claim, Rank},
    encode::{host_label, is_identifier},
    forms::{alias_hosts, check_host_name, foreign_hosts, in_any_case, own_hosts, variables},
    limit::limit,
    variables::check_given_variable,
};
use crate::{
    Ports, ServiceId, View,
    view::{Deployment, Service},
};

/// The variable with the address at which an instance asks for names.
const RESOLVER: &str = "WARP_DNS";

/// The names that the instances of a service see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    /// The lines of the hosts file: one name per line, without duplicates.
    pub hosts: Vec<(Ipv4Addr, String)>,
    /// The environment: all `WARP_IST_…`, the variables of the service's `ist`, `WARP_DNS`, and `PORT`.
    pub variables: BTreeMap<String, String>,
    /// The variables that lead to services of other deployments.
    pub foreign_variables: BTreeSet<String>,
    /// Which names are left out and why, for the log.
    pub warnings: Vec<String>,
    /// The warning that there are more names than a hosts file may have, if there are; also one of the warnings.
    pub beyond: Option<String>,
}

impl Names {
    /// The variables that shells accept. Their values need no quotes.
    pub fn shell_variables(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables.iter().filter(|(name, _)| is_identifier(name)).map(|(name, value)| (&**name, &**value))
    }
}

/// The names that instances of `service` see; `None` if the view doesn't hold the service and its deployment. Names
/// that a coordinator would refuse are left out, because a coordinator of another version may have sent them.
#[must_use]
pub fn names(view: &View, service: ServiceId) -> Option<Names> {
    let (deployment, claims) = claims(view, service)?;
    let Claims { mut hosts, mut variables, mut warnings } = claims;
    sound_hosts(view, &mut hosts, &mut warnings);
    sound(
        view,
        &mut variables,
        "the variable ",
        |name| check_given_variable(name).map_err(|why| why.to_string()),
        &mut warnings,
    );
    let hosts = settle(view, hosts, |name| name.to_ascii_lowercase(), &mut warnings);
    let variables = settle(view, variables, str::to_owned, &mut warnings);
    let (hosts, beyond) = limit(view, deployment.id, hosts);
    warnings.extend(beyond.clone());
    let is_foreign = |claim: &&Claim| claim.rank == Rank::Foreign;
    let foreign_variables = variables.iter().filter(is_foreign).map(|claim| claim.name.clone()).collect();
    let mut variables: BTreeMap<_, _> =
        variables.into_iter().map(|claim| (claim.name, claim.address.to_string())).collect();
    variables.insert(RESOLVER.to_owned(), view.network.range.resolver().to_string());
    if let Some(port) = view.naming(service).and_then(|n| n.port) {
        variables.insert("PORT".to_owned(), port.to_string());
    }
    let hosts = hosts.into_iter().map(|claim| (claim.address, claim.name)).collect();
    Some(Names { hosts, variables, foreign_variables, warnings, beyond })
}

/// All host names that instances of `service` see, more than fit into a hosts file among them; `None` if the view doesn't
/// hold the service and its deployment.
#[must_use]
pub fn hosts(view: &View, service: ServiceId) -> Option<Vec<(Ipv4Addr, String)>> {
    let (_, Claims { mut hosts, mut warnings, .. }) = claims(view, service)?;
    sound_hosts(view, &mut hosts, &mut warnings);
    let hosts = settle(view, hosts, |name| name.to_ascii_lowercase(), &mut warnings);
    Some(hosts.into_iter().map(|claim| (claim.address, claim.name)).collect())
}

/// Whether services of `caller` may call `callee` on any port, so that it has names for them.
#[must_use]
pub fn may_name(view: &View, caller: &Deployment, callee: &Service) -> bool {
    if callee.deployment == caller.id {
        return true;
    }
    let Some((deployment, grant)) = view.deployment(callee.deployment).zip(view.grant(caller.id, callee.id)) else {
        return false;
    };
    deployment.team == caller.team && grant.ports != Ports::Only(BTreeSet::new())
}

/// What names and variables the instances of a service would have.
fn claims(view: &View, service: ServiceId) -> Option<(&Deployment, Claims)> {
    let own = view.service(service)?;
    let deployment = view.deployment(own.deployment)?;
    let mut claims = Claims::default();
    for service in view.services().filter(|s| s.deployment == deployment.id) {
        claims.own(view, deployment, service);
    }
    for entry in view.naming(service).iter().flat_map(|n| &n.ist) {
        // The entry may name a service that isn't declared yet.
        let Some(target) = view.services().find(|s| s.deployment == deployment.id && s.name == entry.service) else {
            continue;
        };
        let hostnames = entry.hostnames.iter().flat_map(|name| in_any_case(name));
        claims.hosts.extend(hostnames.map(|name| Claim::new(Rank::Ist, name, target)));
        claims.variables.extend(entry.variables.iter().map(|name| Claim::new(Rank::Ist, name.clone(), target)));
    }
    for (service, deployment) in callable(view, deployment) {
        claims.foreign(deployment, service);
    }
    Some((deployment, claims))
}

fn sound_hosts(view: &View, hosts: &mut Vec<Claim>, warnings: &mut Vec<String>) {
    sound(view, hosts, "", |name| check_host_name(name).map_err(|why| why.to_string()), warnings);
}

/// Removes claims on invalid names, and those of services whose address isn't in the mesh.
fn sound(
    view: &View,
    claims: &mut Vec<Claim>,
    what: &str,
    check: impl Fn(&str) -> Result<(), String>,
    warnings: &mut Vec<String>,
) {
    let mut said = BTreeSet::new();
    claims.retain(|claim| {
        let wrong = match view.network.range.holds(claim.address) {
            true => check(&claim.name).err(),
            false => Some(format!("leads to {}, which is no address of the mesh", claim.address)),
        };
        if let Some(why) = &wrong
            && said.insert(claim.name.clone())
        {
            warnings.push(format!(
                "left out {what}`{}` for `{}`: it {why}",
                claim.name.escape_debug(),
                path(view, claim.service)
            ));
        }
        wrong.is_none()
    });
}

/// The services of other deployments that services of `caller` may call, on any port.
fn callable<'a>(view: &'a View, caller: &'a Deployment) -> impl Iterator<Item = (&'a Service, &'a Deployment)> {
    let others = view.services().filter(|service| service.deployment != caller.id && may_name(view, caller, service));
    others.filter_map(|service| Some((&**service, &**view.deployment(service.deployment)?)))
}

/// All claims, in the order of the names.
#[derive(Default)]
struct Claims {
    hosts: Vec<Claim>,
    variables: Vec<Claim>,
    warnings: Vec<String>,
}

impl Claims {
    fn own(&mut self, view: &View, deployment: &Deployment, service: &Service) {
        if service.automatic_names {
            if let Some(label) = self.label(deployment, service) {
                let names = own_hosts(&label, &deployment.name);
                self.hosts.extend(names.map(|name| Claim::new(Rank::Automatic, name, service)));
            }
            self.variables.extend(variables(&service.name).map(|name| Claim::new(Rank::Automatic, name, service)));
        }
        let aliases = view.naming(service.id).into_iter().flat_map(|naming| &naming.aliases);
        self.hosts.extend(aliases.flat_map(|alias| claimed(alias)).map(|name| Claim::new(Rank::Alias, name, service)));
    }

    fn foreign(&mut self, deployment: &Deployment, service: &Service) {
        if !service.automatic_names {
            return;
        }
        if let Some(label) = self.label(deployment, service) {
            let names = foreign_hosts(&label, &deployment.name);
            self.hosts.extend(names.map(|name| Claim::new(Rank::Foreign, name, service)));
        }
        let name = format!("{}_{}", deployment.name, service.name);
        self.variables.extend(variables(&name).map(|name| Claim::new(Rank::Foreign, name, service)));
    }

    fn label(&mut self, deployment: &Deployment, service: &Service) -> Option<String> {
        host_label(&service.name)
            .map_err(|why| {
                // The coordinator refuses such a name, so this coordinator has another version.
                self.warnings
                    .push(format!("no host name can be made from `{}/{}`: {why}", deployment.name, service.name));
            })
            .ok()
    }
}

/// The host names of an alias. An invalid alias is returned alone, to be left out with a warning.
fn claimed(alias: &str) -> Vec<String> {
    match check_host_name(alias) {
        Ok(()) => alias_hosts(alias).collect(),
        Err(_) => vec![alias.to_owned()],
    }
}

/// The claims that win, in their order and without duplicates. If claims of the same rank lead one name to several
/// services, none wins, with a warning; an own name that gives way to another own name also gets one. `key` is what
/// distinguishes names.
fn settle(view: &View, claims: Vec<Claim>, key: impl Fn(&str) -> String, warnings: &mut Vec<String>) -> Vec<Claim> {
    let mut best: BTreeMap<String, (Rank, BTreeSet<ServiceId>)> = BTreeMap::new();
    for claim in &claims {
        match best.entry(key(&claim.name)) {
            Entry::Vacant(entry) => {
                entry.insert((claim.rank, [claim.service].into()));
            }
            Entry::Occupied(mut entry) if claim.rank < entry.get().0 => {
                entry.insert((claim.rank, [claim.service].into()));
            }
            Entry::Occupied(mut entry) if claim.rank == entry.get().0 => {
                entry.get_mut().1.insert(claim.service);
            }
            Entry::Occupied(_) => {}
        }
    }

    let mut left_out: BTreeMap<_, Vec<String>> = BTreeMap::new();
    let mut given_way: BTreeMap<_, Vec<String>> = BTreeMap::new();
    let mut given = BTreeSet::new();
    let mut held = Vec::new();
    for claim in claims {
        let Some((rank, services)) = best.get(&key(&claim.name)) else { continue };
        match services.first() {
            Some(sole) if services.len() == 1 && *sole == claim.service => {
                held.extend(given.insert(claim.name.clone()).then_some(claim));
            }
            Some(sole) if services.len() == 1 && claim.rank < Rank::Foreign => {
                given_way.entry((*sole, claim.service)).or_default().push(claim.name);
            }
            _ if claim.rank == *rank => {
                let names = left_out.entry(services.clone()).or_default();
                if !names.contains(&claim.name) {
                    names.push(claim.name);
                }
            }
            _ => {} // a foreign name that an own one beats
        }
    }
    warnings.extend(left_out.into_iter().map(|(services, names)| {
        let services = services.into_iter().map(|id| path(view, id)).collect();
        format!("left out {}: {} come out alike", list(names), list(services))
    }));
    warnings.extend(given_way.into_iter().map(|((winner, loser), names)| {
        let (winner, loser) = (path(view, winner), path(view, loser));
        format!("{} taken for `{winner}` by `ist` or an alias, so not for `{loser}`", list(names))
    }));
    held
}

fn path(view: &View, service: ServiceId) -> String {
    let parts = view.service(service).and_then(|s| Some((view.deployment(s.deployment)?, s)));
    parts.map_or_else(|| service.to_string(), |(deployment, service)| format!("{}/{}", deployment.name, service.name))
}

/// `` `a`, `b` and `c` ``.
fn list(names: Vec<String>) -> String {
    let mut names: Vec<_> = names.into_iter().map(|name| format!("`{name}`")).collect();
    match (names.pop(), names.is_empty()) {
        (Some(last), false) => format!("{} and {last}", names.join(", ")),
        (last, _) => last.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
