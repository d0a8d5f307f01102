//! `cargo run --example replay SEED [LAST]`: runs a seed again and prints its trace, or searches the seeds up to LAST
//! for one that fails.

use mesh_tests::run;

fn main() {
    let mut seeds = std::env::args().skip(1).map(|text| text.parse().expect("a seed is a number"));
    let first = seeds.next().expect("which seed?");
    let Some(last) = seeds.next() else {
        let (trace, end) = match run(first, OPERATIONS, None) {
            Ok(trace) => (trace, "all is well".to_owned()),
            Err(failure) => (failure.trace, failure.what),
        };
        return println!("{}\n{end}", trace.join("\n"));
    };
    for seed in first..=last {
        if let Err(failure) = run(seed, OPERATIONS, None) {
            println!("seed {seed}: {}", failure.what);
        }
    }
}

/// As in `seeds.rs`.
const OPERATIONS: u32 = 250;
