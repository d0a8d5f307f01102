//! Connections with a blocked reader or writer, which must not hang when they end.

use std::{
    collections::BTreeMap,
    io::{self, Read},
    net::TcpStream,
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Condition, Crowd, speech, wait};

/// Threads that each have a connection and end with it.
#[derive(Default)]
pub struct Held(Vec<JoinHandle<Condition>>);

impl Crowd {
    /// A thread for each connection that blocks in `read` without a time limit, as idle programs do.
    ///
    /// # Panics
    /// If a socket option can't be set.
    #[must_use]
    pub fn block(self) -> Held {
        self.hold(|mut stream| {
            stream.set_read_timeout(None).expect("SO_RCVTIMEO");
            match stream.read(&mut [0]) {
                Ok(0) => Condition::Ended,
                Ok(_) => Condition::Open,
                Err(error) => Condition::of(&error),
            }
        })
    }

    /// A thread for each connection that keeps sending small segments without getting an answer, so that the other
    /// end's kernel nearly always has a delayed acknowledgment (tcp(7), `TCP_QUICKACK`).
    #[must_use]
    pub fn chatter(self) -> Held {
        self.hold(|mut stream| {
            let failed: io::Error = loop {
                match speech::hush(&mut stream) {
                    Ok(()) => thread::sleep(Duration::from_millis(3)),
                    Err(error) => break error,
                }
            };
            Condition::of(&failed)
        })
    }

    fn hold(self, task: impl Fn(TcpStream) -> Condition + Clone + Send + 'static) -> Held {
        let begin = |stream| {
            let task = task.clone();
            thread::spawn(move || task(stream))
        };
        Held(self.into_streams().into_iter().map(begin).collect())
    }
}

impl Held {
    /// Whether none of them has ended.
    #[must_use]
    pub fn all_stand(&self) -> bool {
        self.0.iter().all(|thread| !thread.is_finished())
    }

    /// Waits until all have ended, and returns how.
    ///
    /// # Panics
    /// If one of them hangs.
    #[must_use]
    #[track_caller]
    pub fn wait_end(self) -> BTreeMap<Condition, usize> {
        wait::until_true("all ends to notice the end of a connection", || self.0.iter().all(JoinHandle::is_finished));
        let mut ends = BTreeMap::new();
        for thread in self.0 {
            *ends.entry(thread.join().expect("a thread that reads or writes")).or_default() += 1;
        }
        ends
    }
}
