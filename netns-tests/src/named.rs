//! A server that names its instance, and knows how each of its connections has ended.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, SocketAddrV4, TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{
        Arc, Condvar, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
};

use nix::sys::socket::{setsockopt, sockopt};

use crate::{Condition, Namespace, netns::Door, speech};

/// A server in an instance's namespace for [`crate::Crowd`], [`crate::Load`] and [`crate::Transfer`]. It blocks in `read`
/// on each connection, as programs do, in a thread each. Ends when dropped, and with it its connections.
pub struct NamedServer {
    door: Door,
    port: u16,
    shared: Arc<Shared>,
    listening: Option<Listening>,
}

struct Listening {
    listener: TcpListener,
    thread: JoinHandle<()>,
}

struct Shared {
    name: String,
    accepted: AtomicUsize,
    open: Mutex<BTreeMap<usize, (SocketAddrV4, TcpStream)>>,
    ended: Mutex<Vec<Ended>>,
    paused: Mutex<bool>,
    resumed: Condvar,
}

/// How a connection of a [`NamedServer`] has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The caller's end.
    pub caller: SocketAddrV4,
    /// [`Condition::Ended`] if the caller has closed it.
    pub how: Condition,
}

impl NamedServer {
    /// On all addresses of `namespace`. [`crate::Crowd::spread`] counts by its name.
    ///
    /// # Panics
    /// If the port is taken.
    #[must_use]
    pub fn start(namespace: &Namespace, name: &str, port: u16) -> Self {
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            accepted: AtomicUsize::new(0),
            open: Mutex::default(),
            ended: Mutex::default(),
            paused: Mutex::new(false),
            resumed: Condvar::new(),
        });
        let mut server = Self { door: namespace.door(), port, shared, listening: None };
        server.listen();
        server
    }

    /// Listens (again).
    ///
    /// # Panics
    /// If it does already, or the port is taken.
    pub fn listen(&mut self) {
        assert!(self.listening.is_none(), "it listens already");
        let port = self.port;
        let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("cannot listen");
        let listener = self.door.enter(bind);
        let accepting = listener.try_clone().expect("cannot duplicate a descriptor");
        let shared = Arc::clone(&self.shared);
        let thread = thread::spawn(move || accept_all(&accepting, &shared));
        self.listening = Some(Listening { listener, thread });
    }

    /// Stops listening, so that new connections are refused. Its connections stay.
    pub fn stop_listening(&mut self) {
        let Some(Listening { listener, thread }) = self.listening.take() else { return };
        // Wakes a thread in accept (tcp(7)); std offers it only for streams.
        let _ = nix::sys::socket::shutdown(listener.as_raw_fd(), nix::sys::socket::Shutdown::Both);
        let _ = thread.join();
    }

    /// Answers no connection until [`NamedServer::resume`]. The kernel still accepts connections, up to its backlog.
    pub fn pause(&self) {
        *lock(&self.shared.paused) = true;
    }

    /// Ends [`NamedServer::pause`].
    pub fn resume(&self) {
        *lock(&self.shared.paused) = false;
        self.shared.resumed.notify_all();
    }

    /// Resets all its connections, as when a program ends before it has read everything.
    pub fn break_off(&self) {
        for (_, stream) in lock(&self.shared.open).values() {
            let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
            // A failed connection needs no reset.
            let _ = setsockopt(stream, sockopt::Linger, &at_once);
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether its namespace has no TCP state any more (proc(5), `/proc/net/tcp`).
    ///
    /// # Panics
    /// If the kernel doesn't report it.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        const TIME_WAIT: &str = "06";
        const LISTEN: &str = "0A";
        let sockets = self.door.enter(|| {
            let read = |name| std::fs::read_to_string(format!("/proc/thread-self/net/{name}")).expect("proc(5)");
            read("tcp") + &read("tcp6")
        });
        let mut states = sockets.lines().filter_map(|line| line.split_whitespace().nth(3));
        states.all(|state| [TIME_WAIT, LISTEN, "st", "rem_address"].contains(&state))
    }

    /// How many connections it has accepted so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// How many of them stand, as far as their readers know.
    #[must_use]
    pub fn open(&self) -> usize {
        lock(&self.shared.open).len()
    }

    /// The other ends of those that stand.
    #[must_use]
    pub fn callers(&self) -> Vec<SocketAddrV4> {
        lock(&self.shared.open).values().map(|(caller, _)| *caller).collect()
    }

    /// How the others have ended.
    #[must_use]
    pub fn ended(&self) -> Vec<Ended> {
        lock(&self.shared.ended).clone()
    }

    /// How many connections were reset, as far as their readers know.
    #[must_use]
    pub fn resets(&self) -> usize {
        lock(&self.shared.ended).iter().filter(|ended| ended.how == Condition::Reset).count()
    }
}

impl Drop for NamedServer {
    fn drop(&mut self) {
        self.resume();
        self.stop_listening();
        // Shutting them down wakes their readers.
        for (_, stream) in lock(&self.shared.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn wait_resumed(&self) {
        let mut paused = lock(&self.paused);
        while *paused {
            paused = self.resumed.wait(paused).expect("no one panics holding it");
        }
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) {
    while let Ok((stream, SocketAddr::V4(caller))) = listener.accept() {
        let number = shared.accepted.fetch_add(1, Ordering::AcqRel);
        let Ok(known) = stream.try_clone() else { return };
        lock(&shared.open).insert(number, (caller, known));
        let of_thread = Arc::clone(shared);
        let serve = move || serve(stream, number, caller, &of_thread);
        thread::Builder::new().stack_size(128 << 10).spawn(serve).expect("cannot start a thread");
    }
}

fn serve(mut stream: TcpStream, number: usize, caller: SocketAddrV4, shared: &Shared) {
    shared.wait_resumed();
    let result = speech::answer(&mut stream, &shared.name, || shared.wait_resumed());
    let how = match &result {
        Ok(()) => Condition::Ended,
        Err(error) => Condition::of(error),
    };
    // Counted first, so that the outcome is known once the connection is gone.
    lock(&shared.ended).push(Ended { caller, how });
    lock(&shared.open).remove(&number);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no one panics holding it")
}

impl Condition {
    /// The meaning of a read or write error.
    #[must_use]
    pub fn of(error: &io::Error) -> Self {
        match (error.kind(), error.raw_os_error()) {
            (io::ErrorKind::UnexpectedEof, _) => Self::Ended,
            (_, Some(libc::ECONNRESET | libc::EPIPE | libc::ECONNABORTED)) => Self::Reset,
            (_, errno) => Self::Failed(errno.unwrap_or(0)),
        }
    }
}
