//! A file is found again by what was remembered of it, and no other file is taken for it.

use std::fs;

use mesh_lifecycle::FileKind;

use super::*;
use crate::{
    hosts::{Place, Reach as _},
    state::tests::Scratch,
};

fn written(scratch: &Scratch) -> (PathBuf, Written) {
    let path = scratch.0.join("hosts");
    fs::write(&path, "127.0.0.1 localhost\n").unwrap();
    let file = HostsFile::open(&Place::Path(path.clone()).reach().unwrap(), FileKind::Hosts).unwrap();
    (path, Written::of(&file, &"shop/db".parse().unwrap()))
}

fn ledger(scratch: &Scratch) -> Ledger {
    Ledger::load(StateDir::locate(Some(scratch.0.clone())).unwrap())
}

#[test]
fn a_file_is_found_wherever_it_is_by_now() {
    let scratch = Scratch::new("ledger-found");
    let (path, written) = written(&scratch);
    assert!(matches!(written.find(), Found::There(_)));
    fs::rename(&path, scratch.0.join("away")).unwrap();
    fs::write(&path, "::1 localhost\n").unwrap();
    let Found::There(found) = written.find() else { panic!("not found") };
    assert_eq!(fs::read_to_string(reference(&found)).unwrap(), "127.0.0.1 localhost\n");
    fs::remove_file(scratch.0.join("away")).unwrap();
    drop(found);
    let found = written.find();
    assert!(matches!(found, Found::Gone("it is deleted")), "{found:?}");
}

#[test]
fn a_later_file_with_the_same_number_is_not_the_one() {
    let scratch = Scratch::new("ledger-number");
    let (path, written) = written(&scratch);
    let again = Written { handle: Handle::of(File::open(&scratch.0).unwrap()).ok(), ..written };
    assert!(again.handle.is_some() && !again.is(&Place::Path(path).reach().unwrap()));
}

#[test]
fn without_handles_a_file_is_found_by_its_name_only() {
    let scratch = Scratch::new("ledger-names");
    let (path, written) = written(&scratch);
    let nameless = Written { handle: None, ..written };
    assert!(matches!(nameless.find(), Found::There(_)));
    fs::rename(&path, scratch.0.join("away")).unwrap();
    assert!(matches!(nameless.find(), Found::Hidden(why) if why.contains("only by their names")));
}

#[test]
fn what_holds_names_is_remembered_until_it_holds_none() {
    let scratch = Scratch::new("ledger-kept");
    let (_, written) = written(&scratch);
    let first = ledger(&scratch);
    first.note(written.clone());
    first.save();
    assert_eq!(first.left(), [], "it is this agent's own");
    let next = ledger(&scratch);
    assert_eq!(next.left(), std::slice::from_ref(&written));
    next.stays(&written, "it is away");
    assert!(next.warnings()[0].contains("it is away"));
    next.forget_gone(&written, "a test");
    assert_eq!((next.warnings(), next.left()), (vec![], vec![]));
    assert_eq!(ledger(&scratch).left(), []);
}

#[test]
fn what_an_earlier_start_of_the_machine_left_is_not_looked_for() {
    let scratch = Scratch::new("ledger-boot");
    let (_, written) = written(&scratch);
    let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
    state.write(FILE, &OnDisk { version: 1, boot: "another".into(), files: vec![written] }).unwrap();
    assert_eq!(ledger(&scratch).left(), []);
}
