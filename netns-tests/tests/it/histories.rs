//! The check of histories: it finds what must not be, and lets pass what may be.

use std::collections::BTreeSet;

use mesh_netns_tests::{
    Chance,
    several::linear::{Act, Entry, Verdict, check},
};

const LIMIT: usize = 20_000;

fn done(act: Act, from: u64, to: u64) -> Entry {
    Entry { act, from, to: Some(to) }
}

fn unknown(act: Act, from: u64) -> Entry {
    Entry { act, from, to: None }
}

fn saw<const N: usize>(values: [u32; N], from: u64, to: u64) -> Entry {
    done(Act::Saw(values.into()), from, to)
}

#[test]
fn a_lost_update_is_found() {
    let mut history =
        vec![done(Act::Put(1), 0, 10), done(Act::Add(2), 20, 30), done(Act::Add(3), 20, 30), saw([1, 2, 3], 40, 50)];
    assert_eq!(check(&history, LIMIT), Verdict::Fits);
    // One of two additions at the same time has overwritten the other.
    history[3] = saw([1, 3], 40, 50);
    assert_eq!(check(&history, LIMIT), Verdict::Contradicts);
    // One whose outcome is not known may be missing, at first or for ever, but not go away again.
    history[1] = unknown(Act::Add(2), 20);
    assert_eq!(check(&history, LIMIT), Verdict::Fits);
    history.push(saw([1, 2, 3], 1000, 1010));
    assert_eq!(check(&history, LIMIT), Verdict::Fits);
    history.push(saw([1, 3], 2000, 2010));
    assert_eq!(check(&history, LIMIT), Verdict::Contradicts);
}

#[test]
fn a_stale_look_is_found() {
    let writes = [done(Act::Put(1), 0, 10), done(Act::Put(2), 20, 40)];
    let fits = |looks: &[Entry]| check(&[&writes[..], looks].concat(), LIMIT) == Verdict::Fits;
    // While it is written, either may be seen, but not the old one after the new one.
    assert!(fits(&[saw([1], 25, 30)]) && fits(&[saw([2], 25, 30)]));
    assert!(fits(&[saw([1], 21, 26), saw([2], 25, 30)]));
    assert!(!fits(&[saw([2], 21, 25), saw([1], 26, 30)]));
    assert!(!fits(&[saw([1], 41, 45)]));
    assert!(!fits(&[saw([], 11, 15)]));
    assert!(!fits(&[saw([1, 2], 25, 30)]));
    let revoked = [done(Act::Add(1), 0, 10), done(Act::Clear, 20, 30)];
    assert_eq!(check(&[&revoked[..], &[saw([1], 31, 40)]].concat(), LIMIT), Verdict::Contradicts);
    let maybe = [done(Act::Add(1), 0, 10), unknown(Act::Clear, 20)];
    assert_eq!(check(&[&maybe[..], &[saw([1], 31, 40), saw([], 41, 50)]].concat(), LIMIT), Verdict::Fits);
    assert_eq!(
        check(&[&maybe[..], &[saw([], 31, 40), saw([1], 41, 50)]].concat(), LIMIT),
        Verdict::Contradicts,
        "what has taken effect stays"
    );
}

/// A history of an object that is in order, by clients that overlap, and whose answers are lost now and then.
fn history(chance: &mut Chance, acts: u32) -> Vec<Entry> {
    let (mut holds, mut made) = (BTreeSet::new(), vec![]);
    for number in 0..acts {
        // The instant at which it takes effect, with its client's wait before and after.
        let at = u64::from(number) * 10 + 1000;
        let (from, to) = (at - chance.below(25) as u64, at + chance.below(25) as u64);
        let lost = chance.below(10) == 0;
        let is_late = lost && chance.below(2) == 0;
        let act = match chance.below(5) {
            0 => Act::Put(number),
            1 => Act::Add(number),
            2 => Act::Clear,
            _ => Act::Saw(holds.clone()),
        };
        if !is_late {
            match &act {
                Act::Put(value) => holds = [*value].into(),
                Act::Add(value) => drop(holds.insert(*value)),
                Act::Clear => holds.clear(),
                Act::Saw(_) => {}
            }
        }
        made.push(Entry { act, from, to: (!lost).then_some(to) });
    }
    made
}

#[test]
fn every_history_in_order_passes_and_most_that_are_bent_do_not() {
    let (mut chance, mut found) = (Chance::new(7), 0);
    for _ in 0..200 {
        let mut history = history(&mut chance, 80);
        assert_eq!(check(&history, LIMIT), Verdict::Fits, "{history:#?}");
        // A look that comes far too late.
        let is_seen =
            |entry: &Entry| matches!(&entry.act, Act::Saw(values) if !values.is_empty() && entry.to.is_some());
        let stale = history.iter().position(is_seen);
        let Some(stale) = stale else { continue };
        let (act, after) = (history[stale].act.clone(), 5000);
        history.push(done(Act::Clear, after, after + 1));
        history.push(done(act, after + 2, after + 3));
        assert_eq!(check(&history, LIMIT), Verdict::Contradicts, "{history:#?}");
        found += 1;
    }
    assert!(found > 150, "{found}");
}

#[test]
fn the_search_has_an_end_whatever_the_history() {
    // Thirty that overlap: more orders than there is time for, none of which leads to what was seen.
    let mut hostile: Vec<Entry> = (0..30).map(|value| done(Act::Add(value), 0, 1000)).collect();
    hostile.push(saw([99], 2000, 2001));
    assert_eq!(check(&hostile, LIMIT), Verdict::Undecided);
    let unknown: Vec<Entry> = (0..500).map(|_| unknown(Act::Clear, 0)).chain([saw([1], 1, 2)]).collect();
    assert_eq!(check(&unknown, LIMIT), Verdict::Contradicts);
    let long: Vec<Entry> = (0..3000)
        .flat_map(|n| {
            [
                done(Act::Put(n), u64::from(n) * 10, u64::from(n) * 10 + 5),
                saw([n], u64::from(n) * 10 + 6, u64::from(n) * 10 + 9),
            ]
        })
        .collect();
    assert_eq!(check(&long, LIMIT), Verdict::Fits);
}
