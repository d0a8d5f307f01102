//! What is written for a wish on a machine, or what is in the way. It looks at nothing itself.

use std::{io, net::SocketAddr, path::PathBuf};

use mesh_link::Url;
use mesh_process::{interfaces::Found, systemd};
use mesh_proto::Range;

use super::{
    address::{self, AddressError, Origin},
    obstacle::Obstacle,
    options::{self, Options},
};

/// What the operator asks for.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    pub(super) range: Option<Range>,
    pub(super) names: Vec<String>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) advertise: Vec<Url>,
}

/// What is there.
#[derive(Debug)]
pub(super) struct Machine {
    /// Whether systemd runs it.
    pub(super) has_systemd: bool,
    /// Whether this is root, or nothing is to be written.
    pub(super) may_write: bool,
    /// Whether there is a unit, by a package or by the operator.
    pub(super) has_unit: bool,
    /// Whether the unit runs.
    pub(super) runs: bool,
    /// The options of the unit.
    pub(super) options: Options,
    /// Whether the data directory holds a mesh.
    pub(super) has_mesh: bool,
    /// Why the port can't be listened at.
    pub(super) listening: io::Result<()>,
    /// The first port that needs no privileges.
    pub(super) free_ports: u16,
    pub(super) addresses: Vec<Found>,
    /// This program.
    pub(super) program: PathBuf,
}

/// What is written.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// The options, unless they stay as they are.
    pub(super) options: Option<Vec<[String; 2]>>,
    /// Whether there is no unit yet.
    pub(super) unit: bool,
    /// The origin of the URL, if it was chosen now.
    pub(super) origin: Origin,
}

impl Wish {
    /// Where it listens.
    pub(super) fn listens(&self) -> SocketAddr {
        let any = || SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), 7443);
        self.listen.unwrap_or_else(any)
    }

    /// The options that were given.
    fn given(&self) -> Vec<[String; 2]> {
        let option = |flag: &str, value: String| [flag.to_owned(), value];
        let urls: Vec<String> = self.advertise.iter().map(Url::to_string).collect();
        let listen = self.listen.map(|listen| option("--listen", listen.to_string()));
        let range = self.range.map(|range| option("--range", range.to_string()));
        let names = self.names.iter().map(|name| option("--name", name.clone()));
        let advertise = (!urls.is_empty()).then(|| option("--advertise", urls.join(",")));
        listen.into_iter().chain(range).chain(names).chain(advertise).collect()
    }

    /// All options, with a URL.
    fn options(&self, addresses: &[Found]) -> Result<(Vec<[String; 2]>, Origin), AddressError> {
        let mut all = self.given();
        if !self.advertise.is_empty() {
            return Ok((all, Origin::Given));
        }
        let (url, origin) = address::url(self.listens(), &self.names, addresses.to_vec())?;
        all.push(["--advertise".to_owned(), url.to_string()]);
        Ok((all, origin))
    }

    /// What is written for it on a machine.
    pub(super) fn on(&self, machine: Machine) -> Result<Plan, Obstacle> {
        let (given, all) = (self.given(), self.options(&machine.addresses));
        if !machine.has_systemd {
            let unknown = || ["--advertise".to_owned(), format!("https://HOST:{}", self.listens().port())];
            let all: Vec<[String; 2]> =
                all.map_or_else(|_| given.into_iter().chain([unknown()]).collect(), |(all, _)| all);
            return Err(Obstacle::NoSystemd { instead: all.concat().join(" ") });
        }
        if !machine.may_write {
            return Err(Obstacle::NotRoot);
        }
        let has_given = machine.options.have(&given);
        let unit = !machine.has_unit;
        if machine.runs {
            let stays = Plan { options: None, unit: false, origin: Origin::Given };
            return if has_given { Ok(stays) } else { Err(Obstacle::Runs(machine.options.shown().to_owned())) };
        }
        if let (Options::Theirs(value), false) = (&machine.options, has_given) {
            return Err(Obstacle::Theirs(value.clone()));
        }
        if let Some([_, odd]) = given.iter().find(|[_, value]| !options::is_plain(value)) {
            return Err(Obstacle::Odd(odd.clone()));
        }
        if unit && systemd::is_hidden(&machine.program) {
            return Err(Obstacle::Hidden(machine.program));
        }
        let stays = has_given && machine.options != Options::None;
        if self.range.is_some() && machine.has_mesh && !stays {
            return Err(Obstacle::HasMesh);
        }
        if stays {
            return Ok(Plan { options: None, unit, origin: Origin::Given });
        }
        let at = self.listens();
        if at.port() < machine.free_ports {
            return Err(Obstacle::Privileged(at.port()));
        }
        machine.listening.map_err(|error| Obstacle::Port { at, error: error.to_string() })?;
        let (options, origin) = all?;
        Ok(Plan { options: Some(options), unit, origin })
    }
}

#[cfg(test)]
mod tests;
