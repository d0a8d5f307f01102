//! `scripts/bench`: the speed of mesh in comparison with others, in one run on one machine: raw veth and other
//! userspace WireGuards, between two namespaces that are joined by a veth pair. Rounds are interleaved, so that changes
//! of the machine affect all of them.
//!
//! The programs under test are found as in the tests (`MESH_COORD`, `MESH_NODE`); the namespaces are the script's.

mod arguments;
mod chart;
mod contender;
mod figures;
mod flood;
mod hello;
mod iperf;
mod known;
mod machine;
mod measure;
mod memory;
mod mesh;
mod meter;
mod pingpong;
mod record;
mod relays;
mod rival;
mod table;
mod targets;

use std::{process::ExitCode, time::Instant};

use mesh_netns_tests::{World, furnish};

use crate::{
    arguments::Arguments, figures::Figures, flood::Floods, hello::Hello, machine::Machine, measure::Sample,
    memory::Memory, record::Record, relays::Relays,
};

fn main() -> ExitCode {
    let arguments = match Arguments::given() {
        Ok(arguments) => arguments,
        Err(said) => {
            eprintln!("{said}\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) {
        eprintln!("this is a debug build, whose figures mean nothing: run scripts/bench");
        return ExitCode::FAILURE;
    }
    furnish();
    let begun = Instant::now();
    let mut machine = Machine::look();
    let world = World::new();
    let mut contenders = contender::all(&world, &arguments, &mut machine.remarks);
    for contender in &mut contenders {
        if let Err(wrong) = contender.prepare(&arguments.cc) {
            eprintln!("{wrong}");
            return ExitCode::FAILURE;
        }
        machine.versions.extend(contender.way.version());
    }
    let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| vec![]).collect();
    for round in 0..arguments.rounds {
        // Another contender is first each time, so that effects of the order affect all of them.
        for place in 0..contenders.len() {
            let index = (round + place) % contenders.len();
            let sample = measure::round(&contenders[index], &arguments);
            eprintln!("round {}/{}  {}", round + 1, arguments.rounds, table::progress(&contenders[index], &sample));
            samples[index].push(sample);
        }
    }
    // An offload that was lost on the way makes figures of something else.
    machine.remarks.extend(contenders.iter().filter_map(|contender| contender.check().err()));
    let figures: Vec<Figures> =
        contenders.iter().zip(samples).map(|(contender, samples)| Figures::new(contender, samples)).collect();
    drop(contenders);
    let memory = arguments.wants_memory().then(|| Memory::measure(&world));
    let hello = arguments.wants_hello().then(|| Hello::measure(&world));
    let floods = arguments.wants_floods().then(|| Floods::measure(&world, &arguments.cc, arguments.transfer()));
    let relays = arguments.wants_relays().then(|| Relays::measure(&world, arguments.rounds, arguments.transfer()));
    let record =
        Record { machine, arguments: &arguments, figures, memory, hello, floods, relays, took: begun.elapsed() };
    print!("{}", table::text(&record));
    match record.write() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
