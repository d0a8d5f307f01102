//! Files have one holder, and one thread works on each.

use std::{fs, io, path::PathBuf};

use mesh_lifecycle::{FileKind, HostLines};
use tokio::time::timeout;

use super::*;
use crate::{
    attach::lab::PATIENCE,
    hosts::{Place, Reach as _, Stall},
    state::tests::Scratch,
};

fn holders() -> [ServicePath; 2] {
    ["shop/db", "billing/api"].map(|service| service.parse().unwrap())
}

fn open(scratch: &Scratch) -> (PathBuf, HostsFile) {
    let path = scratch.0.join("hosts");
    if !path.exists() {
        fs::write(&path, "").unwrap();
    }
    let file = HostsFile::open(&Place::Path(path.clone()).reach().unwrap(), FileKind::Hosts).unwrap();
    (path, file)
}

fn names(name: &str) -> HostLines {
    [([100, 112, 0, 2].into(), name.to_owned())].into()
}

#[tokio::test]
async fn a_file_has_one_holder_until_it_is_released() {
    let (scratch, files) = (Scratch::new("holders"), Files::new(None));
    let [db, api] = holders();
    let first = files.keep(open(&scratch).1, &db).unwrap();
    let again = files.keep(open(&scratch).1, &db).unwrap();
    assert!(first.is(&again));
    drop(first);
    let taken = files.keep(open(&scratch).1, &api).unwrap_err();
    assert!(taken.by == db && taken.there.is_some_and(|there| there.is(&again)));
    let mut released = files.released();
    drop(again);
    released.changed().await.unwrap();
    files.keep(taken.file, &api).unwrap();
}

#[tokio::test]
async fn while_a_file_system_does_not_answer_one_thread_waits_and_the_latest_names_win() {
    let (scratch, files) = (Scratch::new("stalled"), Files::new(None));
    let ((path, file), stall) = (open(&scratch), Stall::default());
    let stalled = stall.begin().await;
    let kept = files.keep(stall.holds(file), &holders()[0]).unwrap();
    for name in ["a.warp", "b.warp", "c.warp"] {
        drop(kept.put(names(name)));
    }
    let last = kept.put(names("d.warp"));
    assert_eq!(Arc::strong_count(&kept.0), 2, "the thread's and ours");
    assert_eq!(last.await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    drop(kept);
    assert!(files.keep(open(&scratch).1, &holders()[1]).is_err(), "a thread still works on it");
    let mut released = files.released();
    drop(stalled);
    timeout(PATIENCE, released.changed()).await.unwrap().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, "# mesh-node begin\n100.112.0.2 d.warp\n# mesh-node end\n");
}

#[tokio::test]
async fn a_lasting_problem_is_logged_once() {
    let (scratch, files) = (Scratch::new("troubles"), Files::new(None));
    let (path, file) = open(&scratch);
    let kept = files.keep(file, &holders()[0]).unwrap();
    kept.put(names("db.warp")).await.unwrap();
    let mut logged = vec![];
    for length in [2 << 20, 3 << 20, 0, 2 << 20] {
        fs::File::options().write(true).open(&path).unwrap().set_len(length).unwrap();
        logged.push(kept.news(kept.look().await).is_some());
    }
    assert_eq!(logged, [true, false, false, true]);
}
