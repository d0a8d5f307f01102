//! Load: endless short connections, and long transfers whose bytes are all checked.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{Namespace, Pace, speech, traffic, wait};

/// How long it may take until so much has come and gone as is waited for, on a machine that does much else besides.
const LIMIT: Duration = Duration::from_secs(120);

/// New connections, one after another in several threads, until it is stopped: each connects, asks for the server's
/// name, gets something echoed, and ends. The server ends every other one first.
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    done: AtomicUsize,
    tally: Mutex<Tally>,
}

/// What has come of a [`Load`].
#[derive(Debug, Default, Clone)]
pub struct Tally {
    /// Connections that went well to their end, by the server's name.
    pub served: BTreeMap<String, usize>,
    /// Those that didn't.
    pub failures: Vec<Failure>,
}

/// A connection of a [`Load`] that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In `connect`, or later.
    pub connecting: bool,
    /// The server that it had reached, if it got so far.
    pub at: Option<String>,
    /// The errno; 0 if the other end closed it early or said something wrong.
    pub errno: i32,
    /// The caller's port, if the connection came about, to find it in a capture.
    pub port: Option<u16>,
    /// When it began, and when it failed.
    pub times: [Instant; 2],
}

impl Load {
    /// From a namespace, in so many threads.
    #[must_use]
    pub fn start(namespace: &Namespace, to: Ipv4Addr, port: u16, threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let begin = |_| {
            let shared = Arc::clone(&shared);
            namespace.door().spawn(move || {
                let mut server_ends = false;
                while !shared.stop.load(Ordering::Acquire) {
                    server_ends = !server_ends;
                    shared.count(once(to, port, server_ends));
                }
            })
        };
        Self { threads: (0..threads).map(begin).collect(), shared }
    }

    /// How many went well so far.
    #[must_use]
    pub fn done(&self) -> usize {
        self.shared.done.load(Ordering::Acquire)
    }

    /// What has come of it so far.
    ///
    /// # Panics
    /// If one of its threads has panicked.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.shared.tally.lock().expect("no one panics holding it").clone()
    }

    /// How many went well at one server so far.
    #[must_use]
    pub fn served_by(&self, name: &str) -> usize {
        self.tally().served.get(name).copied().unwrap_or(0)
    }

    /// Waits until so many more have gone well.
    #[track_caller]
    pub fn wait_more(&self, count: usize) {
        let enough = self.done() + count;
        wait::true_within(LIMIT, "more connections to come and go", || self.done() >= enough);
    }

    /// Ends it; what has come of it.
    ///
    /// # Panics
    /// If one of its threads has panicked.
    #[must_use]
    pub fn finish(mut self) -> Tally {
        self.stop();
        self.tally()
    }

    fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.threads.drain(..).for_each(|thread| thread.join().expect("a thread of the load"));
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.stop();
        }
        self.shared.stop.store(true, Ordering::Release);
    }
}

impl Shared {
    fn count(&self, outcome: Result<String, Failure>) {
        let mut tally = self.tally.lock().expect("no one panics holding it");
        match outcome {
            Ok(name) => {
                *tally.served.entry(name).or_default() += 1;
                self.done.fetch_add(1, Ordering::AcqRel);
            }
            Err(failure) => tally.failures.push(failure),
        }
    }
}

fn once(to: Ipv4Addr, port: u16, server_ends: bool) -> Result<String, Failure> {
    let errno = |error: &io::Error| error.raw_os_error().unwrap_or(0);
    let begun = Instant::now();
    let mut stream = traffic::connect(to, port).map_err(|error| Failure {
        connecting: true,
        at: None,
        errno: errno(&error),
        port: None,
        times: [begun, Instant::now()],
    })?;
    let port = stream.local_addr().ok().map(|local| local.port());
    let mut at = None;
    talk(&mut stream, server_ends, &mut at).map_err(|error| Failure {
        connecting: false,
        at: at.clone(),
        errno: errno(&error),
        port,
        times: [begun, Instant::now()],
    })?;
    Ok(at.unwrap_or_default())
}

fn talk(stream: &mut TcpStream, server_ends: bool, at: &mut Option<String>) -> io::Result<()> {
    const TEXT: &[u8] = &[b'x'; 1000];
    *at = Some(speech::ask_who(stream)?);
    speech::say(stream, TEXT)?;
    speech::hear(stream, TEXT)?;
    if server_ends { speech::bye(stream) } else { speech::leave(stream) }
}

/// A connection that is busy in both directions at once. Both ends check every byte.
pub struct Transfer {
    shared: Arc<Moving>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

#[derive(Default)]
struct Moving {
    stop: AtomicBool,
    moved: AtomicU64,
}

impl Transfer {
    /// Over a connection to a [`crate::NamedServer`].
    #[must_use]
    pub fn start(mut stream: TcpStream, pace: Pace) -> Self {
        let shared = Arc::new(Moving::default());
        let moving = Arc::clone(&shared);
        let thread = thread::spawn(move || speech::transfer(&mut stream, pace, &moving.stop, &moving.moved));
        Self { shared, thread: Some(thread) }
    }

    /// How many bytes have come back so far.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.shared.moved.load(Ordering::Acquire)
    }

    /// Waits until so many more have.
    #[track_caller]
    pub fn wait_more(&self, bytes: u64) {
        let enough = self.moved() + bytes;
        wait::true_within(LIMIT, "a transfer to go on", || self.moved() >= enough);
    }

    /// Whether it has come to an end by itself: something has gone wrong.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends it in good order: the rest arrives, is checked, and both ends close.
    ///
    /// # Errors
    /// The error of the connection, or `InvalidData` if a byte is wrong.
    ///
    /// # Panics
    /// If its thread has.
    pub fn finish(mut self) -> io::Result<u64> {
        self.shared.stop.store(true, Ordering::Release);
        self.wait_end()?;
        Ok(self.moved())
    }

    /// Waits for its end without asking for it.
    ///
    /// # Errors
    /// What has become of the connection.
    ///
    /// # Panics
    /// If its thread has.
    pub fn wait_end(&mut self) -> io::Result<()> {
        let thread = self.thread.take().expect("it is waited for once");
        wait::true_within(LIMIT, "a transfer to end", || thread.is_finished());
        thread.join().expect("a transfer doesn't panic")
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}
