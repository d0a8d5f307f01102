//! Runs lives of two runners with anything between them: `cargo run --release --example reach SCENE FROM TO [A B]`, where A
//! and B are kinds of connection. Without them all pairs take turns. Prints each failure.

use std::env;

use mesh_tests::reach::{Between, Kind, Scene, run};

const SCENES: [Scene; 10] = [
    Scene::Nothing,
    Scene::Long,
    Scene::DirectDies,
    Scene::Lossy,
    Scene::RelayDies,
    Scene::RelayReturns,
    Scene::Flushed,
    Scene::Life,
    Scene::NoneShared,
    Scene::Old,
];

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [scene, from, to, kinds @ ..] = &arguments[..] else { panic!("SCENE FROM TO [A B]") };
    let scene = SCENES.into_iter().find(|known| format!("{known:?}") == *scene).expect("a scene");
    let named = |name: &String| Kind::ALL.into_iter().find(|kind| format!("{kind:?}") == *name).expect("a kind");
    let kinds: Vec<Kind> = kinds.iter().map(named).collect();
    let needs_direct = matches!(scene, Scene::DirectDies | Scene::Lossy);
    let pairs = Kind::ALL.into_iter().flat_map(|one| Kind::ALL.map(|other| [one, other]));
    let pairs: Vec<[Kind; 2]> = match kinds[..] {
        [one, other] => vec![[one, other]],
        _ => pairs.filter(|[one, other]| !needs_direct || one.is_direct(*other)).collect(),
    };
    let seeds = from.parse::<u64>().expect("a number")..to.parse().expect("a number");
    let mut failed = 0;
    for seed in seeds.clone() {
        let between = Between::Apart(pairs[seed as usize % pairs.len()]);
        if let Err(failure) = run(between, scene, seed, None) {
            failed += 1;
            println!("{between:?}, {scene:?}, seed {seed}: {failure:?}\n");
            let all = env::var_os("ALL").is_some();
            let words = if all { &[][..] } else { &["sends", "initiation"] };
            let other = failure.trace.iter().filter(|line| !words.iter().any(|word| line.contains(word)));
            other.for_each(|line| println!("    {}", line.get(..150).unwrap_or(line)));
        }
    }
    println!("{failed} of {} failed", seeds.count());
}
