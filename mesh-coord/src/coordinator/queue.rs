//! Requests that wait for the writer.

use std::sync::{Mutex, MutexGuard, PoisonError};

use mesh_model::Command;
use tokio::sync::{Notify, oneshot};

use super::{
    Core, Done, Failure,
    fair::{Fair, Lane},
};

pub(super) type Visit = Box<dyn FnOnce(&mut Core) + Send>;

/// A command, and the channel for its answer.
pub(super) struct Submission {
    pub(super) command: Box<Command>,
    pub(super) answer: oneshot::Sender<Result<Done, Failure>>,
}

pub(super) enum Request {
    Submit(Submission),
    Visit(Visit),
}

/// Commands and visits take turns separately, because visits go on during a commit. The number of waiting requests is
/// bounded by each tenant's connections and their concurrent requests.
#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    submissions: Fair<Submission>,
    visits: Fair<Visit>,
    /// Whether the last request was a visit, so that a command is next.
    visited: bool,
    closed: bool,
}

impl Queue {
    /// Adds a request.
    ///
    /// # Errors
    /// If the writer has ended.
    pub(super) fn push(&self, lane: &Lane, request: Request) -> Result<(), Failure> {
        {
            let mut waiting = self.lock();
            if waiting.closed {
                return Err(Failure::Ending);
            }
            match request {
                Request::Submit(submission) => waiting.submissions.push(lane, submission),
                Request::Visit(visit) => waiting.visits.push(lane, visit),
            }
        }
        self.news.notify_one();
        Ok(())
    }

    /// The next request of either kind. Only one task may wait here.
    pub(super) async fn next(&self) -> Request {
        self.wait(|waiting| {
            let (visit, submit) = (
                |w: &mut Waiting| w.visits.pop().map(Request::Visit),
                |w: &mut Waiting| w.submissions.pop().map(Request::Submit),
            );
            waiting.visited = !waiting.visited;
            if waiting.visited {
                visit(waiting).or_else(|| submit(waiting))
            } else {
                submit(waiting).or_else(|| visit(waiting))
            }
        })
        .await
    }

    /// The next visit.
    pub(super) async fn next_visit(&self) -> Visit {
        self.wait(|waiting| waiting.visits.pop()).await
    }

    /// The next command, if one waits.
    pub(super) fn submission(&self) -> Option<Submission> {
        self.lock().submissions.pop()
    }

    /// Drops all waiting requests and refuses new ones.
    pub(super) fn close(&self) {
        let mut waiting = self.lock();
        *waiting = Waiting { closed: true, ..Waiting::default() };
    }

    async fn wait<T>(&self, pop: impl Fn(&mut Waiting) -> Option<T>) -> T {
        loop {
            if let Some(found) = pop(&mut self.lock()) {
                return found;
            }
            self.news.notified().await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}
