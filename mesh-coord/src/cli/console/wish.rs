//! A change as a form says it, and the command that makes it. Pure.

use std::{collections::BTreeSet, str::FromStr};

use anyhow::{Error, Result};
use mesh_model::{AdminCommand, Offload, Outcome, TrustChange, declare::Pattern};
use mesh_proto::{Label, Ports, message::Refusal};
use serde::Deserialize;

use crate::cli::{
    node::drained,
    numbers,
    output::{Refused, count, names},
};

/// The fields of the form. Which ones count depends on the first.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Wish {
    #[serde(rename = "do")]
    pub(super) what: String,
    pub(super) deployment: String,
    pub(super) caller: String,
    pub(super) services: String,
    pub(super) ports: String,
    pub(super) instance: String,
    pub(super) node: String,
    pub(super) token: String,
    pub(super) relay: String,
    pub(super) offload: String,
    pub(super) on: String,
    /// What was typed because it can't be undone.
    pub(super) typed: String,
}

/// A wish that was understood.
#[derive(Debug)]
pub(super) struct Understood {
    pub(super) command: AdminCommand,
    /// What has to be typed.
    pub(super) typed: Option<String>,
}

impl Wish {
    /// The fields that say what is wanted.
    pub(super) fn fields(&self) -> Vec<(&'static str, &str)> {
        let all: [(&'static str, &str); 11] = [
            ("do", &self.what),
            ("deployment", &self.deployment),
            ("caller", &self.caller),
            ("services", &self.services),
            ("ports", &self.ports),
            ("instance", &self.instance),
            ("node", &self.node),
            ("token", &self.token),
            ("relay", &self.relay),
            ("offload", &self.offload),
            ("on", &self.on),
        ];
        all.into_iter().filter(|(_, value)| !value.is_empty()).collect()
    }

    /// What it is, as a title, and the word on the button.
    pub(super) fn words(&self) -> (String, &'static str) {
        let Self { deployment, caller, instance, node, token, relay, offload, .. } = self;
        match &*self.what {
            "give" => (format!("Give {caller} trust in {deployment}"), "Give trust"),
            "take" => (format!("Take the trust of {caller} in {deployment} back"), "Take it back"),
            "drain" => (format!("Drain {instance}"), "Drain it"),
            "undrain" => (format!("Undrain {instance}"), "Undrain it"),
            "drain-node" => (format!("Drain the runner {node}"), "Drain it"),
            "undrain-node" => (format!("Undrain the runner {node}"), "Undrain it"),
            "remove-node" => (format!("Remove the runner {node}"), "Remove it"),
            "revoke" => (format!("Revoke {token}"), "Revoke it"),
            "revoke-all" => (format!("Revoke {token} and remove its runners"), "Revoke it and remove them"),
            "remove-relay" => (format!("Remove the relay {relay}"), "Remove it"),
            "switch" if self.on == "on" => (format!("Turn {offload} on at {node}"), "Turn it on"),
            "switch" => (format!("Turn {offload} off at {node}"), "Turn it off"),
            _ => ("An unknown change".to_owned(), "Do it"),
        }
    }

    /// The page that shows what changes.
    pub(super) fn back(&self) -> String {
        let part = |text: &str| crate::cli::client::escaped(text);
        match &*self.what {
            "give" | "take" if !self.deployment.is_empty() => format!("/d/{}", part(&self.deployment)),
            "drain-node" | "undrain-node" | "switch" if !self.node.is_empty() => format!("/r/{}", part(&self.node)),
            "drain" | "undrain" => "/services".to_owned(),
            "remove-node" => "/runners".to_owned(),
            "revoke" | "revoke-all" => "/tokens".to_owned(),
            "remove-relay" => "/relays".to_owned(),
            _ => "/".to_owned(),
        }
    }

    /// The command.
    ///
    /// # Errors
    /// If a field can't be understood.
    pub(super) fn understood(&self) -> Result<Understood> {
        let (command, typed) = match &*self.what {
            "give" | "take" => (self.trust()?, None),
            "drain" => (AdminCommand::Drain { instance: read(&self.instance, "an instance such as i-7")? }, None),
            "undrain" => (AdminCommand::Undrain { instance: read(&self.instance, "an instance such as i-7")? }, None),
            "drain-node" => (AdminCommand::DrainNode { name: self.label(&self.node)? }, None),
            "undrain-node" => (AdminCommand::UndrainNode { name: self.label(&self.node)? }, None),
            "remove-node" => {
                (AdminCommand::RemoveNode { name: self.label(&self.node)?, force: true }, Some(self.node.clone()))
            }
            "revoke" | "revoke-all" => {
                let (token, with_nodes) = (read(&self.token, "a token such as t-7")?, self.what == "revoke-all");
                (AdminCommand::RevokeToken { token, with_nodes }, with_nodes.then(|| self.token.clone()))
            }
            "remove-relay" => (AdminCommand::RemoveRelay { name: self.label(&self.relay)? }, Some(self.relay.clone())),
            "switch" => (self.switch()?, None),
            other => {
                return Err(wrong(format!("`{}` is no change", other.escape_debug()), "go back, and use the links"));
            }
        };
        Ok(Understood { command, typed })
    }

    fn label(&self, text: &str) -> Result<Label> {
        read(text, "a name, as the lists show it")
    }

    fn trust(&self) -> Result<AdminCommand> {
        let callers = parts(&self.caller).map(|name| self.label(name)).collect::<Result<BTreeSet<_>>>()?;
        if callers.is_empty() {
            return Err(wrong("no caller is given".to_owned(), "name the deployment that is to call"));
        }
        let services: Vec<Pattern> = parts(&self.services)
            .map(|text| read(text, "service names or patterns, as in api, *-public"))
            .collect::<Result<_>>()?;
        let services = if services.is_empty() { None } else { Some(services) };
        let ports: BTreeSet<u16> = parts(&self.ports)
            .map(|text| numbers::port(text).map_err(|error| wrong(error, "as in 80, 443")))
            .collect::<Result<_>>()?;
        let ports = if ports.is_empty() { Ports::All } else { Ports::Only(ports) };
        let change = match &*self.what {
            "give" => TrustChange::Add { callers, services, ports },
            _ => TrustChange::Remove { callers, services, ports },
        };
        Ok(AdminCommand::Trust { deployment: self.label(&self.deployment)?, change })
    }

    fn switch(&self) -> Result<AdminCommand> {
        let offload = Offload::ALL.into_iter().find(|offload| offload.name() == self.offload);
        let known = Offload::ALL.map(Offload::name).join(", ");
        let offload = offload.ok_or_else(|| wrong("this is no offload".to_owned(), &format!("known are {known}")))?;
        Ok(AdminCommand::Switch { offload, on: self.on == "on", node: Some(self.label(&self.node)?) })
    }
}

/// The parts of a list with commas or spaces between.
pub(super) fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c == ',' || c.is_whitespace()).filter(|part| !part.is_empty())
}

pub(super) fn read<T: FromStr>(text: &str, hint: &str) -> Result<T>
where
    T::Err: std::fmt::Display,
{
    text.trim().parse().map_err(|error: T::Err| wrong(error.to_string(), hint))
}

pub(super) fn wrong(error: String, hint: &str) -> Error {
    Refused(Refusal::new(error, hint)).into()
}

/// An outcome in words, line by line, and what the operator may not expect.
pub(super) fn outcome_in_words(outcome: Outcome) -> (Vec<String>, Vec<String>) {
    match outcome {
        Outcome::Trusted { directions, warnings, .. } => {
            (directions.iter().map(mesh_model::outcome::BothWays::sentence).collect(), warnings)
        }
        Outcome::NodeRemoved { runner, instances, warnings } => {
            let ended = count(instances.len(), "instance");
            (vec![format!("{runner} is removed for good; {ended} ended")], warnings)
        }
        Outcome::TokenRevoked { token, removed, standing } => {
            let mut lines = vec![format!("{token} is revoked")];
            if !removed.is_empty() {
                lines.push(format!("removed with it: {}", names(&removed)));
            }
            if !standing.is_empty() {
                lines.push(format!("the runners that it enrolled stay: {}", names(&standing)));
            }
            (lines, vec![])
        }
        Outcome::RelayRemoved { name, left, .. } => {
            (vec![format!("the relay {name} is removed; runners leave it at once; {left} left")], vec![])
        }
        Outcome::Switched { offload, on, node, warnings } => {
            let place = node.map_or_else(|| "all runners".to_owned(), |node| node.to_string());
            (vec![format!("{} is {} at {place}", offload.name(), if on { "on" } else { "off" })], warnings)
        }
        other => (drained(other).into_iter().collect(), vec![]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(fields: &[(&str, &str)]) -> Wish {
        let all: serde_json::Map<_, _> =
            fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        serde_json::from_value(all.into()).unwrap()
    }

    #[test]
    fn fields_become_the_command_that_they_name() {
        let give = wish(&[
            ("do", "give"),
            ("deployment", "shop"),
            ("caller", "api"),
            ("services", "db, *-x"),
            ("ports", "80 443"),
        ]);
        let AdminCommand::Trust { deployment, change: TrustChange::Add { callers, services, ports } } =
            give.understood().unwrap().command
        else {
            panic!("another command")
        };
        assert_eq!((&*deployment, callers.len(), services.unwrap().len()), ("shop", 1, 2));
        assert_eq!(ports, Ports::Only([80, 443].into()));
        let remove = wish(&[("do", "remove-node"), ("node", "aws-1")]).understood().unwrap();
        assert!(matches!(remove.command, AdminCommand::RemoveNode { force: true, .. }));
        assert_eq!(remove.typed.as_deref(), Some("aws-1"));
        assert_eq!(give.back(), "/d/shop");
        assert!(give.fields().contains(&("ports", "80 443")));
    }

    #[test]
    fn what_is_not_understood_is_told_with_a_hint() {
        for fields in [
            &[("do", "format-disk")][..],
            &[("do", "give"), ("deployment", "shop")],
            &[("do", "give"), ("deployment", "shop"), ("caller", "Not A Name!")],
            &[("do", "give"), ("deployment", "shop"), ("caller", "api"), ("ports", "http")],
            &[("do", "drain"), ("instance", "7")],
            &[("do", "switch"), ("offload", "warp"), ("node", "a")],
        ] {
            let error = wish(fields).understood().unwrap_err();
            assert!(crate::cli::output::hint(&error).is_some(), "{fields:?}: {error}");
        }
    }
}
