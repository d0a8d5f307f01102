//! Commands that are committed together.

use super::*;

/// Commands that wait while a commit is under way, and the first one.
async fn burst(commands: Vec<Command>) -> (Coordinator, Troubled, Vec<JoinHandle<Result<Done, Failure>>>) {
    let store = Troubled::new();
    let answers = store.store.answers();
    let (coordinator, _) = Coordinator::start(store.clone(), Choice::default()).await.unwrap();
    answers.send_replace(false);
    let mut waiting = Vec::new();
    for command in std::iter::once(apply("first")).chain(commands) {
        let coordinator = coordinator.clone();
        waiting.push(tokio::spawn(async move { coordinator.submit(command).await }));
        tokio::task::yield_now().await;
    }
    (coordinator, store, waiting)
}

fn delete(name: &str) -> Command {
    Command::Admin {
        by: Admin::socket(0),
        what: AdminCommand::Delete { deployment: name.parse().unwrap(), force: false },
    }
}

#[tokio::test]
async fn commands_that_wait_are_committed_together_each_on_what_the_one_before_leaves() {
    let commands = vec![apply("a"), apply("b"), delete("a"), delete("none"), apply("a"), apply("b")];
    let (coordinator, store, waiting) = burst(commands).await;
    assert!(names(&coordinator).await.is_empty(), "nothing is shown before it is committed");
    store.store.answers().send_replace(true);
    let mut results = Vec::new();
    for waiting in waiting {
        results.push(waiting.await.unwrap());
    }
    assert!(matches!(results.remove(4), Err(Failure::Refused(_))), "it never existed");
    let revisions: Vec<u64> = results.into_iter().map(|done| done.unwrap().revision.0).collect();
    let begun = revisions[0];
    assert_eq!(revisions, [begun, begun + 1, begun + 1, begun + 1, begun + 1, begun + 1], "two commits");
    let rows = coordinator.visit(|core| core.state.deployments(&Admin::socket(0))).await.unwrap();
    assert_eq!(rows.iter().map(|row| &*row.deployment).collect::<Vec<_>>(), ["a", "b", "first"]);
    let Loaded { head, records } = store.load().await.unwrap();
    assert_eq!(head.revision.0, begun + 1);
    let (shown, stored) =
        (coordinator.visit(|core| core.state.clone()).await.unwrap(), State::load(head.revision, records));
    assert_eq!(shown, stored.unwrap());
}

#[tokio::test]
async fn what_does_not_fit_together_is_committed_one_by_one() {
    let (coordinator, store, waiting) = burst(vec![apply("a"), apply("b")]).await;
    *store.next.lock().unwrap() = Some(Trouble::Full);
    store.store.answers().send_replace(true);
    let mut revisions = Vec::new();
    for waiting in waiting {
        revisions.push(waiting.await.unwrap().unwrap().revision.0);
    }
    assert_eq!(revisions[1..], [revisions[0] + 1, revisions[0] + 2]);
    assert_eq!(names(&coordinator).await.len(), 3);
}

#[tokio::test]
async fn a_group_is_decided_on_anew_when_another_coordinator_was_first() {
    let (coordinator, store, waiting) = burst(vec![apply("a"), apply("b")]).await;
    *store.next.lock().unwrap() = Some(Trouble::OtherWriter(vec![]));
    store.store.answers().send_replace(true);
    let mut revisions = Vec::new();
    for waiting in waiting {
        revisions.push(waiting.await.unwrap().unwrap().revision.0);
    }
    assert_eq!(revisions[1..], [revisions[0] + 2; 2]);
    let rows = coordinator.visit(|core| core.state.deployments(&Admin::socket(0))).await.unwrap();
    let ids: std::collections::BTreeSet<_> = rows.iter().map(|row| row.id).collect();
    assert_eq!((rows.len(), ids.len()), (3, 3), "each number is given once");
}
