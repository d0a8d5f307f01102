//! Which modules depend on each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use crate::modules::{Crate, Name};

/// Modules with one parent that depend on each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cycle {
    /// Their parent; empty for the crate's root.
    pub parent: String,
    /// Their names.
    pub modules: BTreeSet<String>,
    /// For each dependency within the cycle, an example of it.
    examples: Vec<String>,
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modules: Vec<&str> = self.modules.iter().map(String::as_str).collect();
        write!(f, "crate::{}{{{}}}: {}", self.parent, modules.join(", "), self.examples.join("; "))
    }
}

/// The floors of a crate's modules, the highest first: a module may use those on its own floor and below.
pub type Floors<'a> = &'a [&'a [&'a str]];

/// A module that uses one on a higher floor, or that is on no floor or on two.
pub type Upward = String;

/// The dependencies between the children of one module, with an example of each.
type Edges = BTreeMap<(String, String), String>;

/// All cycles between siblings.
#[must_use]
pub fn cycles(of: &Crate) -> Vec<Cycle> {
    let mut found = Vec::new();
    for (parent, edges) in edges(of) {
        for modules in components(&edges) {
            let within = edges.iter().filter(|((from, to), _)| modules.contains(from) && modules.contains(to));
            let examples = within.map(|(_, example)| example.clone()).collect();
            found.push(Cycle { parent: parent.join("::"), modules, examples });
        }
    }
    found
}

/// What the floors of the root's modules don't allow.
#[must_use]
pub fn upward(of: &Crate, floors: Floors<'_>) -> Vec<Upward> {
    let floors_of = |module: &str| -> Vec<usize> {
        floors.iter().enumerate().filter(|(_, on)| on.contains(&module)).map(|(floor, _)| floor).collect()
    };
    let mut found = Vec::new();
    for module in of.0.keys().filter(|name| name.len() == 1).map(|name| &name[0]) {
        match floors_of(module).len() {
            1 => {}
            0 => found.push(format!("`{module}` is on no floor")),
            _ => found.push(format!("`{module}` is on more than one floor")),
        }
    }
    for ((from, to), example) in edges(of).remove(&Vec::new()).unwrap_or_default() {
        if let (Some(low), Some(high)) = (floors_of(&from).first(), floors_of(&to).first())
            && high < low
        {
            found.push(format!("`{from}` uses `{to}`, which is on a higher floor: {example}"));
        }
    }
    found
}

fn edges(of: &Crate) -> BTreeMap<Name, Edges> {
    let mut all: BTreeMap<Name, Edges> = BTreeMap::new();
    for (name, module) in &of.0 {
        for path in &module.paths {
            let Some(target) = of.resolve(name, path, 0) else { continue };
            let shared = name.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(from), Some(to)) = (name.get(shared), target.get(shared)) {
                let example = format!("{} names {}", name.join("::"), path.join("::"));
                all.entry(name[..shared].to_vec()).or_default().entry((from.clone(), to.clone())).or_insert(example);
            }
        }
    }
    all
}

impl Crate {
    /// The module that the path leads into from `from`; `None` for a path into another crate.
    fn resolve(&self, from: &Name, path: &[String], depth: usize) -> Option<Name> {
        // Re-exports that lead to each other lead nowhere.
        if depth > 16 {
            return None;
        }
        let mut rest = path;
        let mut at = from.clone();
        match rest.first()?.as_str() {
            "crate" => (at, rest) = (Name::new(), &rest[1..]),
            "self" => rest = &rest[1..],
            "super" => {
                while rest.first().is_some_and(|segment| segment == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
            }
            first => {
                let mut child = at.clone();
                child.push(first.to_owned());
                self.0.get(&child)?;
            }
        }
        for (n, segment) in rest.iter().enumerate() {
            let mut child = at.clone();
            child.push(segment.clone());
            if self.0.contains_key(&child) {
                at = child;
            } else {
                let beyond = &rest[n + 1..];
                return Some(self.imported(&at, segment, beyond, depth).unwrap_or(at));
            }
        }
        Some(at)
    }

    /// The module that a name leads to which `module` has only imported.
    fn imported(&self, module: &Name, name: &str, beyond: &[String], depth: usize) -> Option<Name> {
        let known = self.0.get(module)?;
        if known.items.contains(name) {
            return None;
        }
        known.imports.iter().find_map(|import| match &import.name {
            Some(bound) if bound == name => {
                let path: Vec<String> = import.path.iter().chain(beyond).cloned().collect();
                self.resolve(module, &path, depth + 1)
            }
            Some(_) => None,
            None => {
                let target = self.resolve(module, &import.path, depth + 1)?;
                self.0.get(&target)?.items.contains(name).then_some(target)
            }
        })
    }
}

/// The sets of two modules or more of which each one leads to each other one.
fn components(edges: &Edges) -> Vec<BTreeSet<String>> {
    let reaches = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(at) = next.pop() {
            next.extend(edges.keys().filter(|(a, b)| a == at && seen.insert(b.clone())).map(|(_, b)| b));
        }
        seen
    };
    let modules: BTreeSet<&String> = edges.keys().flat_map(|(from, to)| [from, to]).collect();
    let reached: BTreeMap<&String, BTreeSet<String>> =
        modules.iter().map(|module| (*module, reaches(module))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (module, to) in &reached {
        let cycle: BTreeSet<String> =
            to.iter().filter(|other| reached.get(other).is_some_and(|back| back.contains(*module))).cloned().collect();
        if cycle.len() > 1 && !found.contains(&cycle) {
            found.push(cycle);
        }
    }
    found
}
