//! The figures for programs, and for docs/internals/performance.md.

use std::{fs, path::Path, time::Duration};

use serde_json::{Value, json};

use crate::{
    arguments::Arguments,
    chart,
    figures::Figures,
    flood::Floods,
    hello::Hello,
    machine::Machine,
    memory::Memory,
    relays::Relays,
    targets::{self, Result as Target},
};

/// A whole run.
pub(crate) struct Record<'a> {
    pub(crate) machine: Machine,
    pub(crate) arguments: &'a Arguments,
    pub(crate) figures: Vec<Figures>,
    pub(crate) memory: Option<Memory>,
    pub(crate) hello: Option<Hello>,
    pub(crate) floods: Option<Floods>,
    pub(crate) relays: Option<Relays>,
    pub(crate) took: Duration,
}

impl Record<'_> {
    pub(crate) fn results(&self) -> Vec<Target> {
        targets::results(&self.figures, self.memory.as_ref(), &self.arguments.cc)
    }

    /// Into the files that were asked for.
    pub(crate) fn write(&self) -> Result<(), String> {
        if let Some(path) = &self.arguments.json {
            write(path, &format!("{:#}\n", self.json()))?;
        }
        if let Some(path) = &self.arguments.svg {
            write(path, &chart::svg(self))?;
        }
        Ok(())
    }

    fn json(&self) -> Value {
        let contenders: Vec<Value> = self.figures.iter().map(Figures::json).collect();
        let targets: Vec<Value> = self.results().iter().map(Target::json).collect();
        json!({
            "version": 1,
            "machine": self.machine.json(),
            "settings": {
                "congestion_control": self.arguments.cc,
                "rounds": self.arguments.rounds,
                "seconds": self.arguments.seconds,
                "quick": self.arguments.quick,
                "cable_mtu": 1500,
            },
            "took_s": self.took.as_secs(),
            "contenders": contenders,
            "memory": self.memory.as_ref().map(Memory::json),
            "hello": self.hello.as_ref().map(Hello::json),
            "floods": self.floods.as_ref().map(Floods::json),
            "relays": self.relays.as_ref().map(Relays::json),
            "targets": targets,
        })
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
