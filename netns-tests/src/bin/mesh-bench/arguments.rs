//! What is measured, and how long.

use std::{env, path::PathBuf, time::Duration};

use crate::contender::{ALWAYS, ON_REQUEST};

pub(crate) const USAGE: &str = "usage: mesh-bench [--quick] [--rounds N] [--seconds S] [--only NAME,…] [--also NAME,…] [--cc cubic|bbr] \
     [--peers DIR] [--wireguard-go PATH] [--json FILE] [--svg FILE]";

#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    /// How long a transfer takes.
    pub(crate) seconds: u64,
    /// Which contenders, by name; `memory`, `hello`, `flood` and `relay` count as such.
    names: Vec<String>,
    /// The congestion control of every socket.
    pub(crate) cc: String,
    pub(crate) json: Option<PathBuf>,
    pub(crate) svg: Option<PathBuf>,
    /// Where the other programs are.
    pub(crate) peers: Option<PathBuf>,
    pub(crate) wireguard_go: Option<PathBuf>,
}

/// The measurements that aren't one of a contender.
const MEMORY: &str = "memory";
const HELLO: &str = "hello";
const FLOOD: &str = "flood";
const RELAY: &str = "relay";

impl Arguments {
    pub(crate) fn given() -> Result<Self, String> {
        let mut given = Self {
            quick: false,
            rounds: 0,
            seconds: 0,
            names: ALWAYS.iter().chain(&[MEMORY]).map(|name| (*name).to_owned()).collect(),
            cc: "cubic".to_owned(),
            json: None,
            svg: None,
            peers: None,
            wireguard_go: None,
        };
        let mut also = vec![];
        let mut words = env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match &*word {
                "--quick" => given.quick = true,
                "--rounds" => given.rounds = number(&word, &value()?)? as usize,
                "--seconds" => given.seconds = number(&word, &value()?)?,
                "--only" => given.names = names(&value()?)?,
                "--also" => also.extend(names(&value()?)?),
                "--cc" => given.cc = value()?,
                "--json" => given.json = Some(value()?.into()),
                "--svg" => given.svg = Some(value()?.into()),
                "--peers" => given.peers = Some(value()?.into()),
                "--wireguard-go" => given.wireguard_go = Some(value()?.into()),
                _ => return Err(format!("{word}: unknown")),
            }
        }
        given.names.extend(also);
        let (rounds, seconds) = if given.quick { (2, 1) } else { (5, 5) };
        given.rounds = if given.rounds == 0 { rounds } else { given.rounds };
        given.seconds = if given.seconds == 0 { seconds } else { given.seconds };
        Ok(given)
    }

    pub(crate) fn wants(&self, name: &str) -> bool {
        self.names.iter().any(|wanted| wanted == name)
    }

    pub(crate) fn wants_memory(&self) -> bool {
        self.wants(MEMORY)
    }

    pub(crate) fn wants_hello(&self) -> bool {
        self.wants(HELLO)
    }

    pub(crate) fn wants_floods(&self) -> bool {
        self.wants(FLOOD)
    }

    pub(crate) fn wants_relays(&self) -> bool {
        self.wants(RELAY)
    }

    pub(crate) const fn transfer(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// How long what is no transfer takes: pings on an idle path, connections.
    pub(crate) const fn short(&self) -> Duration {
        Duration::from_millis(if self.quick { 300 } else { 1000 })
    }
}

fn number(word: &str, text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("{word} needs a number, not `{text}`"))
}

fn names(text: &str) -> Result<Vec<String>, String> {
    let known: Vec<&str> = ALWAYS.iter().chain(ON_REQUEST).chain(&[MEMORY, HELLO, FLOOD, RELAY]).copied().collect();
    text.split(',')
        .map(|name| {
            let name = name.trim();
            known
                .contains(&name)
                .then(|| name.to_owned())
                .ok_or_else(|| format!("there is no `{name}`; there are: {}", known.join(", ")))
        })
        .collect()
}
