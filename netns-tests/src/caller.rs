//! A caller that tries again and again, and that knows what may not succeed any more.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Instance, wait};

/// How long a try may take: an agent that is away answers nothing.
const ANSWER: Duration = Duration::from_millis(500);

/// Between two tries: twenty a second.
const PAUSE: Duration = Duration::from_millis(50);

/// Tries to connect from an instance, twenty times a second, until it is dropped.
pub struct Caller {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    forbidden: AtomicBool,
    tries: AtomicUsize,
    passed: AtomicUsize,
    broke: AtomicUsize,
}

impl Caller {
    /// From an instance to a service.
    #[must_use]
    pub fn start(from: &Instance, to: Ipv4Addr, port: u16) -> Self {
        let shared = Arc::new(Shared::default());
        let (of_thread, to) = (Arc::clone(&shared), SocketAddr::from((to, port)));
        let thread = from.namespace.door().spawn(move || {
            while !of_thread.stop.load(Ordering::Acquire) {
                of_thread.call(to);
                thread::sleep(PAUSE);
            }
        });
        Self { shared, thread: Some(thread) }
    }

    /// From now on no try that begins may leave the caller's own runner.
    pub fn forbid(&self) {
        self.shared.forbidden.store(true, Ordering::Release);
    }

    /// From now on it may.
    pub fn allow(&self) {
        self.shared.forbidden.store(false, Ordering::Release);
    }

    /// How many tries there were.
    #[must_use]
    pub fn tries(&self) -> usize {
        self.shared.tries.load(Ordering::Acquire)
    }

    /// How many came through.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.shared.passed.load(Ordering::Acquire)
    }

    /// How many left the caller's runner though they were forbidden: they came through, or another runner refused them.
    #[must_use]
    pub fn broke(&self) -> usize {
        self.shared.broke.load(Ordering::Acquire)
    }

    /// Waits for so many more tries.
    pub fn wait_more(&self, tries: usize) {
        let enough = self.tries() + tries;
        wait::until_true("more tries", || self.tries() >= enough);
    }
}

impl Shared {
    fn call(&self, to: SocketAddr) {
        let is_forbidden = self.forbidden.load(Ordering::Acquire);
        let result = TcpStream::connect_timeout(&to, ANSWER);
        let has_left = match &result {
            Ok(_) => true,
            // The caller's own runner refuses with EHOSTUNREACH; a reset is from the other one.
            Err(error) => matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset),
        };
        self.passed.fetch_add(usize::from(result.is_ok()), Ordering::AcqRel);
        self.broke.fetch_add(usize::from(is_forbidden && has_left), Ordering::AcqRel);
        self.tries.fetch_add(1, Ordering::AcqRel);
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
