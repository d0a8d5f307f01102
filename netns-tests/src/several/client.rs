//! One client: what it does, and what it makes of the answer.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{Arc, PoisonError, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{
    history::{Ending, Object},
    linear::Act,
    look,
    writers::{OBJECTS, Shared},
};
use crate::{
    Chance,
    process::{Outcome, program, run_for},
};

/// How long a command may take: coordinators stand still for ten seconds at most.
const LIMIT: Duration = Duration::from_secs(60);

/// How long a client waits that was refused, at least.
const REFUSED: Duration = Duration::from_millis(100);

/// One client.
pub(super) struct Client {
    pub(super) shared: Arc<Shared>,
    pub(super) chance: Chance,
    /// The only coordinator that it uses.
    pub(super) home: Option<usize>,
    pub(super) number: usize,
}

impl Client {
    /// Goes on until it is stopped.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while !shared.stop.load(Ordering::Acquire) {
            let refused = {
                let _open = shared.gate.read().unwrap_or_else(PoisonError::into_inner);
                self.act()
            };
            // Clients that are refused at once would take the processor from those that are not.
            thread::sleep(if refused { shared.think.max(REFUSED) } else { shared.think });
        }
    }

    /// Does something. Whether it was refused.
    fn act(&mut self) -> bool {
        let any = self.chance.below(self.shared.places.len());
        let place = self.shared.places[self.home.unwrap_or(any)].clone();
        let name = self.shared.name(self.chance.below(OBJECTS));
        let version = self.shared.next.fetch_add(1, Ordering::AcqRel);
        let service = format!("v{version}");
        let (object, act, arguments) = match self.chance.below(24) {
            0..=5 => {
                let files = ["a", "b"].map(|half| file(self.number, &format!("{half}-{name}"), &service));
                let [a, b] = files;
                (Object::Pair(name), Act::Put(version), vec!["apply".to_owned(), "--prune".to_owned(), a, b])
            }
            6..=9 => {
                let file = file(self.number, &format!("s-{name}"), &service);
                let object = Object::Single(format!("s-{name}"));
                (object, Act::Put(version), vec!["apply".to_owned(), "--prune".to_owned(), file])
            }
            10 | 11 => {
                let name = format!("s-{name}");
                (Object::Single(name.clone()), Act::Clear, vec!["delete".to_owned(), name])
            }
            12..=15 if self.home.is_none() => return self.trust(&place, name, Act::Add(version)),
            16 | 17 if self.home.is_none() => return self.trust(&place, name, Act::Clear),
            12..=15 => {
                let name = format!("t-{name}");
                let arguments = vec!["trust".to_owned(), service, "--app".to_owned(), name.clone()];
                (Object::Trust(name), Act::Add(version), arguments)
            }
            16 | 17 => {
                let name = format!("t-{name}");
                let arguments = vec!["trust".to_owned(), "--clear".to_owned(), "--app".to_owned(), name.clone()];
                (Object::Trust(name), Act::Clear, arguments)
            }
            18 => return self.make_token(&place),
            19 => {
                let known = self.shared.record().history.known_tokens();
                if known.is_empty() {
                    return self.make_token(&place);
                }
                let id = known[self.chance.below(known.len())].clone();
                (Object::Token(id.clone()), Act::Clear, vec!["token".to_owned(), "revoke".to_owned(), id])
            }
            _ => return !self.shared.look(&place),
        };
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let from = Instant::now();
        let ending = self.shared.ending(&command(&place, &arguments), from);
        self.shared.record().history.note(&object, act, from, ending);
        ending == Ending::Refused
    }

    /// Gives trust or takes it, by the API, again and again: of what is under way when a coordinator ends, some must be so.
    fn trust(&self, place: &Path, name: String, first: Act) -> bool {
        let name = format!("t-{name}");
        let (object, way) = (Object::Trust(name.clone()), format!("trust-and-wait/{name}"));
        let mut ending = Ending::Confirmed;
        for act in [first, Act::Clear, Act::Add(self.shared.next.fetch_add(1, Ordering::AcqRel))] {
            let change = match &act {
                Act::Add(version) => {
                    json!({"change": "add", "callers": [format!("v{version}")], "services": null, "ports": "all"})
                }
                _ => json!({"change": "clear"}),
            };
            let from = Instant::now();
            let answer = look::post(place, &way, &json!({"change": change, "milliseconds": 0}));
            ending = self.shared.ending_of(&answer, from);
            self.shared.record().history.note(&object, act, from, ending);
        }
        ending == Ending::Refused
    }

    fn make_token(&self, place: &Path) -> bool {
        let from = Instant::now();
        let outcome = command(place, &["token", "create", "--any", "--ttl", "7d", "--json"]);
        let ending = self.shared.ending(&outcome, from);
        if ending == Ending::Confirmed {
            let id = outcome.json()["id"].as_str().expect("an identifier").to_owned();
            self.shared.record().history.note_token(&id, from);
        }
        ending == Ending::Refused
    }
}

/// A deployment file with one service.
pub(super) fn file(client: usize, deployment: &str, service: &str) -> String {
    let directory = format!("/run/client{client}");
    fs::create_dir_all(&directory).expect("a directory");
    let path = format!("{directory}/{deployment}.toml");
    fs::write(&path, format!("deployment = \"{deployment}\"\n[services.{service}]\n")).expect("a file");
    path
}

/// A command to the coordinator of a data directory, by its socket.
pub(super) fn command(data: &Path, arguments: &[&str]) -> Outcome {
    let mut command = Command::new(program("MESH_COORD"));
    command.args(arguments).env("MESH_COORD_DATA", data).env("NO_COLOR", "1");
    run_for(LIMIT, command)
}
