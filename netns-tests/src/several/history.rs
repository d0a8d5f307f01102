//! What clients have done and seen, object by object, and what is wrong with it.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    time::Instant,
};

use serde_json::Value;

use super::{
    linear::{self, Act, Entry, Verdict},
    look::{Answer, rows, text},
};
use crate::Outcome;

/// How many places the search for an order may go through.
const LIMIT: usize = 100_000;

/// What an act was about. Names tell which it is: of a pair there are `a-NAME` and `b-NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Object {
    /// Two deployments that are always applied together. What they hold is the version of their service.
    Pair(String),
    /// A deployment that comes and goes. It holds the version of its service.
    Single(String),
    /// A trust list.
    Trust(String),
    /// A token, which holds 1 until it is revoked.
    Token(String),
}

/// How an act has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// It was confirmed.
    Confirmed,
    /// It was refused: it must not have taken effect.
    Refused,
    /// The client can't tell.
    Unknown,
}

impl Ending {
    /// As its exit code says; `None` if that is none of those that are promised.
    pub(crate) fn of_command(outcome: &Outcome) -> Option<Self> {
        match outcome.code {
            Some(0) => Some(Self::Confirmed),
            Some(1) => Some(Self::Refused),
            Some(3) => Some(Self::Unknown),
            _ => None,
        }
    }

    /// As the status of its answer says.
    pub(crate) fn of_request(answer: &Answer) -> Self {
        match answer {
            Answer::Given(200, _) => Self::Confirmed,
            Answer::Lost | Answer::Given(504, _) => Self::Unknown,
            Answer::NotSent | Answer::Given(..) => Self::Refused,
        }
    }
}

/// The history since the last generation of objects, and what must hold all the time.
#[derive(Debug)]
pub(crate) struct History {
    begun: Instant,
    objects: BTreeMap<Object, Vec<Entry>>,
    /// What was refused, and when it began: shown where something is wrong.
    refused: Vec<(Object, Act, u64)>,
    /// Whose each address was, and each deployment's number.
    addresses: BTreeMap<String, String>,
    numbers: BTreeMap<String, String>,
    tokens: BTreeSet<String>,
    pub(crate) wrong: Vec<String>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            objects: BTreeMap::new(),
            refused: vec![],
            addresses: BTreeMap::new(),
            numbers: BTreeMap::new(),
            tokens: BTreeSet::new(),
            wrong: vec![],
        }
    }

    fn since_begin(&self, at: Instant) -> u64 {
        (at - self.begun).as_nanos() as u64
    }

    /// An object that is there from now on, with nothing in it.
    pub(crate) fn begin(&mut self, object: Object) {
        self.objects.entry(object).or_default();
    }

    /// A client's act that has just ended.
    pub(crate) fn note(&mut self, object: &Object, act: Act, from: Instant, ending: Ending) {
        let to = match ending {
            Ending::Confirmed => Some(self.since_begin(Instant::now())),
            Ending::Unknown => None,
            Ending::Refused => return self.refused.push((object.clone(), act, self.since_begin(from))),
        };
        let entry = Entry { act, from: self.since_begin(from), to };
        self.objects.entry(object.clone()).or_default().push(entry);
    }

    /// A token that was given out.
    pub(crate) fn note_token(&mut self, id: &str, from: Instant) {
        if !self.tokens.insert(id.to_owned()) {
            self.wrong.push(format!("the token {id} was given out twice"));
        }
        self.note(&Object::Token(id.to_owned()), Act::Put(1), from, Ending::Confirmed);
    }

    /// What a client has seen of all services.
    pub(crate) fn saw_services(&mut self, answer: &Value, from: Instant) {
        let mut versions: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        let mut here = BTreeSet::new();
        for row in rows(answer, "services") {
            let (deployment, service, address) = (text(row, "deployment"), text(row, "service"), text(row, "address"));
            if !here.insert(address) {
                self.wrong.push(format!("two services have the address {address}: {answer}"));
            }
            let path = format!("{deployment}/{service}");
            keep_one(&mut self.addresses, &mut self.wrong, "address", address, &path);
            if let Some(version) = number(service) {
                versions.entry(deployment).or_default().insert(version);
            }
        }
        let of = |name: &str| versions.get(name).cloned().unwrap_or_default();
        let mut seen = vec![];
        for object in self.objects.keys() {
            match object {
                Object::Pair(name) => {
                    let [a, b] = ["a", "b"].map(|half| of(&format!("{half}-{name}")));
                    if a != b {
                        self.wrong.push(format!("the pair {name} is torn: {a:?} and {b:?}"));
                    }
                    seen.push((object.clone(), a));
                }
                Object::Single(name) => seen.push((object.clone(), of(name))),
                Object::Trust(_) | Object::Token(_) => {}
            }
        }
        self.saw(seen, from);
    }

    /// What a client has seen of all deployments.
    pub(crate) fn saw_deployments(&mut self, answer: &Value, from: Instant) {
        let mut lists: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
        for row in rows(answer, "deployments") {
            let name = text(row, "deployment");
            keep_one(&mut self.numbers, &mut self.wrong, "number", &row["id"].to_string(), name);
            lists.insert(name, rows(row, "trusts").filter_map(|caller| number(caller.as_str()?)).collect());
        }
        let seen = self.objects.keys().filter_map(|object| match object {
            Object::Trust(name) => Some((object.clone(), lists.get(&**name).cloned().unwrap_or_default())),
            _ => None,
        });
        self.saw(seen.collect(), from);
    }

    /// What a client has seen of all tokens.
    pub(crate) fn saw_tokens(&mut self, answer: &Value, from: Instant) {
        // A coordinator whose clock is behind calls a new token expired.
        let good: BTreeSet<&str> =
            rows(answer, "tokens").filter(|row| row["state"] != "revoked").map(|row| text(row, "id")).collect();
        let seen = self.objects.keys().filter_map(|object| match object {
            Object::Token(id) => Some((object.clone(), good.contains(&**id).then_some(1).into_iter().collect())),
            _ => None,
        });
        self.saw(seen.collect(), from);
    }

    fn saw(&mut self, seen: Vec<(Object, BTreeSet<u32>)>, from: Instant) {
        for (object, values) in seen {
            self.note(&object, Act::Saw(values), from, Ending::Confirmed);
        }
    }

    /// Whether each object's history has an order.
    pub(crate) fn check(&mut self) {
        for (object, history) in &self.objects {
            let words = match linear::check(history, LIMIT) {
                Verdict::Fits => continue,
                Verdict::Contradicts => "contradicts itself",
                Verdict::Undecided => "is too long to be checked",
            };
            let refused = self.refused.iter().filter(|(of, ..)| of == object);
            let refused: Vec<_> = refused.map(|(_, act, from)| format!("{act:?} at {:.4}", seconds(*from))).collect();
            let (history, refused) = (shown(history), refused.join(", "));
            self.wrong.push(format!("the history of {object:?} {words}:\n{history}  refused: {refused}\n"));
        }
    }

    /// Lets go of all objects: there will be others.
    pub(crate) fn forget(&mut self) {
        self.objects.clear();
        self.refused.clear();
    }

    /// The tokens that are known to have been good once.
    pub(crate) fn known_tokens(&self) -> Vec<String> {
        let tokens = self.objects.keys().filter_map(|object| match object {
            Object::Token(id) => Some(id.clone()),
            _ => None,
        });
        tokens.collect()
    }
}

/// `v12` is 12.
fn number(name: &str) -> Option<u32> {
    name.strip_prefix('v')?.parse().ok()
}

fn keep_one(kept: &mut BTreeMap<String, String>, wrong: &mut Vec<String>, what: &str, value: &str, of: &str) {
    match kept.entry(value.to_owned()) {
        btree_map::Entry::Vacant(free) => drop(free.insert(of.to_owned())),
        btree_map::Entry::Occupied(taken) if taken.get() == of => {}
        btree_map::Entry::Occupied(mut taken) => {
            let before = taken.insert(of.to_owned());
            wrong.push(format!("the {what} {value} was given to {before} and to {of}"));
        }
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn shown(history: &[Entry]) -> String {
    let mut sorted: Vec<&Entry> = history.iter().collect();
    sorted.sort_by_key(|entry| entry.from);
    let line = |entry: &&Entry| {
        let to = entry.to.map_or("?".to_owned(), |to| format!("{:.4}", seconds(to)));
        format!("  {:.4} .. {to}  {:?}\n", seconds(entry.from), entry.act)
    };
    sorted.iter().map(line).collect()
}
