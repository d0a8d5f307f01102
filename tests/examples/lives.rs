//! `cargo run --example lives SEED [LAST]`: lives the life of a seed again and prints its trace, or looks through the seeds up to LAST
//! for those that fail. `SEED 30 AFTER`: thirty operations, and a kill after so many effects.

use mesh_tests::lives::{run, run_and_kill};

fn main() {
    let mut seeds = std::env::args().skip(1).map(|text| text.parse().expect("a seed is a number"));
    let first = seeds.next().expect("which seed?");
    let last = seeds.next();
    if let (Some(30), Some(after)) = (last, seeds.next()) {
        if let Err(failure) = run_and_kill(first, 30, after) {
            println!("{}\n{}", failure.trace.join("\n"), failure.what);
        }
        return;
    }
    for seed in first..=last.unwrap_or(first) {
        match run(seed, OPERATIONS, None) {
            Ok(count) if last.is_none() => println!("all is well: {count:?}"),
            Ok(_) => {}
            Err(failure) if last.is_none() => println!("{}\n{}", failure.trace.join("\n"), failure.what),
            Err(failure) => println!("seed {seed}: {}", failure.what),
        }
    }
}

/// As in `lives.rs` of the tests.
const OPERATIONS: u32 = 400;
