//! Checks that a deployment's services can be declared: every name has the right form, and none leads to two
//! services.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use super::{
    encode::{HostNameError, host_label},
    forms::{BadHostName, check_host_name, declared_hosts, is_number, own_hosts, variables},
    variables::{BadVariable, check_variable},
};
use crate::{Label, ServiceName, view::Ist};

/// A service to be declared.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a ServiceName,
    /// More host names within the deployment.
    pub aliases: &'a [String],
    /// The value of `PORT` in its instances.
    pub port: Option<u16>,
    /// `names = "manual"`: no names are made from its name.
    pub manual_names: bool,
    /// Names that its instances see.
    pub ist: &'a [Ist],
    /// Whether it is already declared. Then it keeps its name, even if that would be refused today.
    pub known: bool,
}

/// The part of a deployment that is being declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The whole deployment, by a `mesh.toml`.
    Whole,
    /// One service, by a `warp.config.js`. Only its own clashes are judged. Its `ist` may name services that aren't
    /// declared yet. If its `ist` or the other service's contains a name, clashing automatic names are left out with
    /// a warning, so the order of declaration doesn't matter.
    Single(&'a ServiceName),
    /// These services, each by its own `warp.config.js`: like [`Self::Single`] for each of them.
    Some(&'a BTreeSet<&'a ServiceName>),
}

/// Why a deployment's services can't be declared, with a way out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say what the fields are")]
pub enum DeclarationError {
    /// A service's name has no host name.
    #[error(
        "no host name can be made from the service name `{service}`: {why}. Choose another name, or {MANUAL} on it"
    )]
    NoHostName { service: ServiceName, why: HostNameError },
    /// Programs would read a service's automatic host name as an address.
    #[error(
        "the service `{service}` would be called `{name}`, which programs read as an IP address. Choose a name with another letter, or {MANUAL} on it"
    )]
    NumericHostName { service: ServiceName, name: String },
    /// Programs would read the names of the deployment's services as addresses.
    #[error(
        "a deployment can't be called `{deployment}`: programs would read `{example}` as an IP address. Choose a name that is no number"
    )]
    NumericDeployment { deployment: Label, example: String },
    /// Two services have the same automatic host name.
    #[error(
        "the services `{first}` and `{second}` would both be called `{name}`. Rename one of them, or {MANUAL} on one"
    )]
    SameHostName { first: ServiceName, second: ServiceName, name: String },
    /// Two services have the same automatic variable.
    #[error(
        "the services `{first}` and `{second}` would both have the variable `{name}`. Rename one of them, or {MANUAL} on one"
    )]
    SameVariable { first: ServiceName, second: ServiceName, name: String },
    /// Two services have the same alias.
    #[error(
        "the services `{first}` and `{second}` would both be called `{name}` by their aliases. Take it from one of them"
    )]
    SameAlias { first: ServiceName, second: ServiceName, name: String },
    /// A service's alias is another one's automatic host name.
    #[error(
        "the service `{service}` would be called `{name}` by an alias, which is what `{other}` is called. Choose another alias, or {MANUAL} on `{other}`"
    )]
    AliasIsHostName { service: ServiceName, other: ServiceName, name: String },
    /// An alias is not a host name.
    #[error("the alias `{name}` of the service `{service}` {why}")]
    BadAlias { service: ServiceName, name: String, why: BadHostName },
    /// A host name in an `ist` is not one.
    #[error("the host name `{name}` in `ist` of the service `{service}` {why}")]
    BadIstHostName { service: ServiceName, name: String, why: BadHostName },
    /// A service can't have a variable in an `ist`.
    #[error("the variable `{name}` in `ist` of the service `{service}` {why}")]
    BadIstVariable { service: ServiceName, name: String, why: BadVariable },
    /// An `ist` has two entries for one service.
    #[error("`ist` of the service `{service}` has two entries for `{target}`. Make one of them")]
    IstTwice { service: ServiceName, target: ServiceName },
    /// An `ist` entry names an unknown service.
    #[error(
        "`ist` of the service `{service}` names `{target}`, which is no service of `{deployment}`. Declare it, or correct the name"
    )]
    IstUnknown { service: ServiceName, target: ServiceName, deployment: Label },
    /// Two entries of an `ist` have the same name.
    #[error(
        "`ist` of the service `{service}` gives `{name}` to both `{first}` and `{second}`. Take it from one of them"
    )]
    IstSame { service: ServiceName, name: String, first: ServiceName, second: ServiceName },
    /// A name in an `ist` is another service's automatic name.
    #[error(
        "`ist` of the service `{service}` gives `{name}` to `{target}`, but that is a name of `{other}`. Choose another, or {MANUAL} on `{other}`"
    )]
    IstIsAutomatic { service: ServiceName, name: String, target: ServiceName, other: ServiceName },
    /// A name in an `ist` is another service's alias.
    #[error(
        "`ist` of the service `{service}` gives `{name}` to `{target}`, but that is an alias of `{other}`. Choose another"
    )]
    IstIsAlias { service: ServiceName, name: String, target: ServiceName, other: ServiceName },
    /// An `ist` has the variable `PORT`, and the service has a port.
    #[error(
        "`ist` of the service `{service}` gives the variable `PORT`, which its `port` sets already. Choose another"
    )]
    IstPort { service: ServiceName },
}

/// How to declare a service without automatic names.
const MANUAL: &str = "set `names = \"manual\"` (only `ist` and `aliases` lead to it then)";

/// Checks the names of all services that `deployment` would have. Returns warnings.
///
/// # Errors
/// The first error in the order of `services`: forms first, then clashes.
pub fn check(
    deployment: &Label,
    services: &[Candidate<'_>],
    scope: Scope<'_>,
) -> Result<Vec<String>, DeclarationError> {
    let mut warnings = Vec::new();
    let names: BTreeSet<&ServiceName> = services.iter().map(|s| s.name).collect();
    if is_number(deployment) {
        if !services.iter().any(|service| service.known) {
            let example = format!("db.{deployment}");
            return Err(DeclarationError::NumericDeployment { deployment: deployment.clone(), example });
        }
        warnings.push(format!("names that end in `.{deployment}` are left out: programs read them as IP addresses. Those that end in `.{deployment}.warp` stay"));
    }
    for service in services.iter().filter(|s| scope.declares(s.name)) {
        check_forms(deployment, &names, service, scope, &mut warnings)?;
    }
    let gives_names = |s: &&Candidate<'_>| s.ist.iter().any(|i| !(i.hostnames.is_empty() && i.variables.is_empty()));
    let settling = match scope {
        Scope::Whole => BTreeSet::new(),
        Scope::Single(_) | Scope::Some(_) => services.iter().filter(gives_names).map(|s| s.name).collect(),
    };
    let mut clashes = Clashes { scope, settling, warned: BTreeSet::new(), warnings };
    let hosts = clashes.hosts(deployment, services)?;
    let variables = clashes.variables(services)?;
    for service in services {
        clashes.ist(service, &hosts, &variables)?;
    }
    Ok(clashes.warnings)
}

impl Scope<'_> {
    fn declares(self, service: &ServiceName) -> bool {
        match self {
            Self::Whole => true,
            Self::Single(name) => name == service,
            Self::Some(names) => names.contains(service),
        }
    }
}

fn check_forms(
    deployment: &Label,
    names: &BTreeSet<&ServiceName>,
    service: &Candidate<'_>,
    scope: Scope<'_>,
    warnings: &mut Vec<String>,
) -> Result<(), DeclarationError> {
    let name = || service.name.clone();
    if !service.manual_names {
        let label = host_label(service.name).map_err(|why| DeclarationError::NoHostName { service: name(), why })?;
        if is_number(&label) {
            match service.known {
                true => warnings.push(format!(
                    "`{label}` is left out: programs read it as an IP address. `{label}.warp` leads to `{}`",
                    service.name
                )),
                false => return Err(DeclarationError::NumericHostName { service: name(), name: label }),
            }
        }
    }
    for alias in service.aliases {
        check_host_name(alias).map_err(|why| DeclarationError::BadAlias {
            service: name(),
            name: alias.clone(),
            why,
        })?;
    }
    let mut targets = BTreeSet::new();
    for entry in service.ist {
        check_ist_forms(service, entry)?;
        let target = || entry.service.clone();
        if !targets.insert(&entry.service) {
            return Err(DeclarationError::IstTwice { service: name(), target: target() });
        }
        if !names.contains(&entry.service) {
            if scope == Scope::Whole {
                let deployment = deployment.clone();
                return Err(DeclarationError::IstUnknown { service: name(), target: target(), deployment });
            }
            warnings.push(format!(
                "`ist` of the service `{}` names `{}`, which `{deployment}` doesn't have yet: its names lead nowhere until it does",
                service.name, entry.service
            ));
        }
    }
    Ok(())
}

fn check_ist_forms(service: &Candidate<'_>, entry: &Ist) -> Result<(), DeclarationError> {
    let service_name = || service.name.clone();
    for name in &entry.hostnames {
        check_host_name(name).map_err(|why| DeclarationError::BadIstHostName {
            service: service_name(),
            name: name.clone(),
            why,
        })?;
    }
    for name in &entry.variables {
        check_variable(name).map_err(|why| DeclarationError::BadIstVariable {
            service: service_name(),
            name: name.clone(),
            why,
        })?;
    }
    if service.port.is_some() && entry.variables.iter().any(|name| name == "PORT") {
        return Err(DeclarationError::IstPort { service: service_name() });
    }
    Ok(())
}

/// The owner of a name within the deployment.
#[derive(Clone, Copy)]
struct Owner<'a> {
    service: &'a ServiceName,
    automatic: bool,
}

type Owners<'a> = BTreeMap<String, Owner<'a>>;

struct Clashes<'a> {
    scope: Scope<'a>,
    /// The services whose clashes are settled by leaving automatic names out.
    settling: BTreeSet<&'a ServiceName>,
    warned: BTreeSet<(&'a ServiceName, &'a ServiceName)>,
    warnings: Vec<String>,
}

impl<'a> Clashes<'a> {
    fn hosts(&mut self, deployment: &Label, services: &[Candidate<'a>]) -> Result<Owners<'a>, DeclarationError> {
        let mut owners = Owners::new();
        for candidate in services {
            let label = (!candidate.manual_names).then(|| host_label(candidate.name).ok()).flatten();
            let automatic = label.iter().flat_map(|label| own_hosts(label, deployment)).map(|name| (name, true));
            let aliases = candidate.aliases.iter().flat_map(|a| declared_hosts(a)).map(|name| (name, false));
            for (name, automatic) in automatic.chain(aliases) {
                let this = Owner { service: candidate.name, automatic };
                // Host names are looked up without regard to case (RFC 4343).
                let Some(other) = claim(&mut owners, name.to_ascii_lowercase(), this) else { continue };
                self.judge([other.service, this.service], other.automatic || automatic, || {
                    let (first, second) = (other.service.clone(), this.service.clone());
                    match (other.automatic, automatic) {
                        (true, true) => DeclarationError::SameHostName { first, second, name },
                        (false, false) => DeclarationError::SameAlias { first, second, name },
                        (true, false) => DeclarationError::AliasIsHostName { service: second, other: first, name },
                        (false, true) => DeclarationError::AliasIsHostName { service: first, other: second, name },
                    }
                })?;
            }
        }
        Ok(owners)
    }

    fn variables(&mut self, services: &[Candidate<'a>]) -> Result<Owners<'a>, DeclarationError> {
        let mut owners = Owners::new();
        for candidate in services.iter().filter(|s| !s.manual_names) {
            for name in variables(candidate.name) {
                let this = Owner { service: candidate.name, automatic: true };
                let Some(other) = claim(&mut owners, name.clone(), this) else { continue };
                self.judge([other.service, this.service], true, || DeclarationError::SameVariable {
                    first: other.service.clone(),
                    second: this.service.clone(),
                    name,
                })?;
            }
        }
        Ok(owners)
    }

    /// Compares the names in one service's `ist` with each other and with the deployment's.
    fn ist(
        &mut self,
        service: &Candidate<'a>,
        hosts: &Owners<'a>,
        variables: &Owners<'a>,
    ) -> Result<(), DeclarationError> {
        let (mut own_hosts, mut own_variables) = (Owners::new(), Owners::new());
        for entry in service.ist {
            let this = Owner { service: &entry.service, automatic: false };
            let named_hosts = entry.hostnames.iter().map(|name| (name, name.to_ascii_lowercase(), true));
            let named_variables = entry.variables.iter().map(|name| (name, name.clone(), false));
            for (name, key, is_host) in named_hosts.chain(named_variables) {
                let (own, all) = if is_host { (&mut own_hosts, hosts) } else { (&mut own_variables, variables) };
                let all = all.get(&key).copied().filter(|owner| owner.service != this.service);
                let (who, name, target) = (service.name.clone(), name.clone(), this.service.clone());
                if let Some(other) = claim(own, key, this) {
                    let first = other.service.clone();
                    self.judge([service.name; 2], false, || DeclarationError::IstSame {
                        service: who,
                        name,
                        first,
                        second: target,
                    })?;
                } else if let Some(owner) = all {
                    let other = owner.service.clone();
                    self.judge([service.name, owner.service], owner.automatic, || match owner.automatic {
                        true => DeclarationError::IstIsAutomatic { service: who, name, target, other },
                        false => DeclarationError::IstIsAlias { service: who, name, target, other },
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Refuses a clash, unless it concerns no service that is being declared, or may be settled.
    fn judge(
        &mut self,
        between: [&'a ServiceName; 2],
        automatic: bool,
        error: impl FnOnce() -> DeclarationError,
    ) -> Result<(), DeclarationError> {
        if !between.iter().any(|service| self.scope.declares(service)) {
            return Ok(());
        }
        let error = error();
        if !(automatic && between.iter().any(|service| self.settling.contains(service))) {
            return Err(error);
        }
        let [first, second] = between;
        if self.warned.insert((first, second)) {
            let what = "automatic names of one that are also names of the other are left out";
            self.warnings.push(format!("the services `{first}` and `{second}` clash: {what}"));
        }
        Ok(())
    }
}

/// Makes `owner` an owner of `name`. Returns another service that already owns it.
fn claim<'a>(owners: &mut Owners<'a>, name: String, owner: Owner<'a>) -> Option<Owner<'a>> {
    match owners.entry(name) {
        Entry::Vacant(entry) => {
            entry.insert(owner);
            None
        }
        Entry::Occupied(entry) => Some(*entry.get()).filter(|other| other.service != owner.service),
    }
}

#[cfg(test)]
mod tests;
