//! Pings of runners that are to be answered.

use std::time::Duration;

use mesh_engine::Hop;
use tokio::sync::oneshot;

/// How many answers are awaited at a time. The oldest question gives way.
const MOST: usize = 64;

/// The answer of a runner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pong {
    /// The path by which the ping went.
    pub(crate) path: Hop,
    /// The round trip.
    pub(crate) rtt: Duration,
    /// The longest packet in bytes that the path carries, if that is known.
    pub(crate) mtu: Option<u16>,
}

/// The questions, by the tickets that the engine returns with the answers.
#[derive(Debug, Default)]
pub(super) struct Pings {
    latest: u64,
    waiting: Vec<(u64, oneshot::Sender<Pong>)>,
}

impl Pings {
    /// Notes a question, and returns its ticket.
    pub(super) fn ask(&mut self, to: oneshot::Sender<Pong>) -> u64 {
        self.waiting.retain(|(_, to)| !to.is_closed());
        if self.waiting.len() >= MOST {
            self.waiting.remove(0);
        }
        self.latest += 1;
        self.waiting.push((self.latest, to));
        self.latest
    }

    /// Passes an answer on.
    pub(super) fn answer(&mut self, ticket: u64, pong: Pong) {
        if let Some(at) = self.waiting.iter().position(|(waiting, _)| *waiting == ticket) {
            // The caller may have stopped waiting.
            let _ = self.waiting.swap_remove(at).1.send(pong);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_the_question_of_its_ticket_and_questions_are_bounded() {
        let mut pings = Pings::default();
        let pong = Pong { path: Hop::Direct(([192, 0, 2, 1], 1).into()), rtt: Duration::ZERO, mtu: Some(1312) };
        let mut asked: Vec<_> = (0..MOST + 1)
            .map(|_| {
                let (to, answer) = oneshot::channel();
                (pings.ask(to), answer)
            })
            .collect();
        assert_eq!(pings.waiting.len(), MOST);
        let (ticket, mut answer) = asked.pop().unwrap();
        pings.answer(ticket + 1, pong);
        assert!(answer.try_recv().is_err());
        pings.answer(ticket, pong);
        assert_eq!(answer.try_recv(), Ok(pong));
        let (oldest, mut answer) = asked.remove(0);
        pings.answer(oldest, pong);
        assert_eq!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        drop(asked);
        pings.ask(oneshot::channel().0);
        assert_eq!(pings.waiting.len(), 1, "those that wait no more are forgotten");
    }
}
