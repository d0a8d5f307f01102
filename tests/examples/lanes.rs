//! `cargo run --release --example lanes SEED [LAST]`: lives the life of a seed again and prints its trace, or looks through the
//! seeds up to LAST for those that fail.

use mesh_tests::lanes::{Tally, run};

fn main() {
    let mut seeds = std::env::args().skip(1).map(|text| text.parse().expect("a seed is a number"));
    let first: u64 = seeds.next().expect("which seed?");
    let last = seeds.next();
    let mut tally = Tally::default();
    for seed in first..=last.unwrap_or(first) {
        match run(seed, None) {
            Ok(one) => tally = tally.and(one),
            Err(failure) if last.is_none() => println!("{}\n{}", failure.trace.join("\n"), failure.what),
            Err(failure) => println!("seed {seed}: {}", failure.what),
        }
    }
    println!("{tally:?}");
}
